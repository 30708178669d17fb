"""The work queue: keys, not objects; each key waits once and is worked on by one worker at a time.

The contract is that of client-go's workqueue: a key that is added while it is being worked on is worked on again
afterwards, so the last change is never missed; urgent keys go first, deferred ones last; delayed ones keep their
earliest time.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

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


class WorkQueue:
    """Deduplicating queue with delays and three priorities; for one event loop, not thread-safe."""

    def __init__(self) -> None:
        self._lines: tuple[deque[Name], ...] = tuple(deque() for _ in Line)
        self._waiting: dict[Name, Line] = {}
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
        if not (self._lines[Line.URGENT] or self._lines[Line.NORMAL]):
            return False
        self._add(key, Line.DEFERRED)
        return True

    def _add(self, key: Name, line: Line) -> None:
        if key in self._working:
            self._again[key] = min(line, self._again.get(key, line))
        elif line < self._waiting.get(key, len(Line)):
            # One that waited in a slower line stays there as well; whoever comes there second finds it gone.
            self._waiting[key] = line
            self._lines[line].append(key)
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
            order = Line if next(self._taken) % FAIRNESS else reversed(Line)
            for line in order:
                key = self._pop(line)
                if key is not None:
                    self._working.add(key)
                    return key
            self._wakeup.clear()
            await self._wakeup.wait()

    def _pop(self, line: Line) -> Name | None:
        waiting = self._lines[line]
        while waiting:
            key = waiting.popleft()
            if self._waiting.pop(key, None) is not None:
                return key
        return None

    def done(self, key: Name) -> None:
        """Give a key back; if it was asked for meanwhile, it waits again."""
        self._working.discard(key)
        if key in self._again:
            self._add(key, self._again.pop(key))

    def close(self) -> None:
        """Cancel every timer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._far.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None
