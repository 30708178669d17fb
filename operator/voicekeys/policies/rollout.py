"""One agent's next step on a new key: hold, patch the template, watch, roll back, or nothing.

The invariant: a template is patched only after the Secret has carried the key for ``rollout.propagation`` (a kubelet
may serve a cached Secret), and a rollback always returns to a trigger and a digest that were in use before.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from voicekeys.api.status import MAX_RESTARTS, AgentStatus
from voicekeys.model.digest import UNKNOWN_DIGEST
from voicekeys.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Agent, Rollout
    from voicekeys.model.workload import Pod, Workload

BUDGET_WINDOW = timedelta(hours=1)
ONE_RESTART = timedelta(seconds=10)
"""Bindings of one workload whose keys change together wait for one another this long, and restart it once."""


AGAIN = "-"
"""Between a digest and a number, in the trigger of pods that are restarted although their trigger has that digest."""


MOST_STRIPS = 1
"""A trigger that somebody takes off is put back so often; more would restart pods for nothing, again and again."""


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


def adopt(agent: Agent, status: AgentStatus | None, workload: Workload, annotation: str, baseline: str) -> AgentStatus:
    """Record what a workload carries; adoption believes what it finds, so that it restarts nothing (design §7).

    Args:
        agent: the agent of the binding.
        status: what was recorded, None at first sight.
        workload: what the API server has.
        annotation: the binding's trigger annotation.
        baseline: digest of the data that the workload's pods were started with, as far as anyone can know.
    """
    trigger = workload.triggers.get(annotation, "")
    if status is None:
        return AgentStatus(agent.kind, agent.name, workload.uid, trigger=trigger, digest=baseline)
    if status.digest is None or status.uid != workload.uid:
        return rebase(status, workload, annotation, baseline)
    if trigger == status.trigger:
        return status
    # Our own patch whose outcome was not recorded, or somebody's edit: the trigger says what the pods have.
    before = status.previous_digest if trigger == (status.previous_trigger or "") else None
    return patched(status, trigger, before or trigger.partition(AGAIN)[0])


def rekeyed(status: AgentStatus, secret: str | None, baseline: str) -> AgentStatus:
    """Take a new baseline after the fingerprint key changed: no digest of the old one can be compared any more.

    The pods that are still watched stay watched: they are known by UID. There is no way back any more. A restart that
    was still to come, by two digests of the old key, stays to come.

    Args:
        status: what was recorded of the agent.
        secret: digest that was recorded of the Secret, under the old key as well.
        baseline: digest under the new key of the data that pods were started with.
    """
    held = status.digest is not None and secret is not None and status.digest != secret
    digest = UNKNOWN_DIGEST if held else baseline
    return replace(status, digest=digest, previous_trigger=None, previous_digest=None, previous_diverged_time=None)


def rebase(status: AgentStatus, workload: Workload, annotation: str, baseline: str) -> AgentStatus:
    """Take a new baseline for a workload that was made anew; old pods of the one before stay watched."""
    trigger = workload.triggers.get(annotation, "")
    return replace(
        status,
        uid=workload.uid,
        trigger=trigger,
        digest=baseline,
        previous_trigger=None,
        previous_digest=None,
        intended_trigger=None,
        diverged_time=None,
        previous_diverged_time=None,
    )


def diverged(status: AgentStatus, desired: str, now: datetime) -> AgentStatus:
    """Note since when the Secret has held, or is about to hold, other data than the agent's template stands for."""
    if status.digest in {None, desired} or status.diverged_time is not None:
        return status
    return replace(status, diverged_time=now.replace(microsecond=0))


def doubted(status: AgentStatus) -> AgentStatus:
    """Take it that the pods of the present template may have other data than it stands for: they are restarted."""
    return replace(status, digest=UNKNOWN_DIGEST)


def target_trigger(status: AgentStatus, desired: str) -> str:
    """The trigger value that stands for a digest: the one that the template had, if it is a way back; else itself.

    Going back to the very template of before lets the controller take up its old ReplicaSet: no pod restarts twice.
    """
    if desired == status.digest:
        return status.trigger or ""
    if desired == status.previous_digest:
        return status.previous_trigger or ""
    return desired


