"""What is known of the live calls of pods: from what they said, and when, to what is told of them.

The invariant: unknown is never zero. A report counts for the moment in which it was confirmed, and a little longer; a
pod that does not answer has an unknown number of calls, unless its last word was that none is left and none begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from voicekeys.api.binding import DrainMode
from voicekeys.model.calls import CLOSED, DRAINING
from voicekeys.model.errors import AgentGarbage
from voicekeys.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Drain
    from voicekeys.model.calls import CallsReport
    from voicekeys.model.errors import AgentError
    from voicekeys.model.workload import Pod

FRESH = timedelta(seconds=5)
"""So long before a container's end may its last report have been confirmed, to count for the end."""
SAME_CALL = timedelta(seconds=2)
"""Two reports' ages of the oldest call differ by less than that for the same call: they travel and are rounded."""
EARLY = timedelta(seconds=2)
"""A container that ended so long before its deadline was not killed at it: finishedAt and the deadline are in seconds,
and the library's guard lets go one second before."""
ORDERLY = frozenset({0, 143})
"""Exit codes of a process that ended after SIGTERM by itself, or by SIGTERM; never of SIGKILL (137) or a crash."""
NAMED_PODS = 3
"""As many pods are named in a message."""


class Ended(NamedTuple):
    """Calls of a pod that ended since it was first asked."""

    completed: int = 0
    forced: int = 0
    aborted: int = 0


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
        return f"pod {pod} ended with {_count(end.forced, 'live call')}{more}: cut, and counted as forced"
    if end.doubt == 0:
        return None
    number = "an unknown number of calls" if end.doubt is None else _count(end.doubt, "call")
    return f"pod {pod} ended unseen: {number} may have been cut"


class Live(NamedTuple):
    """A draining pod, as it is told.

    Args:
        pod: its name.
        deadline: when the kubelet kills it; None while it is not being deleted.
        sight: what was last heard of it; None where it was never asked.
    """

    pod: str
    deadline: datetime | None
    sight: Sight | None


def draining_text(workload: str, pods: Sequence[Live]) -> str:
    """Say what a workload's draining pods still wait for; the text changes with a call, not with each look.

    Args:
        workload: kind and name.
        pods: at least one.
    """
    sights = [pod.sight or NEVER for pod in pods]
    known = sum(sight.calls or 0 for sight in sights)
    silent = [pod for pod, sight in zip(pods, sights, strict=True) if sight.calls is None]
    least = any(sight.calls is not None and not _is_complete(sight) for sight in sights)
    parts = [_work(workload, len(pods), known, silent=len(silent), least=least)]
    oldest = min((sight.oldest for sight in sights if sight.oldest is not None and sight.calls), default=None)
    parts[0] += f", the oldest since {_time(oldest)}" if oldest else ""
    if silent:
        parts.append(_silence(silent))
    deadlines = [pod.deadline for pod in pods if pod.deadline is not None]
    if deadlines:
        parts.append(f"{'it' if len(pods) == 1 else 'the first'} is killed at {_time(min(deadlines))}")
    return "; ".join(parts)


def _is_complete(sight: Sight) -> bool:
    return sight.report is not None and sight.report.complete


def _work(workload: str, pods: int, known: int, *, silent: int, least: bool) -> str:
    who = f"{_count(pods, 'pod')} of {workload}"
    if known or least:
        return f"{who} still {_do(pods, 'finish')} {'at least ' if least or silent else ''}{_count(known, 'call')}"
    if silent:
        return f"{who} {_do(pods, 'drain')}"
    return f"{who} {'has' if pods == 1 else 'have'} no call left and {_do(pods, 'end')}"


def _silence(pods: Sequence[Live]) -> str:
    names = ", ".join(pod.pod for pod in pods[:NAMED_PODS]) + (", …" if len(pods) > NAMED_PODS else "")
    error = next((pod.sight.error for pod in pods if pod.sight is not None and pod.sight.error is not None), None)
    return f"how many calls {names} {_do(len(pods), 'have')} is not known" + (f" ({error.message})" if error else "")


class Counted(NamedTuple):
    """The draining pods of a binding, for metrics.

    Args:
        calls: live on those that answer; None where none does.
        oldest: when the oldest of these began.
        unknown: pods that do not answer.
    """

    calls: int | None
    oldest: datetime | None
    unknown: int


def counted(sights: Iterable[Sight]) -> Counted:
    """Add up what is known of draining pods."""
    sights = list(sights)
    known = [sight.calls for sight in sights if sight.calls is not None]
    oldest = min((sight.oldest for sight in sights if sight.oldest is not None and sight.calls), default=None)
    return Counted(sum(known) if known else None, oldest, len(sights) - len(known))


def is_unarmed(pod: Pod) -> bool:
    """Whether a pod's calls are cut when it is deleted, for all that can be seen: nobody gave it a drain hook."""
    return not pod.armed and pod.hook is None


def is_unprotected(pod: Pod, drain: Drain) -> bool:
    """Whether a pod's calls are cut when it is deleted.

    An agent that drains itself on SIGTERM needs no hook, only a grace that is long enough.
    """
    if drain.mode is not DrainMode.SIGNAL:
        return is_unarmed(pod)
    longest = drain.max_call_duration
    return longest is not None and pod.grace_seconds < longest.total_seconds()


def unarmed_block(workload: str, unarmed: Mapping[str, Sight]) -> Verdict | None:
    """Say why unarmed pods must not be restarted now; None where none of them has a live call.

    Args:
        workload: kind and name.
        unarmed: what each says of its calls, asked just now, by its name.
    """
    busy = {pod: sight for pod, sight in unarmed.items() if not sight.none_live}
    if not busy:
        return None
    known = sum(sight.calls or 0 for sight in busy.values())
    silent = [pod for pod, sight in busy.items() if not _is_complete(sight) or sight.calls is None]
    tell = [f"they have {'at least ' if silent else ''}{_count(known, 'live call')}"] if known else []
    if silent:
        names = ", ".join(silent[:NAMED_PODS]) + (", …" if len(silent) > NAMED_PODS else "")
        tell.append(f"how many {names} {_do(len(silent), 'have')} is not known")
    made = f"{_count(len(unarmed), 'pod')} of {workload} {'was' if len(unarmed) == 1 else 'were'} made without"
    message = (
        f"{made} a drain hook, and a restart on the new key would cut their calls: {', '.join(tell)}. It goes on when "
        "none is live, or when a rollout of your own has replaced them; to go on now and cut calls, annotate the "
        "binding with voicekeys.dev/arm: now"
    )
    return Verdict("UnarmedPodsHaveCalls" if known else "UnarmedPodsUnknown", message)


def deletion_costs(sights: Mapping[str, Sight]) -> dict[str, int]:
    """Give each pod its pod-deletion-cost: its live calls (facts K11). An unknown number comes after every known one.

    Args:
        sights: by the pod's name.
    """
    most = max((sight.calls for sight in sights.values() if sight.calls is not None), default=0)
    return {pod: most + 1 if sight.calls is None else sight.calls for pod, sight in sights.items()}


def released_text(pod: str, calls: int) -> str:
    """Say what a release has cut."""
    return f"pod {pod} was released: {_count(calls, 'call')} {'was' if calls == 1 else 'were'} cut, counted as forced"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _do(number: int, verb: str) -> str:
    """A verb in the present tense, for one or for many."""
    if number != 1:
        return verb
    return {"have": "has", "finish": "finishes"}.get(verb, f"{verb}s")


def _time(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
