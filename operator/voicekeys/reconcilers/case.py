"""One agent in one reconcile: what is said of it, counted of it, and waited for, from what was gathered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.names import trigger_annotation
from voicekeys.model.verdict import Verdict
from voicekeys.policies import pods as on_old_key
from voicekeys.policies import preflight, records
from voicekeys.policies.rollout import Do, Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from voicekeys.api.binding import Agent
    from voicekeys.api.status import AgentStatus
    from voicekeys.model.workload import Pod, Workload
    from voicekeys.policies.pods import SeenPods
    from voicekeys.reconcilers.gather import Observed
    from voicekeys.reconcilers.outcome import Draft
    from voicekeys.reconcilers.way_back import Wanted

NO_TRIGGER = "-"
"""A trigger that no pod has."""


@dataclass(frozen=True, slots=True)
class Case:
    """One agent in one reconcile.

    Args:
        observed: the binding.
        draft: its status in the making.
        wanted: what its pods should have.
        agent: as the user names it.
        workload: as the API server has it.
    """

    observed: Observed
    draft: Draft
    wanted: Wanted
    agent: Agent
    workload: Workload

    @property
    def annotation(self) -> str:
        """The binding's trigger annotation."""
        return trigger_annotation(self.observed.name.name)

    def mine(self, seen: SeenPods, recorded: AgentStatus) -> SeenPods:
        """The pods of this workload alone, and those known to be on its old key: one may be let go by its owner."""
        owned = on_old_key.of_workload(seen.alive.values(), self.workload)
        known = on_old_key.alive_of(recorded.old_pods, seen)
        return on_old_key.SeenPods({pod.uid: pod for pod in owned} | known, seen.ended)

    def owned(self, mine: SeenPods) -> list[Pod]:
        """Those of its pods that it still controls: what it let go of holds a key, but takes no part in a restart."""
        return on_old_key.of_workload(mine.alive.values(), self.workload)

    def trigger(self, recorded: AgentStatus) -> str:
        """The trigger that pods on the wanted key have."""
        return records.target_trigger(recorded, self.wanted.digest)

    def of_template(self, pods: Iterable[Pod], trigger: str) -> list[Pod]:
        """Those pods whose template had a trigger."""
        return [pod for pod in pods if not on_old_key.is_old(pod, self.annotation, trigger)]

    def surplus(self, recorded: AgentStatus, mine: SeenPods) -> int:
        """Pods of a restart in flight that make room for the next ones: beyond the wanted number, or not ready.

        Where pods finish their calls, only those make room that never took one.
        """
        if recorded.patched_time is None:
            return 0
        serving = [pod for pod in self.owned(mine) if pod.serving]
        unready = sum(1 for pod in self.of_template(serving, recorded.trigger or "") if not pod.ready)
        return unready if self.agent.drain is not None else max(len(serving) - self.workload.replicas, unready)

    def ready_at(self) -> datetime:
        """When every node can read what the Secret holds."""
        return ready_at(self.observed, self.draft)

    def written(self) -> datetime:
        """When the Secret was written, not rounded up: what began then was born with what it holds."""
        return self.ready_at() - self.observed.spec.rollout.propagation - timedelta(seconds=1)

    def tells_of_another_key(self, baseline: str) -> bool:
        """Whether the template of a workload at first sight has a trigger that stands for other data than is wanted.

        A Secret that has the wanted data under another digest was written with another fingerprint key; so was the
        trigger, then, and it tells nothing.

        Args:
            baseline: digest of the data that the Secret had.
        """
        trigger = self.workload.triggers.get(self.annotation, "").partition(records.AGAIN)[0]
        stamp = self.observed.secret.stamp if self.observed.secret else None
        other_key = stamp not in {None, self.wanted.digest} and baseline == self.wanted.digest
        return trigger not in {"", self.wanted.digest} and not other_key

    def doubts(self, trigger: str, since: datetime | None, mine: SeenPods) -> bool:
        """Whether a pod of the template with this trigger may have read other data, which the Secret held until now."""
        if since is None:
            return False
        pods = self.of_template(mine.alive.values(), trigger)
        return any(on_old_key.may_differ(pod, since, self.ready_at()) for pod in pods)

    def born_before(self, mine: SeenPods) -> bool:
        """Whether a pod started before the Secret was written."""
        return any(on_old_key.is_older(pod, self.written()) for pod in mine.alive.values())

    def older(self, mine: SeenPods) -> list[Pod]:
        """The pods that started before every node could read what the Secret holds."""
        return [pod for pod in mine.alive.values() if on_old_key.is_older(pod, self.ready_at())]

    def follow_older(self, recorded: AgentStatus, mine: SeenPods) -> AgentStatus:
        """Bring the set of pods on the old key up to date by their age, where their trigger tells nothing."""
        older = on_old_key.SeenPods({pod.uid: pod for pod in self.older(mine)}, mine.ended)
        return self.follow(recorded, older, NO_TRIGGER)

    def next_trigger(self, recorded: AgentStatus, mine: SeenPods) -> str:
        """The trigger to patch; not one of pods that are older than what the Secret holds."""
        taken = {pod.triggers.get(self.annotation, "") for pod in self.older(mine)}
        doubtful = self.doubts(recorded.previous_trigger or "", recorded.previous_diverged_time, mine)
        return records.next_trigger(recorded, self.wanted.digest, taken, doubtful=doubtful)

    def follow(self, recorded: AgentStatus, mine: SeenPods, trigger: str) -> AgentStatus:
        """Bring the set of pods on the old key up to date."""
        return followed(self.observed, recorded, mine, trigger)