def next_trigger(status: AgentStatus, desired: str, taken: Collection[str], *, doubtful: bool = False) -> str:
    """The trigger to patch for a digest, which no pod has that may hold other data.

    Args:
        status: what is recorded of the agent.
        desired: digest of the data that its pods should have.
        taken: the triggers of pods that may have other data.
        doubtful: the pods of the previous template may have other data than it stands for.
    """
    if desired == status.previous_digest and not doubtful:
        return status.previous_trigger or ""
    used = {*taken, status.trigger, status.previous_trigger}
    if desired not in used:
        return desired
    return next(anew for number in itertools.count(1) if (anew := f"{desired}{AGAIN}{number}") not in used)


def begin(status: AgentStatus, trigger: str, now: datetime) -> AgentStatus:
    """Record the intent to patch: the way back, the time, one restart of the budget. Written before the patch."""
    in_flight = status.patched_time is not None
    return replace(
        status,
        intended_trigger=trigger,
        previous_diverged_time=status.previous_diverged_time if in_flight else status.diverged_time,
        # A change that overtakes another one in flight goes back to what was proven before both.
        previous_trigger=status.previous_trigger if in_flight else status.trigger,
        previous_digest=status.previous_digest if in_flight else status.digest,
        patched_time=now,
        restarts=tuple(one for one in (*restarted(status), now) if now - one < BUDGET_WINDOW)[-MAX_RESTARTS:],
    )


def patched(status: AgentStatus, trigger: str, digest: str) -> AgentStatus:
    """Record that the template has a trigger, and which data that stands for."""
    back = digest == status.previous_digest and trigger == (status.previous_trigger or "")
    since = status.previous_diverged_time if back else None
    return replace(status, trigger=trigger, digest=digest, intended_trigger=None, diverged_time=since)


def progressed(status: AgentStatus, new: Sequence[Pod]) -> datetime | None:
    """When a rollout last got on: its patch, a new pod that got ready, the oldest one that still starts.

    A large workload, or one whose pods wait for calls to end, takes many times as long as one pod may take.

    Args:
        status: what is recorded of the agent.
        new: its pods of the wanted template.
    """
    if status.patched_time is None:
        return None
    ready = [pod.ready_time for pod in new if pod.ready and pod.ready_time is not None]
    starting = [pod.created for pod in new if not pod.ready and pod.created is not None]
    return max([status.patched_time, *ready, *sorted(starting)[:1]])


def finish(status: AgentStatus) -> AgentStatus:
    """Record that the new pods serve: there is no way back any more, and none is needed."""
    return replace(
        status,
        previous_trigger=None,
        previous_digest=None,
        patched_time=None,
        intended_trigger=None,
        diverged_time=None,
        previous_diverged_time=None,
        strips=None,
    )


def stripped(status: AgentStatus, found: AgentStatus) -> AgentStatus:
    """Record that somebody took the trigger of the wanted digest off the template, or changed it.

    Where nothing was in flight, every pod had the current data, and one of the edited template starts with it, too:
    it is current as it is, and nothing restarts once more.

    Args:
        status: what was recorded.
        found: what the template says now.
    """
    if status.patched_time is status.diverged_time is None and not status.old_pods:
        return replace(status, trigger=found.trigger)
    return replace(found, strips=(status.strips or 0) + 1)


def restarted(status: AgentStatus) -> tuple[datetime, ...]:
    """When an agent was restarted. An intent whose patch has not come to pass (yet) has restarted nothing."""
    undone = status.intended_trigger is not None and status.restarts[-1:] == (status.patched_time,)
    return status.restarts[:-1] if undone else status.restarts


def spent(own: Sequence[datetime], now: datetime, others: Sequence[datetime] = ()) -> list[datetime]:
    """Restarts of a workload within the budget's window, oldest first.

    Args:
        own: those of this binding.
        now: wall time.
        others: those of other bindings; what was done together with one that is counted already is the same restart.
    """
    kept = [moment for moment in own if now - moment < BUDGET_WINDOW]
    for moment in sorted(moment for moment in others if now - moment < BUDGET_WINDOW):
        if all(abs(moment - counted) >= ONE_RESTART for counted in kept):
            kept.append(moment)
    return sorted(kept)


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
    if not progress.rolling_back and len(progress.spent) >= budget:
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
        message = f"{workload.id} is paused and carries the new key: its pods restart when you resume it"
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
