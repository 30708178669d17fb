"""What a pod says of its live calls: the drain contract's ``/calls``, version 1, read strictly.

A pod is not trusted: whoever may run one may answer anything. What cannot be understood is an error, never a zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTRACT = 1
MOST = 1_000_000
"""Calls that one pod may have: more are a fault of the counting."""
LONGEST_SECONDS = 366 * 24 * 3600.0
LONGEST_WORD = 128
"""Characters of an ``instance``: the library's has 32."""
_LAST_REVISION = 2**63 - 1


class DrainState(StrEnum):
    """Where a pod stands; the words of the contract."""

    SERVING = "serving"
    CORDONED = "cordoned"
    SETTLING = "settling"
    REFUSING = "refusing"
    IDLE = "idle"
    RELEASED = "released"


DRAINING = frozenset({DrainState.SETTLING, DrainState.REFUSING, DrainState.IDLE, DrainState.RELEASED})
"""Nothing leads out of these but the pod's end."""
CLOSED = DRAINING - {DrainState.SETTLING}
"""No call begins any more."""


class Tally(NamedTuple):
    """Calls counted since an instance started: ``started`` is the sum of the others and those that are live."""

    started: int
    completed: int
    refused: int
    forced: int
    aborted: int


@dataclass(frozen=True, slots=True)
class CallsReport:
    """One answer of ``/calls``.

    Args:
        instance: who counts; with another one the counters start anew.
        revision: changes whenever anything here but an age does.
        state: where the pod stands.
        cordoned: told to take no calls, whatever the state.
        active: live calls; a lower bound where the report is not complete.
        complete: every process of the pod was heard.
        oldest_seconds: age of the oldest live call; None without one, or where nobody knows.
        leaked: live calls that are older than the agent allows.
        tally: None where the agent does not count how calls end, as a gauge does not.
        checks_token: what the agent says of itself.
    """

    instance: str
    revision: int
    state: DrainState
    cordoned: bool
    active: int
    complete: bool
    oldest_seconds: float | None
    leaked: int
    tally: Tally | None
    checks_token: bool

    @property
    def none_live(self) -> bool:
        """Whether it is known that no call is live."""
        return self.complete and self.active == 0


def parse_calls(body: object) -> CallsReport:
    """Read an answer of ``/calls``.

    Args:
        body: decoded JSON.

    Raises:
        ValueError: it is not what the contract says; the text names the field, never what was in it.
    """
    if not isinstance(body, dict):
        raise _wrong("the answer")
    if body.get("contract") != CONTRACT or isinstance(body["contract"], bool):
        raise _wrong("contract")
    instance = body.get("instance")
    if not isinstance(instance, str) or not 0 < len(instance) <= LONGEST_WORD:
        raise _wrong("instance")
    active = _count(body, "active")
    leaked = _count(body, "leaked") if "leaked" in body else 0
    if leaked > active:
        raise _wrong("leaked")
    return CallsReport(
        instance=instance,
        revision=_count(body, "revision", _LAST_REVISION),
        state=_state(body.get("state")),
        cordoned=_flag(body, "cordoned") if "cordoned" in body else body["state"] == DrainState.CORDONED,
        active=active,
        complete=_flag(body, "complete"),
        oldest_seconds=_seconds(body, active),
        leaked=leaked,
        tally=_tally(body.get("calls")),
        checks_token=_flag(body, "token"),
    )


def parse_forced(body: object) -> int:
    """Read how many calls a ``/release`` has forced. Raises ValueError as `parse_calls`."""
    if not isinstance(body, dict):
        raise _wrong("the answer")
    return _count(body, "forced")


def _wrong(field: str) -> ValueError:
    return ValueError(field)


def _state(word: object) -> DrainState:
    if not isinstance(word, str) or word not in set(DrainState):
        raise _wrong("state")
    return DrainState(word)


def _count(body: Mapping[str, Any], field: str, most: int = MOST) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= most:
        raise _wrong(field)
    return value


def _flag(body: Mapping[str, Any], field: str) -> bool:
    value = body.get(field)
    if not isinstance(value, bool):
        raise _wrong(field)
    return value


def _seconds(body: Mapping[str, Any], active: int) -> float | None:
    value = body.get("oldestCallSeconds")
    if value is None or active == 0:
        return None
    if type(value) not in {int, float} or not 0 <= value <= LONGEST_SECONDS:
        raise _wrong("oldestCallSeconds")
    return float(value)


def _tally(value: object) -> Tally | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _wrong("calls")
    counts = [_count(value, field, _LAST_REVISION) for field in Tally._fields]
    _count(value, "forced")  # these are added up in the status, whose numbers have 32 bits
    return Tally(*counts)