def followed(observed: Observed, recorded: AgentStatus, seen: SeenPods, trigger: str) -> AgentStatus:
    """Bring an agent's set of pods on the old key up to date.

    Args:
        observed: the binding.
        recorded: what is known of the agent.
        seen: its pods.
        trigger: the value that pods on the wanted key have; `NO_TRIGGER` where none is.
    """
    annotation = trigger_annotation(observed.name.name)
    old, lost = on_old_key.follow(recorded.old_pods, seen, annotation, trigger, observed.now)
    return replace(recorded, old_pods=old, unwitnessed=(recorded.unwitnessed or 0) + lost or None)


def ready_at(observed: Observed, draft: Draft) -> datetime:
    """When every node can read what a binding's Secret holds."""
    secret = draft.status.secret
    written = secret.written_time if secret and secret.written_time else observed.now
    return written + observed.spec.rollout.propagation


def missing(observed: Observed, agent: Agent) -> Step:
    """Say that there is no such workload."""
    workload = observed.workload_id(agent)
    message = (
        f"{workload} does not exist: create it, or take it out of spec.agents; the Secret is kept in step meanwhile"
    )
    return Step(Do.HOLD, Verdict("WorkloadMissing", message))


def misused(case: Case) -> Step:
    """Nothing to do; but a workload that does not read the Secret should be known before the first key change."""
    unused = preflight.secret_not_used(case.workload, case.observed.record.secret.name)
    return Step(Do.HOLD, unused, stalls=True) if unused else Step(Do.NOTHING)


def warn(case: Case) -> None:
    """The conditions that tell and do not hold up: capacity, literal keys."""
    warnings = {
        Is.CAPACITY_AT_RISK: preflight.capacity_at_risk(case.workload),
        Is.LITERAL_KEY_IN_MANIFEST: preflight.literal_key(case.workload, case.wanted.data),
    }
    for condition, verdict in warnings.items():
        case.draft.warn(condition, verdict)


def resumed(case: Case, recorded: AgentStatus, mine: SeenPods) -> bool:
    """Whether a pause ended and no new pod is there yet: the rollout's timeout runs from the resume."""
    before = case.draft.status.conditions
    waited = any(old.type == Is.AGENTS_CURRENT and old.reason == "WaitingForResume" for old in before)
    began = case.of_template(mine.alive.values(), case.trigger(recorded))
    return waited and not case.workload.paused and not began


def calls_hold(case: Case, recorded: AgentStatus, mine: SeenPods) -> bool:
    """Whether the next new pod waits for the calls of an old one, as without a surge: that is no fault of the key."""
    trigger, pods = case.trigger(recorded), case.owned(mine)
    draining = any(
        pod.terminating and not pod.ended for pod in pods if on_old_key.is_old(pod, case.annotation, trigger)
    )
    starting = any(not pod.ready and not pod.terminating for pod in case.of_template(pods, trigger))
    half = case.observed.spec.rollout.timeout / 2  # so that the time is not written anew at each look
    late = recorded.patched_time is not None and case.observed.now - recorded.patched_time >= half
    return draining and not starting and late


def counted(case: Case, recorded: AgentStatus, mine: SeenPods) -> AgentStatus:
    """Note how many pods a workload should have, has on the current key, and lets drain."""
    serving = [pod for pod in mine.alive.values() if pod.serving]
    current = sum(1 for pod in case.of_template(serving, case.trigger(recorded)) if pod.ready)
    draining = sum(1 for pod in mine.alive.values() if pod.terminating and not pod.ended)
    return replace(recorded, desired=case.workload.replicas, current=current, draining=draining or None)
