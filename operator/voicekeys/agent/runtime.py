"""The library's own thread and loop: the agent's loop may be busy or blocked, the drain is served all the same.

A process leads if it gets the drain port, follows the one that has it otherwise, and tries again for both when its
leader dies. `wake` is the one way in from other threads and from signal handlers: it takes no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import threading
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING

from voicekeys.agent import peers, ports
from voicekeys.agent.core import Core, Settings, logger
from voicekeys.agent.errors import PortTaken, ServeError, Unjoined
from voicekeys.agent.follower import Follower
from voicekeys.agent.leader import Leader
from voicekeys.agent.pool import View

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from voicekeys.agent.ledger import Ledger

RETRY_SECONDS = 0.02
"""Between two tries for the port or the leader."""
GREET_SECONDS = 2.0
"""For a leader to take a process in."""

_abandoned: list[object] = []
"""Loops of processes that this one was forked from: never used, never collected, for that would close descriptors."""


class Runtime:
    """One thread with one loop.

    Args:
        ledger: the process's calls.
        now: the monotonic clock.
        duties: what else is to be looked at each time; returns when to look again, at the latest.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], float], duties: Callable[[], float | None]) -> None:
        self._ledger = ledger
        self._now = now
        self._duties = duties
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._run, name="voicekeys", daemon=True)
        self._role: Leader | Follower | None = None
        self._life: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self.port = 0
        """The port that is served, or followed; 0 before `serve`."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self.wake()

    def serve(self, settings: Settings) -> None:
        """Lead or follow. Returns when other processes know this one.

        Raises:
            PortTaken: something else has the port.
            Unjoined: the leader does not answer.
            ServeError: the port cannot be bound.
        """
        core = Core(uuid.uuid4().hex, self._ledger, settings, self._now, self.wake)
        started: Future[None] = Future()

        def begin() -> None:
            self._life = self._loop.create_task(self._live(core, started))

        self._loop.call_soon_threadsafe(begin)
        started.result()

    def wake(self) -> None:
        """Look at everything, soon. From any thread, and from a signal handler."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to look at
                self._loop.call_soon_threadsafe(self._step)

    @property
    def is_all_there_is(self) -> bool:
        """Whether this process serves the drain, and no other has a part in it. On the runtime's own thread only."""
        return isinstance(self._role, Leader) and self._role.is_alone

    @property
    def is_holding_back(self) -> bool:
        """Whether this process leads a drain that may not be answered yet. On the runtime's own thread only."""
        return isinstance(self._role, Leader) and self._role.is_holding_back

    def close(self) -> None:
        """Stop serving and end the thread; live calls of this process are no longer counted anywhere."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._close)
            self._thread.join()

    def abandon(self) -> None:
        """In a forked child: give up what belongs to the parent's loop, without touching what the parent uses.

        Each descriptor is replaced by /dev/null: closed here, yet never closed again over another's number. A copy
        that stayed open would hide the parent's death from the pool, and keep its port.
        """
        _abandoned.append(self)
        null = os.open(os.devnull, os.O_RDWR)
        try:
            epoll = self._selector.fileno() if hasattr(self._selector, "fileno") else None
            registered = [key.fd for key in list(self._selector.get_map().values())]
            for descriptor in [*registered, *([] if epoll is None else [epoll])]:
                os.dup2(null, descriptor, inheritable=False)
        finally:
            os.close(null)

    # ---- on the thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def _close(self) -> None:
        if self._role is not None:
            self._role.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        # Cancelled tasks get their turn, and what was written goes out.
        self._loop.call_later(0.01, self._loop.stop)

    def _step(self) -> None:
        """Look at everything once."""
        self._woken = False
        due: list[float | None] = []
        try:
            # The pool first: the duties rest on what it knows, and wake us again for what they change.
            if self._role is not None:
                due.append(self._role.step())
            due.append(self._duties())
        except Exception:  # noqa: BLE001 - whatever it was, the drain must be served
            logger.exception("the drain could not be looked after; it is tried again")
            due.append(self._now() + 1.0)
        if self._timer is not None:
            self._timer.cancel()
        at = min((one for one in due if one is not None), default=None)
        self._timer = None if at is None else self._loop.call_later(max(0.0, at - self._now()), self._step)

    async def _live(self, core: Core, started: Future[None]) -> None:
        """Be part of the pool until the end."""
        try:
            self._role = await self._elect(core, View(), self._now() + core.settings.join)
        except Exception as error:  # noqa: BLE001 - goes to who called serve()
            started.set_exception(error)
            return
        self.wake()
        started.set_result(None)
        while isinstance(self._role, Follower):
            view = await self._role.follow()
            self._role = None
            logger.info("the process that led this pod's drain is gone; this one takes over or follows another")
            self._role = await self._elect(core, view, None)
            self.wake()

    async def _elect(self, core: Core, view: View, until: float | None) -> Leader | Follower:
        """Lead or follow. Raises ServeError when neither succeeds in time; None waits for ever."""
        wrong: Exception | None = None
        told = False
        while True:
            try:
                sock = ports.bind(core.settings.host, core.settings.port)
                if sock is not None:
                    return await self._lead(core, view, sock)
                return await self._follow(core)
            except (OSError, ValueError, TypeError, KeyError) as error:
                wrong = error
            if until is not None and (self._now() >= until or isinstance(wrong, PermissionError)):
                raise _explained(core.settings, wrong)
            if until is None and not told:
                told = True
                logger.warning("no leader of this pod's drain yet (%s); trying on", type(wrong).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _lead(self, core: Core, view: View, sock: socket.socket) -> Leader:
        leader = Leader(core, view)
        try:
            await leader.start(sock)
        except BaseException:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        return leader

    async def _follow(self, core: Core) -> Follower:
        async with asyncio.timeout(GREET_SECONDS):
            where = peers.address(core.settings.port)
            reader, writer = await asyncio.open_unix_connection(where, limit=peers.LONGEST_LINE)
            try:
                follower = Follower(core, reader, writer)
                await follower.join()
            except BaseException:
                writer.close()
                raise
        self.port = core.settings.port
        return follower


def _explained(settings: Settings, wrong: Exception) -> ServeError:
    """The error for people."""
    if isinstance(wrong, ConnectionRefusedError | FileNotFoundError):
        return PortTaken(settings.port, ports.holder_of(settings.port))
    if isinstance(wrong, TimeoutError | ConnectionError | ValueError):
        return Unjoined(
            f"the process that serves port {settings.port} did not take this one in within {settings.join:g} s: "
            f"is it stopped, or of another version of voicekeys?"
        )
    return ServeError(f"port {settings.port} cannot be served: {wrong}")
