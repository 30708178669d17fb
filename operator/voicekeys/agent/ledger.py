"""The ledger of one process: which calls are live, under one lock with the decision whether a call may begin.

The lock is held for a few dictionary operations, never while anything waits or foreign code runs, and never taken in
a signal handler. `agent.py` owns the ledger; `runtime.py` reads reports from it and puts decisions into it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from voicekeys.agent.drain import Drain, merged, released
from voicekeys.agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_LABEL = 64
"""Characters of a key version in reports: a label, not a place for data."""


class Entry(Protocol):
    """What the ledger keeps of a call."""

    key_version: str
    max_call: float | None
    started: float
    leaked: bool
    forced: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls counted since the start. ``started = completed + forced + aborted + live and not forced``.

    Args:
        started: calls that began.
        completed: calls that ended by themselves.
        refused: calls that were not taken.
        forced: calls that were live when the drain was released, or the deadline came.
        aborted: calls whose process died.
    """

    started: int = 0
    completed: int = 0
    refused: int = 0
    forced: int = 0
    aborted: int = 0

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, slots=True)
class Report:
    """What one process says of its calls.

    Args:
        live: live calls by key version.
        oldest: when the oldest live call began (monotonic); None without calls.
        leaked: live calls that are older than their cap.
        tally: counted since the process started.
        epoch: the last decision that the process had taken over *before* it counted: the barrier of a drain.
    """

    live: Mapping[str, int] = field(default_factory=dict)
    oldest: float | None = None
    leaked: int = 0
    tally: Tally = field(default_factory=Tally)
    epoch: int = 0

    @property
    def total(self) -> int:
        """Live calls."""
        return sum(self.live.values())

    def to_wire(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def report_from_wire(value: Mapping[str, object]) -> Report:
    """Read what `Report.to_wire` wrote. Raises TypeError for what it did not write."""
    tally = value["tally"]
    if not isinstance(tally, dict):
        raise TypeError("a report's tally is an object")
    return Report(**{**value, "tally": Tally(**tally)})  # type: ignore[arg-type]


class Ledger:
    """The live calls of this process.

    Args:
        now: the monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._calls: dict[int, Entry] = {}
        self._tally = Tally()
        self.generation = 0
        self.pool = Drain()
        """What is decided for all processes of the pod."""
        self.own = Drain()
        """What is decided for this process alone: a worker that was told to end, in a pod that goes on."""

    def enter(self, entry: Entry) -> int:
        """Count a call as live, or raise Refused. Returns the generation, which `leave` wants back."""
        with self._lock:
            now = self._now()
            for drain in (self.pool, self.own):
                if not drain.accepts(now):
                    self._tally = replace(self._tally, refused=self._tally.refused + 1)
                    raise Refused(drain.phase(now, idle=False))
            entry.started = now
            self._calls[id(entry)] = entry
            self._tally = replace(self._tally, started=self._tally.started + 1)
            return self.generation

    def leave(self, entry: Entry, generation: int) -> bool:
        """End a call. False when it had ended already, or began in the process that this one was forked from."""
        with self._lock:
            if generation != self.generation or self._calls.pop(id(entry), None) is None:
                return False
            if not entry.forced:
                self._tally = replace(self._tally, completed=self._tally.completed + 1)
            return True

    def decide(self, change: Callable[[Drain], Drain], *, own: bool = False) -> Drain:
        """Change what is decided, under the lock that calls begin under. Returns the new decision.

        Args:
            change: the new decision from the old one; a pure function.
            own: of this process only.
        """
        with self._lock:
            drain = change(self.own if own else self.pool)
            if own:
                self.own = drain
            else:
                self.pool = drain
            if drain.released:
                self._force()
            return drain

    def learn(self, drain: Drain) -> Drain:
        """Take over what another process of the pool knows."""
        return self.decide(lambda known: merged(known, drain))

    def expire(self) -> None:
        """Let go in this process because its grace ends."""
        self.decide(lambda drain: released(drain, self._now()), own=True)

    def _force(self) -> None:
        cut = [entry for entry in self._calls.values() if not entry.forced]
        for entry in cut:
            entry.forced = True
        self._tally = replace(self._tally, forced=self._tally.forced + len(cut))

    def report(self) -> Report:
        """Count, in one moment."""
        with self._lock:
            live: dict[str, int] = {}
            for entry in self._calls.values():
                label = entry.key_version[:LONGEST_LABEL]
                live[label] = live.get(label, 0) + 1
            oldest = min((entry.started for entry in self._calls.values()), default=None)
            leaked = sum(entry.leaked for entry in self._calls.values())
            return Report(live, oldest, leaked, self._tally, self.pool.epoch)

    def entries(self) -> list[Entry]:
        """The live calls, oldest first."""
        with self._lock:
            return list(self._calls.values())

    def note_leaks(self) -> tuple[int, float | None]:
        """Mark calls that are older than their cap. Returns how many are new, and when the next one will be."""
        with self._lock:
            now, new, due = self._now(), 0, None
            for entry in self._calls.values():
                if entry.leaked or entry.max_call is None:
                    continue
                at = entry.started + entry.max_call
                if at <= now:
                    entry.leaked, new = True, new + 1
                else:
                    due = at if due is None else min(due, at)
            return new, due

    def __len__(self) -> int:
        return len(self._calls)

    def hold(self) -> None:
        """Before a fork: nobody is inside."""
        self._lock.acquire()

    def let_go(self) -> None:
        """After a fork, in the parent."""
        self._lock.release()

    def start_anew(self) -> None:
        """After a fork, in the child: the parent's calls are the parent's; what was decided for the pod is known."""
        self._lock = threading.Lock()
        self._calls = {}
        self._tally = Tally()
        self.own = Drain()
        self.generation += 1
