"""One agent's next step on a new key: hold, patch the template, watch, roll back, or nothing.

The invariant: a template is patched only after the Secret has carried the key for ``rollout.propagation`` (a kubelet
may serve a cached Secret), and a rollback always returns to a trigger and a digest that were in use before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from voicekeys.model.verdict import Verdict
from voicekeys.policies.records import BUDGET_WINDOW, MOST_STRIPS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from voicekeys.api.binding import Rollout
    from voicekeys.api.status import AgentStatus
    from voicekeys.model.workload import Pod, Workload


class Do(Enum):
    """What to do with one agent now."""

    NOTHING = auto()
    HOLD = auto()
    PATCH = auto()
    WATCH = auto()
    ROLL_BACK = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """The next step and what to say about it.

    Args:
        do: the act.
        verdict: why; None only where all is done.
        wake: when to look again although no event came.
        stalls: a person must act.
    """

    do: Do
    verdict: Verdict | None = None
    wake: datetime | None = None
    stalls: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One agent at one moment.

    Args:
        status: what is recorded of it.
        workload: what the API server has.
        desired: digest of the data that its pods should have.
        ready_at: when the template may be patched: the Secret was written, its propagation is over.
        settings: timeouts and budgets of the binding.
        spent: restarts of this workload in the last hour, by any binding.
        old_serving: pods on another trigger that are not terminating.
        troubled: pods of the wanted template that do not start.
        rolling_back: the desired digest is the previous one.
        now: wall time.
        since: when the rollout last got on, less the time that nobody watched; None before it began.
        way_back: there is another version to go back to.
        along: other bindings whose keys came with the same restart.
        annotation: the binding's trigger annotation.
        leaked: the key of before has leaked: it is not put back, and the new one waits for no budget.
    """

    status: AgentStatus
    workload: Workload
    desired: str
    ready_at: datetime
    settings: Rollout
    spent: Sequence[datetime]
    old_serving: int
    troubled: Sequence[Pod]
    rolling_back: bool
    now: datetime
    since: datetime | None = None
    way_back: bool = True
    along: Sequence[str] = ()
    annotation: str = ""
    leaked: bool = False


def decide(progress: Progress, block: Verdict | None) -> Step:
    """Say what to do with one agent.

    Args:
        progress: where it stands.
        block: what preflight found in the way, None for nothing.
    """
    if progress.status.digest != progress.desired:
        return _before_patch(progress, block)
    begun = progress.status.patched_time is not None or progress.rolling_back
    if begun and (progress.old_serving or not progress.workload.rolled_out):
        return _after_patch(progress)
    if progress.status.diverged_time is not None and progress.now < progress.ready_at:
        message = f"the Secret holds the key of {progress.workload.id} again; whether a pod read another one shows soon"
        return Step(Do.HOLD, Verdict("Propagating", message), progress.ready_at)
    return Step(Do.NOTHING)


def _before_patch(progress: Progress, block: Verdict | None) -> Step:
    now, workload = progress.now, progress.workload
    if (progress.status.strips or 0) > MOST_STRIPS:
        return Step(Do.HOLD, Verdict("TriggerRemoved", trigger_removed(workload, progress.annotation)), stalls=True)
    if block is not None:
        return Step(Do.HOLD, block, now + timedelta(minutes=1), stalls=True)
    if now < progress.ready_at:
        seconds = progress.settings.propagation.total_seconds()
        waiting = f"the Secret has the new key; {workload.id} restarts {seconds:g} s later, when every node can read it"
        return Step(Do.HOLD, Verdict("Propagating", waiting), progress.ready_at)
    budget = progress.settings.max_restarts_per_hour
    if not (progress.rolling_back or progress.leaked) and len(progress.spent) >= budget:
        free = progress.spent[-budget] + BUDGET_WINDOW
        message = (
            f"{workload.id} was restarted {len(progress.spent)} times within an hour, as often as "
            f"spec.rollout.maxRestartsPerHour allows; it goes on at {free:%Y-%m-%dT%H:%M:%SZ}. "
            "Find out what changes the key so often, or raise the number"
        )
        return Step(Do.HOLD, Verdict("RestartBudgetSpent", message), free, stalls=True)
    return Step(Do.PATCH, Verdict("Patching", f"{workload.id} is being restarted on the new key"))


