"""The live calls of an agent's pods in a restart: asked before it begins, followed through it, counted at their end.

The invariant: a pod is replaced only if its calls are held by a hook that was seen to work, or if it has none, or if a
person said so; and whatever a restart cuts is told, and ends all further restarts until a person has looked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from voicekeys.api import names
from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.status import Handled
from voicekeys.model.errors import PORT_CLOSED, AgentError, ApiError
from voicekeys.model.verdict import Verdict
from voicekeys.policies import drain as policy
from voicekeys.policies import ends, hazards, rotation
from voicekeys.policies import leaks as leak_policy
from voicekeys.policies.rollout import Do, Step
from voicekeys.policies.sights import NOTHING, Ended
from voicekeys.reconcilers.failed_hooks import FailedHooks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Drain
    from voicekeys.api.status import AgentStatus, OldPod
    from voicekeys.model.identity import Name, WorkloadId
    from voicekeys.model.workload import Pod
    from voicekeys.policies.ends import End
    from voicekeys.policies.pods import SeenPods
    from voicekeys.policies.sights import Sight
    from voicekeys.reconcilers.case import Case
    from voicekeys.reconcilers.drains import Drains
    from voicekeys.reconcilers.gather import Observed
    from voicekeys.reconcilers.outcome import Draft, Outcome
    from voicekeys.reconcilers.pods import PodTracker
    from voicekeys.reconcilers.ports import Cluster

log = structlog.get_logger(__name__)

LOOK_AGAIN = timedelta(seconds=5)
"""Pods without a hook are asked so often whether their last call has ended."""

PROBED = (Is.DRAIN_UNREACHABLE, Is.DRAIN_TOKEN_NOT_CHECKED, Is.MESH_SIDECAR_CUTS_CALLS, Is.NOT_READY_WHILE_DRAINING)
"""Conditions that only a look at running pods can tell; in between they stay as they were."""


class Calls:
    """The calls of agents that have a drain.

    Args:
        drains: asks pods.
        tracker: knows the last object of a pod.
        cluster: for deletion costs, and for events of hooks that failed.
        outcome: for events.
    """

    def __init__(self, drains: Drains, tracker: PodTracker, cluster: Cluster, outcome: Outcome) -> None:
        self._drains = drains
        self._tracker = tracker
        self._cluster = cluster
        self._outcome = outcome
        self._failed_hooks = FailedHooks(cluster)
        self._settled: dict[Name, dict[str, End]] = {}  # ends, by UID, that no written status has yet

    # ---- before a restart

    async def gate(self, case: Case, mine: SeenPods) -> Step | None:
        """Hold a restart that would cut calls; where none would be, have the pods with the fewest calls end first.

        Nothing holds the restart that takes a leaked key out of use; what it may cut is told.

        Args:
            case: an agent whose template is about to be patched.
            mine: its pods.
        """
        drain = case.agent.drain
        pods = _serving(case.owned(mine))
        if rotation.is_urgent(case.draft.status):
            self._is_told_to(case)
            sights = await self.foresee(case, mine)
            if sights:
                text = case.draft.may_cut[str(case.workload.id)]
                self._outcome.event(case.observed.record, "Warning", "LeakEmergency", text)
            if sights and drain is not None:
                await self._set_costs(case, pods, sights)
            return None
        if drain is None or case.wanted.refused or not pods:
            return None
        sights = await self._drains.look(case.workload.id, pods, drain.contract_port)
        known = unarmed_block(case, drain, pods, sights) or self._failed_hooks.standing(case)
        block = known or await self.inspect(case, pods)
        told = self._is_told_to(case)
        if block is not None and not told:
            return Step(Do.HOLD, block, case.observed.now + LOOK_AGAIN)
        if block is not None:
            message = f"by {names.ARM_ANNOTATION} the restart goes on all the same: {block.message}"
            self._outcome.event(case.observed.record, "Warning", "RestartMayCutCalls", message)
        await self._set_costs(case, pods, sights)
        return None

    async def foresee(self, case: Case, mine: SeenPods) -> Mapping[str, Sight]:
        """Note what the restart of an emergency may cut; nothing for any other."""
        drain, pods = case.agent.drain, _serving(case.owned(mine))
        if not pods or not rotation.is_urgent(case.draft.status):
            return {}
        sights = await self._drains.look(case.workload.id, pods, drain.contract_port if drain else None)
        bare = {pod.name: sights[pod.uid] for pod in pods if drain is None or policy.is_unprotected(pod, drain)}
        broken = self._failed_hooks.standing(case) or (await self.inspect(case, pods) if drain is not None else None)
        asked = [pod for pod in pods if pod.name not in bare and pod.endpoint() is not None]
        silent = [pod.name for pod in asked if sights[pod.uid].calls is None]
        who = str(case.workload.id)
        case.draft.may_cut[who] = leak_policy.may_cut(who, bare, broken, silent)
        return sights

    async def inspect(self, case: Case, pods: Sequence[Pod]) -> Verdict | None:
        """Prove the hooks of serving pods, with the conditions of `PROBED`; say what would make a restart cut calls."""
        who = str(case.workload.id)
        probed = await self._drains.probe(case.workload.id, [pod for pod in pods if pod.running and pod.ready])
        closed = {pod: error for pod, error in probed.failures.items() if error.reason == PORT_CLOSED}
        refused = hazards.hook_refused(who, probed.answers)
        found = {
            Is.DRAIN_UNREACHABLE: refused or hazards.unreachable(who, probed.failures),
            Is.DRAIN_TOKEN_NOT_CHECKED: hazards.token_not_checked(who, probed.answers),
            Is.MESH_SIDECAR_CUTS_CALLS: hazards.mesh_sidecar_cuts_calls(who, pods),
        }
        for condition, verdict in found.items():
            case.draft.warn(condition, verdict)
        return refused or (hazards.unreachable(who, closed) if closed else None)

    @staticmethod
    def _is_told_to(case: Case) -> bool:
        """Whether a person said to go on whatever calls are cut.

        An order counts for all agents in one key change, and is over with it, needed or not.
        """
        status, asked = case.draft.status, case.observed.record.orders.arm
        handled, change = status.handled or Handled(), status.rotation
        if not asked or (asked == handled.arm and (change is None or change.arm != asked)):
            return False
        change = replace(change, arm=asked) if change is not None else None
        case.draft.status = replace(status, handled=replace(handled, arm=asked), rotation=change)
        return True

    async def _set_costs(self, case: Case, pods: Sequence[Pod], sights: Mapping[str, Sight]) -> None:
        """Give each pod its live calls as its deletion cost, once: a ReplicaSet ends the cheapest first (K11)."""
        if case.workload.id.kind != "Deployment" or len(pods) == 1:
            return
        costs = policy.deletion_costs({pod.name: sights[pod.uid] for pod in pods})
        if not any(costs.values()):
            return
        for pod in pods:
            notes = {names.DELETION_COST_ANNOTATION: str(costs[pod.name])}
            try:
                await self._cluster.annotate_pod(case.workload.id.namespace, pod.name, pod.uid, notes)
            except ApiError as error:  # the order is a courtesy; no call is cut for want of it
                log.info("deletion cost not set", pod=pod.name, reason=error.reason)

    # ---- through it

    def follow(self, case: Case, recorded: AgentStatus, mine: SeenPods) -> None:
        """Ask the pods on the old key for their calls from now on, and note what is seen of their drain."""
        drain = case.agent.drain
        if drain is None:
            return
        old = [mine.alive[pod.uid] for pod in recorded.old_pods if pod.uid in mine.alive]
        self._drains.follow(case.workload.id, case.observed.name, old, drain.contract_port)
        unready = hazards.not_ready_while_draining(str(case.workload.id), [pod for pod in old if pod.terminating])
        case.draft.warn(Is.NOT_READY_WHILE_DRAINING, unready)

    async def look_for_failed_hooks(self, case: Case, old: Collection[OldPod], mine: SeenPods) -> None:
        """Look whether a hook failed of pods that can only be seen to end; ``old`` has those that just have, too."""
        await self._failed_hooks.look(case, {pod.uid: pod for pod in old}.values(), mine)

    def rest(self, case: Case) -> None:
        """Nothing of a workload drains for a binding: its pods are not asked any more."""
        self._drains.forget(case.workload.id, case.observed.name)
        self._failed_hooks.rest(case)

    def forget(self, binding: Name) -> None:
        """A binding is gone."""
        self._drains.forget_all(binding)
        self._failed_hooks.forget(binding)
        self._settled.pop(binding, None)

    def draining(self, observed: Observed, status: AgentStatus) -> str | None:
        """Say what the old pods of an agent still wait for; None where it has none, or nobody asks them."""
        known = [(pod, self._drains.sight(pod.uid)) for pod in status.old_pods if pod.vanished_time is None]
        if not known or all(sight is None for _, sight in known):
            return None
        workload = observed.workload_id(status)
        return policy.draining_text(str(workload), [policy.Live(pod.name, pod.deadline, sight) for pod, sight in known])

    def oldest(self, status: AgentStatus) -> datetime | None:
        """Since when the oldest call on the old pods of an agent lasts; as it was while nobody has heard of any yet."""
        sights = [self._drains.sight(pod.uid) for pod in status.old_pods]
        heard = [sight for sight in sights if sight is not None and sight.report is not None]
        if not heard:
            return status.oldest_call_time if status.old_pods else None
        return policy.counted(heard).oldest

    async def release(self, case: Case, mine: SeenPods) -> None:
        """Act once on the release annotation, if it names a pod of this agent."""
        asked = pending_release(case.observed, case.draft)
        pod = next((one for one in mine.alive.values() if one.name == asked), None) if asked else None
        if pod is None:
            return
        port = case.agent.drain.contract_port if case.agent.drain is not None else None
        try:
            cut = await self._drains.release(case.workload.id, pod, port)
        except AgentError as error:
            told = (
                f"{error.message}; nothing was released. To try again, take {names.RELEASE_ANNOTATION} off, and set it"
            )
            self._released(case.observed, case.draft, "ReleaseFailed", told)
        else:
            self._released(case.observed, case.draft, "PodReleased", policy.released_text(pod.name, cut))

    def end_release(self, observed: Observed, draft: Draft) -> None:
        """Say that the release annotation names no pod that anyone could let go."""
        asked = pending_release(observed, draft)
        if asked:
            told = f"no draining pod of this binding is called {asked}: nothing was released"
            self._released(observed, draft, "ReleaseFailed", told)

    def _released(self, observed: Observed, draft: Draft, reason: str, message: str) -> None:
        handled = replace(draft.status.handled or Handled(), release=observed.record.orders.release)
        draft.status = replace(draft.status, handled=handled)
        self._outcome.event(observed.record, "Warning", reason, message)

    # ---- at the end

    def count(self, observed: Observed, draft: Draft, before: AgentStatus, after: AgentStatus | None) -> Ended:
        """Settle the calls of pods that are no longer on the old key because they have ended: how many, and how."""
        workload = observed.workload_id(before)
        left = {pod.uid for pod in after.old_pods} if after is not None else set()
        counts = NOTHING
        for pod in before.old_pods:
            if pod.uid not in left and not self._tracker.is_running(workload, pod.uid):
                counts = counts.plus(self._end(observed, draft, workload, pod))
        return counts

    def _end(self, observed: Observed, draft: Draft, workload: WorkloadId, pod: OldPod) -> Ended:
        """Settle one pod: once, though a status that could not be written has it counted again."""
        settled = self._settled.setdefault(observed.name, {})
        end = settled.get(pod.uid)
        if end is None:
            if self._drains.sight(pod.uid) is None:
                return NOTHING
            end = self._drains.finish(observed.name, pod.uid, self._tracker.last(workload, pod.uid))
            settled[pod.uid] = end
            text = ends.end_text(pod.name, end)
            if text is not None:
                reason = "CallsForced" if end.forced else "CallsMayBeCut"
                self._outcome.event(observed.record, "Warning", reason, text)
        if end.forced:
            draft.status = rotation.forced(draft.status, end.forced, pod.name, observed.now)
        return Ended(*end[:3])

    def recorded(self, observed: Observed) -> None:
        """Forget the ends that the binding's status has: its old pods are those that it still counts."""
        settled = self._settled.pop(observed.name, None)
        if settled:
            counted = {pod.uid for agent in observed.status.agents for pod in agent.old_pods}
            self._settled[observed.name] = {uid: end for uid, end in settled.items() if uid in counted}

    def obey(self, observed: Observed, draft: Draft) -> None:
        """Act once on the approve annotation; an order whose annotation was taken off may be given again."""
        orders, handled = observed.record.orders, draft.status.handled or Handled()
        given = {name: getattr(handled, name) for name in ("arm", "release", "approve") if getattr(orders, name)}
        again = replace(Handled(sync_now=handled.sync_now, leaked=handled.leaked), **given)
        if again != handled:
            draft.status, handled = replace(draft.status, handled=again), again
        asked = orders.approve
        if asked and asked != handled.approve:
            draft.status = replace(draft.status, handled=replace(handled, approve=asked))
            if self._failed_hooks.approved(observed.name, draft) or draft.status.frozen is not None:
                draft.status = rotation.approved(draft.status)
                self._outcome.event(observed.record, "Normal", "Approved", "restarts go on after a call was cut")

    def told(self, draft: Draft) -> None:
        """Note that a call was cut, for as long as nobody has approved."""
        verdict = frozen_block(draft)
        if verdict is not None:
            draft.true(Is.CALLS_FORCED, *verdict)


