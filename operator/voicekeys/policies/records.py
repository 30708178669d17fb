"""What is recorded of one agent on its way to a new key: baselines, triggers, the way back, the budget. All pure."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api.status import MAX_RESTARTS, AgentStatus
from voicekeys.model.digest import UNKNOWN_DIGEST

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Agent
    from voicekeys.model.workload import Pod, Workload

BUDGET_WINDOW = timedelta(hours=1)
ONE_RESTART = timedelta(seconds=10)
"""Bindings of one workload whose keys change together wait for one another this long, and restart it once."""


AGAIN = "-"
"""Between a digest and a number, in the trigger of pods that are restarted although their trigger has that digest."""


MOST_STRIPS = 1
"""A trigger that somebody takes off is put back so often; more would restart pods for nothing, again and again."""


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


def is_remade(status: AgentStatus | None, workload: Workload, desired: str) -> bool:
    """Whether a workload was made anew while a restart was still to come: its pods may be those of before."""
    if status is None or status.uid in {None, workload.uid}:
        return False
    return status.digest != desired or status.diverged_time is not None


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