def trigger_removed(workload: Workload, annotation: str) -> str:
    """Say who takes a trigger off, and how to have it stay."""
    who = workload.writer or "somebody"
    return (
        f"{who} took annotation {annotation} off the pod template of {workload.id}, or changed it, so that its pods "
        "restart for nothing: let that tool ignore annotations of /spec/template/metadata (Argo CD: ignoreDifferences "
        "with RespectIgnoreDifferences=true; Helm, Kustomize: no patch that replaces them), then annotate the binding "
        "with voicekeys.dev/sync-now"
    )


def _by_its_user(workload: Workload) -> Step | None:
    """What only the workload's owner can go on with, and no timeout counts."""
    if workload.paused:
        message = f"{workload.id} is paused and carries the new key: resume it, and its pods restart"
        return Step(Do.HOLD, Verdict("WaitingForResume", f"{message} (kubectl rollout resume)"))
    if workload.strategy["type"] == "OnDelete":
        message = f"{workload.id} carries the new key; delete its old pods one by one, each takes the key as it returns"
        return Step(Do.WATCH, Verdict("WaitingForDelete", message))
    if _held_by_partition(workload):
        message = (
            f"{workload.id} carries the new key; its pods below spec.updateStrategy.rollingUpdate.partition "
            f"{workload.strategy['partition']} take it when you set partition to 0"
        )
        return Step(Do.WATCH, Verdict("WaitingForPartition", message))
    return None


def _after_patch(progress: Progress) -> Step:
    workload, status = progress.workload, progress.status
    held = _by_its_user(workload)
    if held is not None:
        return held
    done = f"{min(workload.updated, workload.available)} of {workload.replicas} pods of {workload.id} serve"
    since = progress.since or status.patched_time or progress.now
    due = since + progress.settings.timeout
    if progress.now < due:
        back = "go back to the previous key" if progress.rolling_back else "restart on the new key"
        return Step(
            Do.WATCH, Verdict("RollingBack" if progress.rolling_back else "Rolling", f"{done}; they {back}"), due
        )
    trouble = _trouble(progress.troubled) + _along(progress.along)
    late = f"{done} {_minutes(progress.settings.timeout)} after the restart on the new key{trouble}"
    if progress.leaked:
        advice = "The previous key has leaked and is not put back: put a working key into Vault"
        return Step(Do.WATCH, Verdict("LeakedKeyNotPutBack", f"{late}. {advice}"), stalls=True)
    if progress.rolling_back or status.previous_digest is None or not progress.way_back:
        return Step(Do.WATCH, Verdict("RolloutTimedOut", f"{late}: see `kubectl describe pod`"), stalls=True)
    if not workload.settled:
        return Step(Do.WATCH, Verdict("Rolling", f"{late}: the workload's controller has not taken it up yet"))
    # What follows ". Version" is replaced by the two versions' numbers as soon as the way back is taken.
    advice = "Versions are being changed back: put a working key into Vault"
    return Step(Do.ROLL_BACK, Verdict("NewKeyRefused", f"{late}. {advice}"), stalls=True)


def _held_by_partition(workload: Workload) -> bool:
    """Whether all pods of a StatefulSet that its partition lets go are of the newest template and serve."""
    partition = int(workload.strategy.get("partition") or 0)
    free = max(0, workload.replicas - partition)
    serving = workload.available >= workload.replicas
    return partition > 0 and workload.settled and workload.updated >= free and serving


def _trouble(pods: Sequence[Pod]) -> str:
    reasons = [f"{pod.name}: {pod.trouble}" for pod in pods if pod.trouble]
    return f" ({reasons[0]})" if reasons else ""


def _along(others: Sequence[str]) -> str:
    if not others:
        return ""
    return f", which brought the keys of VoiceKeyBinding {' and '.join(others)}, too: any of them may be the cause"


def _minutes(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
