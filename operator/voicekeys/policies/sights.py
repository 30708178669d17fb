"""What is known of the live calls of one pod: from what it said, and when.

The invariant: unknown is never zero. A report counts for the moment in which it was confirmed, and a little longer; a
pod that does not answer has an unknown number of calls, unless its last word was that none is left and none begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from voicekeys.model.calls import CLOSED, DRAINING
from voicekeys.model.errors import AgentGarbage

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.model.calls import CallsReport
    from voicekeys.model.errors import AgentError

SAME_CALL = timedelta(seconds=2)
"""Two reports' ages of the oldest call differ by less than that for the same call: they travel and are rounded."""


class Ended(NamedTuple):
    """Calls of a pod that ended since it was first asked."""

    completed: int = 0
    forced: int = 0
    aborted: int = 0

    def plus(self, other: Ended) -> Ended:
        """Those of two pods together."""
        return Ended(*(sum(pair) for pair in zip(self, other, strict=True)))


NOTHING = Ended()


@dataclass(frozen=True, slots=True)
class Sight:
    """What was last heard of one pod's calls.

    Args:
        report: the last one; None where it never answered.
        confirmed: until when the report is known to hold (wall time of the operator).
        oldest: when the oldest live call began.
        ended: what its reports add up to.
        error: why it does not answer now; None where it does.
        held: the pod's end closed the connection while a change was waited for: nothing was missed.
    """

    report: CallsReport | None = None
    confirmed: datetime | None = None
    oldest: datetime | None = None
    ended: Ended = NOTHING
    error: AgentError | None = None
    held: bool = False

    @property
    def calls(self) -> int | None:
        """Live calls, at least; None where nobody knows. Where no call begins any more, none stays none."""
        if self.report is None or not (self.error is None or self.is_over):
            return None
        return self.report.active

    @property
    def none_live(self) -> bool:
        """Whether no call is known to be live: the report is complete, and holds now."""
        return self.calls == 0 and self.report is not None and self.report.complete

    @property
    def is_over(self) -> bool:
        """Whether no call is live, and none can begin."""
        return self.report is not None and self.report.none_live and self.report.state in CLOSED


NEVER = Sight()


def heard(before: Sight, report: CallsReport, now: datetime, *, terminating: bool) -> Sight:
    """Take in a report.

    Args:
        before: what was known.
        report: of now.
        now: wall time, when it came.
        terminating: the pod is being deleted: what drained once cannot serve again, so another one answers at its
            address.
    """
    last = before.report
    if terminating and last is not None and last.state in DRAINING and report.state not in DRAINING:
        return failed(before, AgentGarbage("AnotherAnswers", "another pod answers at its address"), now)
    return Sight(report, now, _oldest(before, report, now), _added(before, report))


def _oldest(before: Sight, report: CallsReport, now: datetime) -> datetime | None:
    """When the oldest call began; the moment that was told before, while it is the same call."""
    if report.oldest_seconds is None:
        return None
    began = now - timedelta(seconds=report.oldest_seconds)
    known = before.oldest
    return known if known is not None and abs(began - known) < SAME_CALL else began


def _added(before: Sight, report: CallsReport) -> Ended:
    """Add what ended between two reports; counters that start anew (another instance) never count backwards."""
    last, known = before.report, before.ended
    if last is None:
        # What was forced was so in this drain, which began before it was first looked at.
        return known if report.tally is None else known._replace(forced=known.forced + report.tally.forced)
    if last.tally is None or report.tally is None:
        # A gauge tells only how many calls are live: those that are no more have ended by themselves.
        return known._replace(completed=known.completed + max(0, last.active - report.active))
    old, new = last.tally, report.tally
    return Ended(
        known.completed + max(0, new.completed - old.completed),
        known.forced + max(0, new.forced - old.forced),
        known.aborted + max(0, new.aborted - old.aborted),
    )


def failed(before: Sight, error: AgentError, now: datetime, *, held: bool = False) -> Sight:
    """Take in that a pod did not answer.

    Args:
        before: what was known.
        error: why.
        now: wall time.
        held: it was waited for a change of the last report, and the pod's end closed the connection: until then
            nothing had changed.
    """
    if held and before.report is not None:
        return replace(before, error=error, confirmed=now, held=True)
    return replace(before, error=error)
