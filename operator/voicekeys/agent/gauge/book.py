"""What the readings say: how many calls are live, whether that is known, how long there was none. Pure.

Invariants, which the tests hold over random histories:

1. `is_quiet` is true only after readings of zero without a break, all begun after `floor`, the first and the last of
   them `quiet` seconds apart. A reading that failed is a break.
2. ``started = completed + forced + aborted + number``, apart from forced calls that are not cut yet.

A gauge shows a level, no calls: what began and ended between two readings is not seen, and a call that ends while
another begins changes nothing. The counters are lower bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from voicekeys.agent.gauge.errors import REFUSED, UNREAD
from voicekeys.agent.ledger import Tally

GONE = "gone"
"""The agent's port is closed and no process of the pod has a socket: there is no agent, and no call."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One attempt to read the number.

    Args:
        begun: when it began (monotonic): the number is not older.
        ended: when it was done.
        number: live calls; None when they are not known.
        why: the word for an unknown number, or `GONE` for a zero that the agent did not say.
    """

    begun: float
    ended: float
    number: int | None
    why: str | None = None


class Book:
    """Takes readings in the order in which they began.

    Args:
        quiet: seconds of nothing but zeros that it takes to believe them: between two calls, and while a call is moved
            from one leg to another, a gauge may show zero for a moment.
    """

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._first_zero: float | None = None
        self._last_zero = 0.0
        self._was_refused = False
        self._uncut = 0
        self.floor = 0.0
        """Zeros of readings that began before this do not count: calls could still come."""
        self.last = Reading(0.0, float("-inf"), None, UNREAD)
        self.number = 0
        """Live calls when they were last known."""
        self.tally = Tally()

    @property
    def is_known(self) -> bool:
        """Whether the last reading gave a number."""
        return self.last.number is not None

    @property
    def is_quiet(self) -> bool:
        """Whether there was no call for long enough."""
        first = self._first_zero
        return first is not None and self._last_zero > first and self._last_zero - first >= self._quiet

    def take(self, reading: Reading) -> None:
        """Note a reading."""
        self.last = reading
        if reading.number is None:
            self._first_zero = None
            self._was_refused = self._was_refused or reading.why == REFUSED
            return
        self._count(reading.number - self.number, aborted=self._was_refused or reading.why == GONE)
        self.number = reading.number
        self._was_refused = False
        if reading.number > 0:
            self._first_zero = None
        elif reading.begun >= self.floor:
            self._first_zero = reading.begun if self._first_zero is None else self._first_zero
            self._last_zero = reading.begun

    def start_anew(self, floor: float) -> None:
        """Forget the zeros so far.

        Args:
            floor: from when zeros count.
        """
        self.floor = floor
        self._first_zero = None

    def force(self) -> int:
        """Count the live calls as forced, each once. Returns how many are new."""
        new = max(0, self.number - self._uncut)
        self._uncut = self.number
        self.tally = replace(self.tally, forced=self.tally.forced + new)
        return new

    def _count(self, change: int, *, aborted: bool) -> None:
        """Take a rise for begun calls, a fall for ended ones; for aborted ones if nothing listened meanwhile."""
        if change >= 0:
            self.tally = replace(self.tally, started=self.tally.started + change)
            return
        ended = -change
        cut = min(ended, self._uncut)
        self._uncut -= cut
        ended -= cut
        if aborted:
            self.tally = replace(self.tally, aborted=self.tally.aborted + ended)
        else:
            self.tally = replace(self.tally, completed=self.tally.completed + ended)
