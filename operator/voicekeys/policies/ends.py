"""How the calls of a pod ended that is no more: by what was last heard of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from voicekeys.model.calls import CLOSED, DRAINING
from voicekeys.policies.words import count

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.model.calls import CallsReport
    from voicekeys.model.workload import Pod
    from voicekeys.policies.sights import Sight

FRESH = timedelta(seconds=5)
"""So long before a container's end may its last report have been confirmed, to count for the end."""
EARLY = timedelta(seconds=2)
"""A container that ended so long before its deadline was not killed at it: finishedAt and the deadline are in seconds,
and the library's guard lets go one second before."""
ORDERLY = frozenset({0, 143})
"""Exit codes of a process that ended after SIGTERM by itself, or by SIGTERM; never of SIGKILL (137) or a crash."""


class End(NamedTuple):
    """How the calls of a pod ended.

    Args:
        completed: by themselves, while it was watched.
        forced: were live when it ended, or were released.
        aborted: with a process of the pod that died.
        doubt: calls that may have been cut, for nobody looked at the end; None: nobody knows how many.
    """

    completed: int
    forced: int
    aborted: int
    doubt: int | None


def end_of(sight: Sight | None, pod: Pod | None, now: datetime) -> End:
    """Say how the calls of a pod ended that is no more: by its last sight, not by its exit code (design §7).

    One thing the last sight cannot tell: what changed after it, where nobody waited at the pod for a change. There the
    order of a kubelet helps: it signals a container only when its hook has answered, which a draining one does with no
    call left. So a process that drained, and ended in good order before its deadline, cut none. Where somebody did wait
    and nothing came, the two witnesses disagree: that is a doubt.

    Args:
        sight: what was last heard of it; None where it was never asked.
        pod: its last object; None where nobody saw it end.
        now: wall time.
    """
    if sight is None or sight.report is None or sight.confirmed is None:
        return End(0, 0, 0, None)
    report, (completed, forced, aborted) = sight.report, sight.ended
    live = _uncut(report)
    if sight.is_over:
        return End(completed, forced, aborted, 0)
    if report.state in DRAINING and _is_orderly(pod):
        return End(completed, forced, aborted, live) if sight.held else End(completed + live, forced, aborted, 0)
    ended = pod.ended_time if pod is not None else None
    if (ended or now) - sight.confirmed <= FRESH:
        return End(completed, forced + live, aborted, 0 if report.complete else None)
    known = report.complete and report.state in CLOSED
    return End(completed, forced, aborted, live if known else None)


def with_release(end: End, released: int) -> End:
    """Count the calls that a release has cut, also where the pod ended before it could tell of them itself.

    Args:
        end: by the last sight, which may be of before the release.
        released: how many the pod said that the release cuts.
    """
    missing = max(0, released - end.forced)
    return end._replace(forced=end.forced + missing, completed=max(0, end.completed - missing))


def _is_orderly(pod: Pod | None) -> bool:
    if pod is None or pod.ended_time is None or pod.deadline is None or pod.exit_code not in ORDERLY:
        return False
    return pod.deadline - pod.ended_time >= EARLY


def _uncut(report: CallsReport) -> int:
    """Live calls that the pod does not count as forced yet; those of a release are live until they are cut."""
    if report.tally is None:
        return report.active
    started, completed, _, forced, aborted = report.tally
    return max(0, min(report.active, started - completed - forced - aborted))


def end_text(pod: str, end: End) -> str | None:
    """Say that a pod's end cut calls, or may have; None where it did not."""
    if end.forced:
        more = "" if end.doubt == 0 else ", and perhaps others"
        return f"pod {pod} ended with {count(end.forced, 'live call')}{more}: cut, and counted as forced"
    if end.doubt == 0:
        return None
    number = "an unknown number of calls" if end.doubt is None else count(end.doubt, "call")
    return f"pod {pod} ended unseen: {number} may have been cut"
