"""The work queue: keys, not objects; each key waits once and is worked on by one worker at a time.

The contract is that of client-go's workqueue: a key that is added while it is being worked on is worked on again
afterwards, so the last change is never missed; urgent keys go first, deferred ones last; delayed ones keep their
earliest time. Beyond that, no namespace gets the workers that others wait for: see `shares`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from voicekeys.reconcilers.shares import Shares

if TYPE_CHECKING:
    from voicekeys.model.identity import Name

FAR_SECONDS = 3600.0
"""A key that is wanted later than that (a rotation date, months ahead) has no timer yet: 10,000 of them take memory."""


FAIRNESS = 16
"""Of so many keys one is taken from the slowest line, so that what is deferred has its turn in the longest rush."""


class Line(IntEnum):
    """Where a key waits; lower goes first."""

    URGENT = 0
    NORMAL = 1
    DEFERRED = 2


class _Waiting:
    """The keys of one line, in their order; those of a namespace whose share is full are put aside as they come up.

    Whatever is put aside came before all that is still in order, so `free` keys are taken before those.
    """

    def __init__(self) -> None:
        self.in_order: deque[Name] = deque()
        self.aside: dict[str, deque[Name]] = {}
        self.free: dict[str, None] = {}  # namespaces of `aside` whose share is not full (any more), as they became so

    def put_aside(self, key: Name) -> None:
        self.aside.setdefault(key.namespace, deque()).append(key)

    def from_aside(self, namespace: str) -> Name:
        """Take the first key of a namespace that has some aside."""
        keys = self.aside[namespace]
        key = keys.popleft()
        if not keys:
            del self.aside[namespace]
            self.free.pop(namespace, None)
        return key


class WorkQueue:
    """Deduplicating queue with delays and three priorities; for one event loop, not thread-safe."""

    def __init__(self) -> None:
        self._lines: tuple[_Waiting, ...] = tuple(_Waiting() for _ in Line)
        self._shares = Shares()
        self._waiting: dict[Name, Line] = {}
        self._ahead = 0  # of `_waiting`: those that are not deferred
        self._working: set[Name] = set()
        self._again: dict[Name, Line] = {}
        self._taken = itertools.count(1)
        self._timers: dict[Name, asyncio.TimerHandle] = {}
        self._far: dict[Name, float] = {}
        self._look: asyncio.TimerHandle | None = None
        self._wakeup = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """Keys that a worker has."""
        return len(self._working)

    def add(self, key: Name, *, urgent: bool = False) -> None:
        """Ask for work on a key."""
        self._add(key, Line.URGENT if urgent else Line.NORMAL)

    def defer(self, key: Name) -> bool:
        """Ask for the rest of the work on a key after all that waits now.

        Returns:
            False where nothing else waits, and whoever has the key may as well go on.
        """
        if not self._ahead:
            return False
        self._add(key, Line.DEFERRED)
        return True

    def _add(self, key: Name, line: Line) -> None:
        if key in self._working:
            self._again[key] = min(line, self._again.get(key, line))
        elif line < self._waiting.get(key, len(Line)):
            # One that waited in a slower line stays there as well; whoever comes there second finds it gone.
            self._ahead += line < Line.DEFERRED and self._waiting.get(key, Line.DEFERRED) == Line.DEFERRED
            self._waiting[key] = line
            self._shares.saw(key)
            self._lines[line].in_order.append(key)
            self._wakeup.set()

    def add_after(self, key: Name, seconds: float) -> None:
        """Ask for work on a key later; an earlier time that was asked for already stands."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        due = loop.time() + max(0.0, seconds)
        if seconds > FAR_SECONDS:
            self._far[key] = min(due, self._far.get(key, due))
            if self._look is None:
                self._look = loop.call_later(FAR_SECONDS / 2, self._bring_near)
            return
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def _bring_near(self) -> None:
        """Give a timer to each key whose time has come near; the others wait on."""
        loop = asyncio.get_running_loop()
        near = {key: due - loop.time() for key, due in self._far.items() if due - loop.time() <= FAR_SECONDS}
        for key, seconds in near.items():
            del self._far[key]
            self.add_after(key, seconds)
        self._look = loop.call_later(FAR_SECONDS / 2, self._bring_near) if self._far else None

    def forget(self, key: Name) -> None:
        """Drop the timer of a key that is no more."""
        self._far.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _fire(self, key: Name) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> Name:
        """Wait for the next key; it counts as being worked on until `done`."""
        while True:
            order = tuple(Line if next(self._taken) % FAIRNESS else reversed(Line))
            key = self._next_within_shares(order) or self._next_beyond(order)
            if key is not None:
                return key
            self._wakeup.clear()
            await self._wakeup.wait()

    def _next_within_shares(self, order: tuple[Line, ...]) -> Name | None:
        for line in order:
            waiting = self._lines[line]
            while waiting.free:
                key = waiting.from_aside(next(iter(waiting.free)))
                if self._take(key):
                    return key
            while waiting.in_order:
                key = waiting.in_order.popleft()
                if key in self._waiting and self._shares.is_full(key.namespace):
                    waiting.put_aside(key)
                elif self._take(key):
                    return key
        return None

    def _next_beyond(self, order: tuple[Line, ...]) -> Name | None:
        """Nobody waits who has less than a share: there are at most a handful who have one, and no key in order."""
        may = self._shares.full(asyncio.get_running_loop().time()) if self._waiting else []
        for line in order:
            for namespace in may:
                while namespace in self._lines[line].aside:
                    key = self._lines[line].from_aside(namespace)
                    if self._take(key):
                        return key
        return None

    def _take(self, key: Name) -> bool:
        """Give a key to a worker; False where it was in two lines and has left by the other."""
        line = self._waiting.pop(key, None)
        if line is None:
            return False
        self._ahead -= line < Line.DEFERRED
        self._working.add(key)
        if self._shares.take(key, asyncio.get_running_loop().time()):
            for waiting in self._lines:
                waiting.free.pop(key.namespace, None)
        return True

    def done(self, key: Name) -> None:
        """Give a key back; if it was asked for meanwhile, it waits again."""
        self._working.discard(key)
        if self._shares.give_back(key, asyncio.get_running_loop().time()):
            for waiting in self._lines:
                if key.namespace in waiting.aside:
                    waiting.free[key.namespace] = None
        if key in self._again:
            self._add(key, self._again.pop(key))
        self._wakeup.set()  # whoever waits may now be within a share

    def close(self) -> None:
        """Cancel every timer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._far.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None
