"""What is told of the live calls of a workload, and what follows from them for its restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from voicekeys.api.binding import DrainMode
from voicekeys.model.hook import HookKind
from voicekeys.model.verdict import Verdict
from voicekeys.policies.sights import NEVER
from voicekeys.policies.words import clock_time, count, do, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Drain
    from voicekeys.model.workload import Pod
    from voicekeys.policies.sights import Sight


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
    parts[0] += f", the oldest since {clock_time(oldest)}" if oldest else ""
    if silent:
        parts.append(_silence(silent))
    deadlines = [pod.deadline for pod in pods if pod.deadline is not None]
    if deadlines:
        parts.append(f"{'it' if len(pods) == 1 else 'the first'} is killed at {clock_time(min(deadlines))}")
    return "; ".join(parts)


def _is_complete(sight: Sight) -> bool:
    return sight.report is not None and sight.report.complete


def _work(workload: str, pods: int, known: int, *, silent: int, least: bool) -> str:
    who = f"{count(pods, 'pod')} of {workload}"
    if known or least:
        return f"{who} still {do(pods, 'finish')} {'at least ' if least or silent else ''}{count(known, 'call')}"
    if silent:
        return f"{who} {do(pods, 'drain')}"
    return f"{who} {'has' if pods == 1 else 'have'} no call left and {do(pods, 'end')}"


def _silence(pods: Sequence[Live]) -> str:
    names = listed([pod.pod for pod in pods])
    error = next((pod.sight.error for pod in pods if pod.sight is not None and pod.sight.error is not None), None)
    return f"how many calls {names} {do(len(pods), 'have')} is not known" + (f" ({error.message})" if error else "")


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


_HOOKS = {
    DrainMode.HTTP: HookKind.CONTRACT,
    DrainMode.GAUGE: HookKind.CONTRACT,
    DrainMode.EXEC: HookKind.EXEC,
    DrainMode.SLEEP: HookKind.SLEEP,
}


def is_unprotected(pod: Pod, drain: Drain) -> bool:
    """Whether a pod's calls are cut when it is deleted, for all that can be seen.

    What counts is the hook that its mode needs: a pod's annotations are its author's, and a `sleep 5` is in many
    manifests. None waits longer than the pod's grace. An agent that drains itself on SIGTERM needs no hook.
    """
    kind, longest = _HOOKS.get(drain.mode), drain.max_call_duration
    if kind is not None and (pod.hook is None or pod.hook.kind is not kind):
        return True
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
    made = f"{count(len(unarmed), 'pod')} of {workload} {'was' if len(unarmed) == 1 else 'were'} made without"
    message = (
        f"{made} a drain hook or the grace for it, and a restart would cut their calls: {live_text(busy)}. It goes on "
        "when none is live, or when a rollout of your own has replaced them; to go on now and cut calls, set "
        "voicekeys.dev/arm of the binding to a new value"
    )
    return Verdict("UnarmedPodsHaveCalls" if known else "UnarmedPodsUnknown", message)


def live_text(busy: Mapping[str, Sight]) -> str:
    """Say how many live calls pods have, as far as it is known.

    Args:
        busy: what each that may have one says of its calls, by its name.
    """
    known = sum(sight.calls or 0 for sight in busy.values())
    silent = [pod for pod, sight in busy.items() if not _is_complete(sight) or sight.calls is None]
    tell = [f"they have {'at least ' if silent else ''}{count(known, 'live call')}"] if known else []
    if silent:
        tell.append(f"how many {listed(silent)} {do(len(silent), 'have')} is not known")
    return ", ".join(tell) or "none of them has a live call"


def deletion_costs(sights: Mapping[str, Sight]) -> dict[str, int]:
    """Give each pod its pod-deletion-cost: its live calls (facts K11). An unknown number comes after every known one.

    Args:
        sights: by the pod's name.
    """
    most = max((sight.calls for sight in sights.values() if sight.calls is not None), default=0)
    return {pod: most + 1 if sight.calls is None else sight.calls for pod, sight in sights.items()}


def released_text(pod: str, calls: int) -> str:
    """Say what a release has cut."""
    return f"pod {pod} was released: {count(calls, 'call')} {'was' if calls == 1 else 'were'} cut, counted as forced"
