"""The process that has the drain port: it answers for all processes of its pod.

`step` is level-triggered: it looks at everything, tells the others what is new, and says when to look again. A drain is
answered after a barrier: each process first takes over that no call begins any more, under the lock that calls begin
under, and *then* counts.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from voicekeys import __version__
from voicekeys.agent import drain as state
from voicekeys.agent import peers
from voicekeys.agent.contract import Request, Route, Standing, calls_document, wait_of
from voicekeys.agent.core import logger
from voicekeys.agent.ledger import report_from_wire
from voicekeys.agent.pool import Pool, View
from voicekeys.agent.server import Answer, Server

if TYPE_CHECKING:
    import socket

    from voicekeys.agent.core import Core
    from voicekeys.agent.drain import Phase
    from voicekeys.agent.pool import Totals

REAP_SECONDS = 0.02
"""How often lost processes are looked at: between a stream's end and its process's a few milliseconds pass."""
VIEW_SECONDS = 0.05
"""How often the others hear what this one would take into its grave."""
AGREE_SECONDS = 5.0
"""How long a POST waits for all processes to have done as told."""
LARGEST_BACKLOG = 1 << 20
"""Bytes that a process may leave unread before its stream is cut."""


class Leader:
    """Serves the contract and leads the other processes.

    Args:
        core: this process.
        view: what the last leader told; empty for the first.
    """

    def __init__(self, core: Core, view: View) -> None:
        self._core = core
        self._pool = Pool(view, core.now() + core.settings.gather, peers.is_alive)
        self._gather_end = core.now() + core.settings.gather
        self._streams: dict[str, asyncio.StreamWriter] = {}
        self._listener: asyncio.Server | None = None
        self._server = Server(self._handle, core.settings.token, core.settings.limits)
        self._instance = uuid.uuid4().hex
        # In milliseconds of the wall clock, so that no two leaders of a pod use the same numbers.
        self._revision = int(time.time() * 1000)
        self._seen: object = None
        self._told: state.Drain | None = None
        self._view_told: View | None = None
        self._view_due = 0.0
        self._changed = asyncio.Event()
        self._reloads: dict[str, tuple[int, bool]] = {}
        self._reload_number = 0

    async def start(self, sock: socket.socket) -> None:
        """Serve on the bound socket. Raises OSError when the pool's meeting place stays taken."""
        port = sock.getsockname()[1]
        for attempt in range(100):
            try:
                meeting = peers.listen(port)
                break
            except OSError:
                if attempt == 99:  # noqa: PLR2004 - the last of these
                    raise
                await asyncio.sleep(0.01)
        self._listener = await asyncio.start_unix_server(self._welcome, sock=meeting, limit=peers.LONGEST_LINE)
        await self._server.start(sock)
        self.step()

    def close(self) -> None:
        """Stop to lead: tell the others that this process takes no calls into its grave."""
        self._pool.dismiss(self._core.name)
        self._tell({"view": self._pool.view().to_wire()})
        if self._listener is not None:
            self._listener.close()
        for writer in self._streams.values():
            writer.close()
        self._server.close()

    @property
    def is_alone(self) -> bool:
        """Whether the pool is this process."""
        return len(self._pool) <= 1 and self._pool.is_complete(self._core.now())

    @property
    def is_holding_back(self) -> bool:
        """Whether the pod drains, and is not done."""
        return self._core.ledger.pool.started is not None and not self._may_answer(self._core.now())

    # ---- looking

    def step(self) -> float | None:
        """Look at everything. Returns when to look again, at the latest."""
        now, core = self._core.now(), self._core
        if core.ledger.pool.is_due_to_close(now):
            core.ledger.decide(lambda drain: state.closed(drain, now))
        self._pool.report(core.name, os.getpid(), core.ledger.report())
        due = [now + REAP_SECONDS] if self._pool.reap() else []
        drain = core.ledger.pool
        if drain != self._told:
            self._told = drain
            self._tell({"drain": drain.to_wire()})
        self._notice(now)
        due += [at for at in (drain.settle_end if not drain.closed else None, self._gather_end) if at and at > now]
        return min(due + self._pass_on(now), default=None)

    def _notice(self, now: float) -> None:
        """Count up the revision and wake who waits, if there is anything new."""
        drain, totals, phase = self._standing(now)
        seen = (drain, totals, phase, self._key_version(), self._pool.agrees(drain.epoch), dict(self._reloads))
        if seen != self._seen:
            self._seen = seen
            self._revision += 1
            self._changed.set()
            self._changed = asyncio.Event()

    def _pass_on(self, now: float) -> list[float]:
        """Tell the others what the next leader must know, not too often. Returns when to come again."""
        if not self._streams or (view := self._pool.view()) == self._view_told:
            return []
        if now < self._view_due:
            return [self._view_due]
        self._view_told, self._view_due = view, now + VIEW_SECONDS
        self._tell({"view": view.to_wire()})
        return []

    def _standing(self, now: float) -> tuple[state.Drain, Totals, Phase]:
        drain, totals = self._core.ledger.pool, self._pool.totals(now)
        return drain, totals, drain.phase(now, idle=self._may_answer(now))

    def _may_answer(self, now: float) -> bool:
        drain, totals = self._core.ledger.pool, self._pool.totals(now)
        return state.may_answer(drain, live=totals.total, known=totals.complete and self._pool.agrees(drain.epoch))

    def _key_version(self) -> str | None:
        key = self._core.settings.key
        return None if key is None else key.version

    # ---- the other processes

    def _tell(self, message: dict[str, object]) -> None:
        line = peers.encode(message)
        for writer in list(self._streams.values()):
            if writer.transport.get_write_buffer_size() > LARGEST_BACKLOG:
                writer.transport.abort()
            else:
                writer.write(line)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a process in, listen to it until its stream ends."""
        pid = peers.identify(writer.get_extra_info("socket"))
        name = ""
        try:
            while pid is not None and (line := await reader.readline()):
                message = peers.decode(line)
                name = self._hear(name, pid, message, writer)
        except (ValueError, TypeError, KeyError, OSError) as error:
            logger.warning("a process of the pool sent what this one does not understand: %s", type(error).__name__)
        finally:
            if name and self._streams.get(name) is writer:
                del self._streams[name]
                self._pool.lose(name)
            writer.close()
            self._core.step()

    def _hear(self, name: str, pid: int, message: dict[str, Any], writer: asyncio.StreamWriter) -> str:
        """Take one message; returns the sender's name."""
        if "hello" in message:
            name = str(message["hello"])
            self._streams[name] = writer
            self._core.ledger.learn(state.from_wire(message["drain"]))
            writer.write(peers.encode({"drain": self._core.ledger.pool.to_wire()}))
            self._view_told = None
        if "report" in message:
            self._pool.report(name, pid, report_from_wire(message["report"]))
        if "reloaded" in message:
            self._reloads[name] = (int(message["reloaded"]), bool(message["ok"]))
        if "bye" in message:
            self._streams.pop(name, None)
            self._pool.dismiss(name)
        self._look()
        return name

    # ---- the contract

    async def _handle(self, route: Route, request: Request) -> Answer:
        match route:
            case Route.DRAIN:
                return await self._drain()
            case Route.CALLS:
                return await self._calls(*wait_of(request))
            case Route.RELEASE:
                return await self._release()
            case Route.RELOAD:
                return await self._reload()
            case Route.CORDON | Route.UNCORDON:
                return await self._cordon(wanted=route is Route.CORDON)

    async def _drain(self) -> Answer:
        settings, now = self._core.settings, self._core.now()
        self._core.ledger.decide(lambda drain: state.begun(drain, now, settings.settle, settings.grace))
        self._look()
        while not self._may_answer(self._core.now()):
            await self._changed.wait()
        return Answer(self._short())

    async def _calls(self, since: int | None, wait: float) -> Answer:
        self._look()
        try:
            async with asyncio.timeout(wait):
                while since == self._revision:
                    await self._changed.wait()
        except TimeoutError:
            self._look()
        now = self._core.now()
        drain, totals, phase = self._standing(now)
        token = self._core.settings.token is not None
        who = Standing(self._instance, __version__, token, self._key_version())
        return Answer(calls_document(who, self._revision, phase, drain, totals, now=now, wall=time.time()))

    async def _cordon(self, *, wanted: bool) -> Answer:
        now = self._core.now()
        if not wanted and self._core.ledger.pool.started is not None:
            return Answer({**self._short(), "error": "draining is one-way: this pod is ending"}, HTTPStatus.CONFLICT)
        drain = self._core.ledger.decide(lambda drain: state.cordoned(drain, now, wanted=wanted))
        return await self._agreed(drain)

    async def _release(self) -> Answer:
        now, before = self._core.now(), self._core.ledger.pool
        if before.started is None:
            message = "not draining: a release lets a drain go, and there is none"
            return Answer({**self._short(), "error": message}, HTTPStatus.CONFLICT)
        return await self._agreed(self._core.ledger.decide(lambda drain: state.released(drain, now)))

    async def _agreed(self, drain: state.Drain) -> Answer:
        """Answer when every process has done as told."""
        self._look()
        try:
            async with asyncio.timeout(AGREE_SECONDS):
                while not self._pool.agrees(drain.epoch):
                    await self._changed.wait()
        except TimeoutError:
            return Answer({**self._short(), "error": "not every process has answered"}, HTTPStatus.GATEWAY_TIMEOUT)
        return Answer(self._short())

    async def _reload(self) -> Answer:
        """Read the key again, in every process."""
        settings = self._core.settings
        if not settings.can_reload:
            return Answer({**self._short(), "error": "this agent has nothing to reload"}, HTTPStatus.NOT_IMPLEMENTED)
        self._reload_number += 1
        number, others = self._reload_number, set(self._streams)
        self._tell({"reload": number})
        good = await attempt_reload(self._core)
        try:
            async with asyncio.timeout(AGREE_SECONDS):
                while any(self._reloads.get(name, (0, False))[0] < number for name in others & set(self._streams)):
                    await self._changed.wait()
        except TimeoutError:
            good = False
        good = good and all(self._reloads.get(name, (0, False))[1] for name in others & set(self._streams))
        self._look()
        answer = {**self._short(), "keyVersion": self._key_version()}
        return (
            Answer(answer) if good else Answer({**answer, "error": "reload failed"}, HTTPStatus.INTERNAL_SERVER_ERROR)
        )

    def _look(self) -> None:
        """Look now, and let the timers follow."""
        self.step()
        self._core.step()

    def _short(self) -> dict[str, object]:
        _, totals, phase = self._standing(self._core.now())
        return {"contract": 1, "state": phase.value, "active": totals.total, "forced": totals.tally.forced}


async def attempt_reload(core: Core) -> bool:
    """Reload in a thread, so that the drain is served meanwhile. What goes wrong is named by its class alone."""
    try:
        await asyncio.to_thread(core.settings.reload)
    except Exception as error:  # noqa: BLE001 - the agent's own callback; its message may hold a key
        logger.error("reload failed: %s", type(error).__name__)
        return False
    return True
