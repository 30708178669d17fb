"""One poller per store: reads every source in its turn, and stands as the floodgate before a Vault that is down.

A source is one (store, identity, path, version pin), shared by all bindings that name it. First reads and notified
ones go at once, up to `BURST` at a time; the others, retries among them, take turns at the store's read budget, so that
also after an outage Vault is asked no faster than agreed. While the store as a whole does not answer, exactly one read
at a time probes it, with backoff; every other source waits and is told why.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

from voicekeys.model.errors import SourceError, StoreDown
from voicekeys.policies.schedule import backoff, jittered, poll_interval
from voicekeys.reconcilers.source import Source
from voicekeys.reconcilers.witnesses import Witnesses

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from voicekeys.model.identity import Name, SourceId
    from voicekeys.model.payload import KeyVersion
    from voicekeys.reconcilers.ports import Clock, KeySource

BURST = 32  # reads at one time; as many as the client has connections
QUIET_OUTAGE_SECONDS = 10.0  # a shorter outage is not written into every binding's status
MAX_ERROR_BACKOFF = 300.0
QUIET_FAILURES = 2  # so often may a source that has its key fail as if Vault were down before its bindings are told
NO_PROBE_SECONDS = 1.0  # between two looks for a source that the store can be probed with


class StorePoller:
    """Polls the sources of one store.

    Args:
        vault: the store's client.
        clock: time.
        random: jitter.
        reads_per_second: the read budget.
        interval: the user's own interval in seconds, or None to follow the budget.
        on_change: told the source whose key or error changed.
        on_state: told when the store goes down or comes back.
        on_lag: told by how many seconds a read came after its planned time.
    """

    def __init__(
        self,
        vault: KeySource,
        clock: Clock,
        random: Random,
        *,
        reads_per_second: float,
        interval: float | None,
        on_change: Callable[[Source], None],
        on_state: Callable[[], None],
        on_lag: Callable[[float], None],
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._random = random
        self._budget = reads_per_second
        self._fixed = interval
        self._on_change = on_change
        self._on_state = on_state
        self._on_lag = on_lag
        self._heap: list[tuple[float, int, SourceId]] = []
        self._sequence = 0
        self._wakeup = asyncio.Event()
        self._slots = asyncio.Semaphore(BURST)
        self._reads: set[asyncio.Task[None]] = set()
        self._next_turn = 0.0
        self._down_since = 0.0
        self._probes = 0
        self.sources: dict[SourceId, Source] = {}
        self._witnesses = Witnesses(self.sources)
        self.down: StoreDown | None = None
        self.answered = False  # some read got an answer of Vault, whatever it said
        self.told_down = False

    @property
    def starting(self) -> bool:
        """Whether reads were asked for and none has ended, well or badly."""
        idle = self.answered or self.down is not None or not self.sources
        return not idle and all(source.pending for source in self.sources.values())

    @property
    def interval(self) -> float:
        """Seconds between two reads of one source, at present."""
        return poll_interval(len(self.sources), self._budget, self._fixed)

    @property
    def turns_per_second(self) -> float:
        """Polls that may begin in a second: the budget, or what an interval asks for that does without it."""
        return max(self._budget, len(self.sources) / self.interval)

    def subscribe(self, source_id: SourceId, name: Name) -> Source:
        """Give the source, reading it at once if nobody had asked for it before."""
        source = self.sources.get(source_id)
        if source is None:
            source = self.sources[source_id] = Source(source_id)
            if self.down is not None and self.told_down:
                source.error, source.failures = self.down, 1  # its turn as the probe may be long in coming
            self.read_now(source)
        source.subscribers.setdefault(name, "")
        return source

    def unsubscribe(self, source_id: SourceId, name: Name) -> None:
        """Let go of a source; the last one to leave stops its polling."""
        source = self.sources.get(source_id)
        if source is not None:
            source.subscribers.pop(name, None)
            if not source.subscribers:
                del self.sources[source_id]

    def read_now(self, source: Source) -> None:
        """Read a source at once, whatever its turn; while the store is down that is the probe's business."""
        source.at_once = True
        self._schedule(source, self._clock.monotonic())

    def retire(self) -> None:
        """Tell nobody anything from now on, whatever a read that is under way still brings."""
        self._on_change = self._on_lag = _nobody
        self._on_state = _nobody
        for task in self._reads:
            task.cancel()

    def _schedule(self, source: Source, due: float) -> None:
        source.due = due
        if self.down is None:  # else the heap is made anew when the store is back
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, source.id))
        self._wakeup.set()

    async def run(self) -> None:
        """Poll for ever; cancel to stop."""
        try:
            while True:
                if self.down is not None:
                    await self._probe()
                    continue
                await self._slots.acquire()
                source = await self._next_or_release()
                if source is None:
                    continue
                source.reading = True
                task = asyncio.create_task(self._read_in_slot(source))
                self._reads.add(task)
                task.add_done_callback(self._reads.discard)
        finally:
            for task in self._reads:
                task.cancel()

    async def _next_or_release(self) -> Source | None:
        """The next source for the slot that was acquired, which is given back where there is none."""
        source = None
        try:
            source = await self._next()
        finally:
            if source is None:
                self._slots.release()
        return source

    async def _next(self) -> Source | None:
        """Wait for the next source whose read is due; None as soon as the store is down."""
        while self.down is None:
            due, _, source_id = self._heap[0] if self._heap else (None, 0, None)
            if due is None or source_id is None:
                await self._sleep(None)
                continue
            source = self.sources.get(source_id)
            if source is None or source.due != due or source.reading:
                heapq.heappop(self._heap)  # left, rescheduled, or being read right now
                continue
            wait = due - self._clock.monotonic()
            if wait > 0:
                await self._sleep(wait)
                continue
            heapq.heappop(self._heap)
            if self._may_read(source):
                return source
        return None

    def _may_read(self, source: Source) -> bool:
        """Whether it is this source's turn; if not, it is given the next free one."""
        now = self._clock.monotonic()
        if source.at_once or source.has_turn or now >= self._next_turn:
            if not (source.at_once or source.has_turn):
                self._next_turn = now + 1 / self.turns_per_second
            source.urgent = source.urgent or source.at_once
            source.at_once = source.has_turn = False
            return True
        turn = self._next_turn
        self._next_turn = turn + 1 / self.turns_per_second
        source.has_turn = True
        self._schedule(source, turn)
        return False

    async def _sleep(self, seconds: float | None) -> None:
        self._wakeup.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            return

    async def _read_in_slot(self, source: Source) -> None:
        try:
            await self._read(source)
        finally:
            source.reading = False
            self._slots.release()
            self._requeue(source)

    def _requeue(self, source: Source) -> None:
        if source.id in self.sources:
            self._schedule(source, source.due)

    async def _read(self, source: Source) -> None:
        asked, first = source.due, source.key is None
        self._on_lag(self._clock.monotonic() - asked)
        try:
            key = await self._vault.read(source.id.identity, source.id.path, source.id.version)
        except StoreDown as error:
            self._no_answer(source, error)
        except SourceError as error:
            source.unasked = not error.answered
            if error.answered:
                self._answered(source)
            self._failed(source, error)
        except Exception as bug:  # noqa: BLE001 -- one source's surprise must not stop the others; its type is reported
            self._failed(source, SourceError("InternalError", f"reading failed with {type(bug).__name__}: report this"))
        else:
            self._answered(source)
            self._succeeded(source, key)
        if source.due == asked:  # else somebody asked for another read meanwhile, and that time stands
            source.due = self._clock.monotonic() + self._wait(source, first=first)

    def _wait(self, source: Source, *, first: bool) -> float:
        if source.failures == 0:
            # After a first read, and once the start is over, the sources spread over one interval; later they drift.
            return self.interval * self._random.uniform(0.25, 1.25) if first else jittered(self.interval, self._random)
        asked = source.error.retry_after if source.error and source.error.retry_after else 0.0
        base = max(2.0, min(self.interval, 30.0))
        return max(asked, backoff(source.failures, self._random, base=base, cap=MAX_ERROR_BACKOFF))

    def _succeeded(self, source: Source, key: KeyVersion) -> None:
        changed = source.error is not None or _differs(source.key, key)
        source.key, source.error, source.failures = key, None, 0
        source.read_at = self._clock.now().timestamp()
        if changed:
            self._on_change(source)

    def _failed(self, source: Source, error: SourceError) -> None:
        changed = source.error is None or (source.error.reason, source.error.message) != (error.reason, error.message)
        source.error = error
        source.failures += 1
        if changed:
            self._on_change(source)

    def _no_answer(self, source: Source, error: StoreDown) -> None:
        """Take a read that failed as if the store were down: that is so, or another source is asked at once."""
        if self.sources.get(source.id) is not source:
            return  # nobody's any more
        if self.down is not None:
            self.down = error
        elif self._witnesses.says_down(source, self._clock.monotonic()):
            self._down_since, self._probes = self._witnesses.since, 0
            self.down = error
            self._wakeup.set()
        else:
            witness = self._witnesses.witness()
            if witness is not None:
                self.read_now(witness)
        alone = self.down is None and source.failures >= QUIET_FAILURES
        if source.key is None or self.told_down or alone:
            self._failed(source, error)
        else:
            source.failures += 1

    async def _probe(self) -> None:
        """Try one read of a store that is down; on failure wait here, so that nothing else is tried meanwhile."""
        source = self._witnesses.probe(self._clock.monotonic())
        if source is None:
            await self._sleep(NO_PROBE_SECONDS)
            return
        source.urgent, source.at_once = source.urgent or source.at_once, False
        source.due, source.reading = self._clock.monotonic(), True
        try:
            await self._read(source)
        finally:
            source.reading = False
        self._requeue(source)
        if self.down is None:
            return
        if not self.told_down and self._clock.monotonic() - self._down_since >= QUIET_OUTAGE_SECONDS:
            self.told_down = True
            self._tell_all(self.down)
        if source.unasked:  # Vault was not: the next source is the probe
            await asyncio.sleep(1 / self._budget)
            return
        self._witnesses.confirmed()
        self._probes += 1
        self._on_state()
        asked = self.down.retry_after or 0.0
        await asyncio.sleep(max(asked, backoff(self._probes, self._random, base=1.0, cap=30.0)))

    def _tell_all(self, error: StoreDown | None) -> None:
        for source in self.sources.values():
            if (source.error is None) == (error is None):
                continue
            if error is None and (source.alone or not isinstance(source.error, StoreDown)):
                continue
            source.error = error
            self._on_change(source)

    def _answered(self, source: Source) -> None:
        """Take an answer of Vault, whatever it says: it opens the gate."""
        self.answered = True
        self._witnesses.answered(source)
        source.urgent = False
        if self.down is None:
            return
        self.down, self.told_down = None, False
        for one in self.sources.values():
            one.has_turn = False  # those that passed during the outage would all come at once
            if not one.reading:
                self._resume(one)
        waiting = (one for one in self.sources.values() if not one.reading)
        self._heap = [(one.due, number, one.id) for number, one in enumerate(waiting)]
        heapq.heapify(self._heap)
        self._sequence = len(self._heap)
        self._tell_all(None)
        if self._probes:  # else nobody has been told that it was down
            self._on_state()

    def _resume(self, source: Source) -> None:
        """Read a source again that failed because of the outage; what somebody had asked for does not wait."""
        if not source.failures or source.alone or not isinstance(source.error, StoreDown | None):
            return
        source.failures = 0
        source.at_once = source.at_once or source.urgent or source.key is None
        source.due = self._clock.monotonic()


def _nobody(*_: object) -> None:
    """Stand in for those who listened."""


def _differs(old: KeyVersion | None, new: KeyVersion) -> bool:
    return old is None or old.version != new.version or old.created_time != new.created_time or old.fields != new.fields
