"""The drain contract, served from a number that is read over and over.

As in the library `_look` is level-triggered: it looks at everything and wakes who waits. What differs, because the
agent does not know of the drain:

- No call is refused, so ``cordon`` is answered with 501, and ``refusing`` means: a call that comes now is waited for as
  well, as long as the grace lasts.
- The sidecar outlives the agent's container. After a liveness probe has failed, the kubelet runs the hook and restarts
  the container in the same pod (K13): a drain that was answered is over when the agent has calls again, or when a hook
  comes much later.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from voicekeys import __version__
from voicekeys.agent import drain as state
from voicekeys.agent import ports
from voicekeys.agent.contract import Request, Route, Standing, calls_document, wait_of
from voicekeys.agent.drain import Drain, Phase
from voicekeys.agent.errors import PortTaken
from voicekeys.agent.gauge import sockets
from voicekeys.agent.gauge.book import GONE, Book, Reading
from voicekeys.agent.gauge.errors import REFUSED, SETTINGS, SLOW, Unread
from voicekeys.agent.gauge.fetch import Fetcher
from voicekeys.agent.pool import Totals
from voicekeys.agent.server import Answer, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.agent.gauge.settings import Settings, Source

logger = logging.getLogger("voicekeys.agent.gauge")

LAST_SECONDS = 1.0
"""Before the deadline what is live counts as forced: nothing can be done, and the process may not live to say so."""
WATCHED_SECONDS = 1.0
"""Between two readings while somebody waits for ``/calls`` to change."""
SHARE = 4.0
"""A pause is at least so many times as long as the reading before it: an agent is not kept busy by being asked."""


class Sidecar:
    """Serves the contract for one agent.

    Args:
        settings: see there.
        others_have_sockets: whether another process of the pod may still be there.
    """

    def __init__(self, settings: Settings, others_have_sockets: Callable[[], bool] = sockets.others_have_any) -> None:
        self._settings = settings
        self._others_have_sockets = others_have_sockets
        source = settings.source
        self._source: Source | None = source
        self._fetcher = None if source is None else Fetcher(source.url, source.authorization, source.timeout)
        self._book = Book(settings.quiet)
        self._drain = Drain()
        self._server = Server(self._handle, settings.token, settings.limits)
        self._instance = uuid.uuid4().hex
        self._revision = int(time.time() * 1000)
        self._seen: object = None
        self._changed = asyncio.Event()
        self._has_read = asyncio.Event()
        self._urge = asyncio.Event()
        self._holders = 0
        self._watchers = 0
        self._answered: float | None = None
        self._expired = False
        self._reader: asyncio.Task[None] | None = None
        self.port = 0
        """That is served."""

    async def start(self) -> None:
        """Serve. Raises PortTaken, or OSError for a port that may not be had."""
        sock = ports.bind(self._settings.host, self._settings.port)
        if sock is None:
            raise PortTaken(self._settings.port, ports.holder_of(self._settings.port))
        self.port = sock.getsockname()[1]
        await self._server.start(sock)
        self._reader = asyncio.get_running_loop().create_task(self._read_for_ever())

    def close(self) -> None:
        """Stop. Says so if calls are live: the sidecar ends after the containers, and these calls with them."""
        if self._book.number and self._drain.started is not None and not self._expired and not self._drain.released:
            logger.warning("the pod's containers ended with %d live call(s) at last sight", self._book.number)
        if self._reader is not None:
            self._reader.cancel()
        self._server.close()

    # ---- reading

    async def _read_for_ever(self) -> None:
        while True:
            self._urge.clear()
            reading = await self._read()
            self._take(reading)
            done, self._has_read = self._has_read, asyncio.Event()
            done.set()
            pause = max(self._pause(), SHARE * (reading.ended - reading.begun))
            try:
                async with asyncio.timeout(min(pause, self._settings.rest)):
                    await self._urge.wait()
            except TimeoutError:
                pass

    def _pause(self) -> float:
        if self._holders:
            return self._settings.busy
        is_draining = self._drain.started is not None and self._answered is None
        return min(WATCHED_SECONDS, self._settings.rest) if self._watchers or is_draining else self._settings.rest

    async def _read(self) -> Reading:
        begun = time.monotonic()
        if self._source is None or self._fetcher is None:
            return Reading(begun, begun, None, SETTINGS)
        number, why = None, None
        try:
            body = await self._fetcher.get()
            number = self._source.where.find(body, self._source.witness)
        except Unread as error:
            why = error.word
            if why == REFUSED and self._drain.started is not None and not self._others_have_sockets():
                number, why = 0, GONE
        return Reading(begun, time.monotonic(), number, why)

    def _take(self, reading: Reading) -> None:
        before = self._book.last.why
        self._book.take(reading)
        if reading.why != before:
            if reading.why is None:
                logger.info("the number of live calls is read: %d", self._book.number)
            elif reading.why == GONE:
                logger.warning("the agent is gone: its port is closed and no process of this pod has a socket")
            else:
                logger.warning("the number of live calls is not known (%s); a drain waits", reading.why)
        self._look()

    # ---- looking

    def _look(self) -> None:
        """Look at everything once."""
        now, book = time.monotonic(), self._book
        if self._drain.is_due_to_close(now):
            self._drain = state.closed(self._drain, now)
        deadline = self._drain.deadline
        if deadline is not None and now >= deadline - LAST_SECONDS and not self._expired and not self._may_answer():
            self._expired = True
            known = "" if book.is_known else " at last sight, now unknown"
            logger.warning("the grace ends: %d live call(s)%s will be cut", book.force(), known)
        if self._is_over(now) and book.number > 0:
            logger.info("the agent has calls after a drain that was answered: its container goes on, the drain is over")
            self._drain, self._answered, self._expired = Drain(), None, False
        self._notice()

    def _notice(self) -> None:
        """Count up the revision and wake who waits, if there is anything new."""
        book = self._book
        seen = (self._drain, self._phase(), book.number, book.last.why, book.tally)
        if seen != self._seen:
            self._seen = seen
            self._revision += 1
            done, self._changed = self._changed, asyncio.Event()
            done.set()

    def _is_over(self, now: float) -> bool:
        """Whether a drain was answered so long ago that the next hook is another one's."""
        return self._answered is not None and self._holders == 0 and now >= self._answered + self._settings.anew

    def _may_answer(self) -> bool:
        return state.may_answer(self._drain, live=self._book.number, known=self._book.is_quiet)

    def _phase(self) -> Phase:
        return self._drain.phase(time.monotonic(), idle=self._may_answer())

    # ---- the contract

    async def _handle(self, route: Route, request: Request) -> Answer:
        match route:
            case Route.DRAIN:
                return await self._hold()
            case Route.CALLS:
                return await self._calls(*wait_of(request))
            case Route.RELEASE:
                return self._release()
            case Route.CORDON | Route.UNCORDON:
                message = "this agent cannot be kept from taking calls: only their number is read"
                return Answer({**self._short(), "error": message}, HTTPStatus.NOT_IMPLEMENTED)
            case Route.RELOAD:
                message = "this agent has nothing to reload"
                return Answer({**self._short(), "error": message}, HTTPStatus.NOT_IMPLEMENTED)

    async def _hold(self) -> Answer:
        """Answer when no call is left. A client that goes away is only one holder less: the drain goes on."""
        self._begin()
        self._holders += 1
        try:
            while not self._may_answer():
                await self._changed.wait()
            self._answered = time.monotonic()
        finally:
            self._holders -= 1
        logger.info("a hook is answered: %s", self._phase().value)
        return Answer(self._short())

    def _begin(self) -> None:
        settings, now, loop = self._settings, time.monotonic(), asyncio.get_running_loop()
        if self._drain.started is None or self._is_over(now):
            self._drain = state.begun(Drain(), now, settings.settle, settings.grace)
            self._answered, self._expired = None, False
            self._book.start_anew(now + settings.settle)
            loop.call_later(settings.settle, self._look)
            logger.info("a drain begins with %d live call(s)", self._book.number)
        elif self._holders == 0:
            # A hook runs again, with the full grace again (K7), or another container's comes late: what it is told
            # must be of now.
            self._answered = None
            self._book.start_anew(max(now, self._book.floor))
            if settings.grace is not None:
                self._drain = replace(self._drain, deadline=now + settings.grace)
        if self._drain.deadline is not None:
            loop.call_later(max(0.0, self._drain.deadline - LAST_SECONDS - now), self._look)
        self._urge.set()
        self._look()

    async def _calls(self, since: int | None, wait: float) -> Answer:
        await self._refresh()
        self._watchers += 1
        try:
            async with asyncio.timeout(wait):
                while since == self._revision:
                    self._urge.set()  # its pause was reckoned before there was a watcher
                    await self._changed.wait()
        except TimeoutError:
            self._look()
        finally:
            self._watchers -= 1
        return Answer(self._document())

    def _age(self) -> float:
        return time.monotonic() - self._book.last.ended

    async def _refresh(self) -> None:
        """Read now if the last number is old, and wait a moment for it."""
        if self._age() <= self._settings.fresh:
            return
        self._urge.set()
        try:
            async with asyncio.timeout(self._settings.fresh):
                await self._has_read.wait()
        except TimeoutError:
            pass

    def _document(self) -> dict[str, object]:
        book, now, wall = self._book, time.monotonic(), time.time()
        # Twice: once for the wait in `_refresh`, once for the number that it waited for.
        is_old = book.is_known and self._age() > 2 * self._settings.fresh + WATCHED_SECONDS
        known = book.is_known and not is_old
        live = {"": book.number} if book.number else {}
        totals = Totals(live, None, 0, book.tally, processes=int(known), complete=known)
        who = Standing(self._instance, __version__, self._settings.token is not None)
        document = calls_document(who, self._revision, self._phase(), self._drain, totals, now=now, wall=wall)
        at = None if book.last.ended < 0 else datetime.fromtimestamp(wall - now + book.last.ended, UTC)
        document["gauge"] = {
            "error": SLOW if is_old else book.last.why,
            "readTime": at and at.isoformat(timespec="milliseconds"),
            "canRefuse": False,
        }
        return document

    def _release(self) -> Answer:
        if self._drain.started is None:
            message = "not draining: a release lets a drain go, and there is none"
            return Answer({**self._short(), "error": message}, HTTPStatus.CONFLICT)
        if not self._drain.released:
            self._drain = state.released(self._drain, time.monotonic())
            logger.warning("released: %d live call(s) count as forced", self._book.force())
        self._look()
        return Answer(self._short())

    def _short(self) -> dict[str, object]:
        book = self._book
        return {"contract": 1, "state": self._phase().value, "active": book.number, "forced": book.tally.forced}
