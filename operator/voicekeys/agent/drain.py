"""The drain as a pure state machine: serving → cordoned → draining (settling, refusing) → idle or released.

::

    serving ⇄ cordoned          cordon, uncordon
       └────┬────┘
         settling               drain: late calls are still taken (K16: endpoints lag behind), unless cordoned
            │ settle seconds
         refusing               closed: every process has stopped taking calls
            │ no call left      or ── release ──► released (what is left counts as forced)
          idle

Two invariants, which the tests hold over random histories:

1. `may_answer` is true only when no call is live in any process, or the drain was released.
2. Draining is one-way: who asked for it goes on to end the pod, so nothing leads back to serving.

Times are seconds of the monotonic clock, which all processes of a pod share.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Phase(StrEnum):
    """Where a pod stands; the words of the contract."""

    SERVING = "serving"
    CORDONED = "cordoned"
    SETTLING = "settling"
    REFUSING = "refusing"
    IDLE = "idle"
    RELEASED = "released"


DRAINING = frozenset({Phase.SETTLING, Phase.REFUSING, Phase.IDLE, Phase.RELEASED})
"""The phases that nothing leads out of but the pod's end."""


@dataclass(frozen=True, slots=True)
class Drain:
    """What is decided about taking calls.

    Args:
        epoch: grows with each decision, also across leaders: the later one wins.
        cordoned: no new calls, until uncordoned.
        started: when draining began; None while it has not.
        settle_end: until when late calls are taken.
        deadline: when the pod's grace ends; None when the grace is not known.
        closed: the settle window is over, decided once, under the lock that calls begin under.
        released: let go although calls are live.
    """

    epoch: int = 0
    cordoned: bool = False
    started: float | None = None
    settle_end: float | None = None
    deadline: float | None = None
    closed: bool = False
    released: bool = False

    def accepts(self, now: float) -> bool:
        """Whether a call may begin now."""
        if self.cordoned or self.closed or self.released:
            return False
        return self.settle_end is None or now < self.settle_end

    def phase(self, now: float, *, idle: bool) -> Phase:
        """Name the state; `idle` says that `may_answer` holds."""
        if self.released:
            return Phase.RELEASED
        if self.started is None:
            return Phase.CORDONED if self.cordoned else Phase.SERVING
        if idle:
            return Phase.IDLE
        return Phase.REFUSING if self.closed or not self.accepts(now) else Phase.SETTLING

    def is_due_to_close(self, now: float) -> bool:
        """Whether the settle window has ended and nobody has said so yet."""
        return self.settle_end is not None and now >= self.settle_end and not self.closed

    def to_wire(self) -> dict[str, object]:
        """As JSON, for other processes of the pool."""
        return asdict(self)


def from_wire(value: Mapping[str, object]) -> Drain:
    """Read what `to_wire` wrote. Raises TypeError for what it did not write."""
    return Drain(**value)  # type: ignore[arg-type]


def begun(drain: Drain, now: float, settle: float, grace: float | None) -> Drain:
    """Draining, from now on; a drain that has begun stays as it is (K7: the hook runs again).

    Args:
        drain: what was decided before.
        now: the monotonic clock.
        settle: seconds for which late calls are still taken.
        grace: seconds from now until the kubelet kills; None when not known.
    """
    if drain.started is not None:
        return drain
    deadline = None if grace is None else now + grace
    return replace(drain, epoch=_later(drain, now), started=now, settle_end=now + settle, deadline=deadline)


def cordoned(drain: Drain, now: float, *, wanted: bool) -> Drain:
    """Cordoned or not; unchanged where it is so already."""
    return drain if drain.cordoned == wanted else replace(drain, epoch=_later(drain, now), cordoned=wanted)


def closed(drain: Drain, now: float) -> Drain:
    """No call begins any more."""
    return drain if drain.closed else replace(drain, epoch=_later(drain, now), closed=True)


def released(drain: Drain, now: float) -> Drain:
    """Let go: calls that are live from here on are forced."""
    return drain if drain.released else replace(drain, epoch=_later(drain, now), released=True)


def may_answer(drain: Drain, *, live: int, known: bool) -> bool:
    """Whether a held drain may answer.

    Args:
        drain: what was decided.
        live: calls that are live in all processes, as they reported *after* they had stopped taking calls.
        known: whether every process has reported so. Unknown is never zero.
    """
    return drain.released or (drain.closed and known and live == 0)


def merged(one: Drain, other: Drain) -> Drain:
    """What two processes know together when their leader died: draining sticks, else the later decision counts."""
    first, last = sorted((one, other), key=lambda drain: drain.epoch)
    drains = [drain for drain in (one, other) if drain.started is not None]
    begin = min(drains, key=lambda drain: drain.started or 0.0) if drains else last
    return replace(
        last,
        started=begin.started,
        settle_end=begin.settle_end,
        deadline=begin.deadline,
        closed=first.closed or last.closed,
        released=first.released or last.released,
    )


def _later(drain: Drain, now: float) -> int:
    """An epoch after this one, and after any that another process chose earlier: microseconds of the shared clock."""
    return max(drain.epoch + 1, int(now * 1e6))