def pending_release(observed: Observed, draft: Draft) -> str:
    """The pod that a person wants to let go, and nobody has acted on; empty for none."""
    asked, handled = observed.record.orders.release, draft.status.handled
    return asked if asked and (handled is None or asked != handled.release) else ""


def frozen_block(draft: Draft) -> Verdict | None:
    """Say that no restart begins because a call was cut, and how to go on."""
    frozen = draft.status.frozen
    if frozen is None:
        return None
    return Verdict(
        "Frozen",
        f"{frozen.calls} call(s) were cut since {frozen.since:%Y-%m-%dT%H:%M:%SZ}, the last with pod {frozen.pod}, and "
        "no restart begins before you have looked: raise drain.maxCallDuration if calls are longer than promised, find "
        f"out why the agent did not let them end, then set {names.APPROVE_ANNOTATION} of the binding to a new value",
    )


def unarmed_block(case: Case, drain: Drain, pods: Sequence[Pod], sights: Mapping[str, Sight]) -> Verdict | None:
    """Say why pods without a hook must not be restarted now."""
    unarmed = {pod.name: sights[pod.uid] for pod in pods if policy.is_unprotected(pod, drain)}
    return policy.unarmed_block(str(case.workload.id), unarmed)


def _serving(pods: Sequence[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.alive and pod.serving]
