"""The second half of a reconcile: from the Secret to running pods, until every pod on the old key was seen to end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.names import trigger_annotation
from voicekeys.api.status import Outcome as Ended
from voicekeys.api.status import Phase
from voicekeys.model.identity import WorkloadId
from voicekeys.model.verdict import Verdict
from voicekeys.policies import pods as on_old_key
from voicekeys.policies import preflight, rotation
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do, Step
from voicekeys.policies.rotation import Event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from voicekeys.api.binding import Agent
    from voicekeys.api.status import AgentStatus, RotationStatus
    from voicekeys.model.digest import Digester
    from voicekeys.model.workload import Workload
    from voicekeys.policies.pods import SeenPods
    from voicekeys.reconcilers.gather import Gatherer, Observed
    from voicekeys.reconcilers.inventory import BindingRecord, Inventory
    from voicekeys.reconcilers.outcome import Draft, Outcome
    from voicekeys.reconcilers.pods import PodTracker
    from voicekeys.reconcilers.ports import Cluster
    from voicekeys.reconcilers.sync import Wanted

COALESCE = timedelta(seconds=10)
"""How long a restart waits for that of another binding of the same workload which is as good as due."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One agent's step, with the status that goes with it."""

    agent: Agent
    step: Step
    status: AgentStatus | None


class Rollouts:
    """Brings the agents of a binding to the key that its Secret holds.

    Args:
        gatherer: reads workloads.
        inventory: knows the other bindings of a workload.
        cluster: patches templates.
        outcome: writes intents.
        tracker: watches pods.
        digester: names the fingerprint key.
    """

    def __init__(  # noqa: PLR0913 -- wiring
        self,
        gatherer: Gatherer,
        inventory: Inventory,
        cluster: Cluster,
        outcome: Outcome,
        tracker: PodTracker,
        digester: Digester,
    ) -> None:
        self._gatherer = gatherer
        self._inventory = inventory
        self._cluster = cluster
        self._outcome = outcome
        self._tracker = tracker
        self._digester = digester

    async def advance(self, observed: Observed, draft: Draft, wanted: Wanted) -> None:
        """Take each agent one step further, with `AgentsCurrent`, `CallsDrained`, ``status.agents`` and the rotation.

        Raises:
            ApiError: the API server refused or did not answer; what was done so far is recorded or repeatable.
        """
        draft.status = rotation.begun(draft.status, draft.baseline, wanted, observed.now)
        workloads = await self._gatherer.workloads(observed)
        known = {(status.kind, status.name): status for status in observed.status.agents}
        taken = []
        for agent in observed.spec.agents:
            status = known.get((agent.kind, agent.name))
            workload = workloads.get(agent)
            if workload is None:
                taken.append(Taken(agent, _missing(observed, agent), status))
                continue
            taken.append(await self._take(observed, draft, wanted, agent, workload, status))
        draft.status = replace(draft.status, agents=tuple(one.status for one in taken if one.status is not None))
        self._conclude(observed, draft, wanted, taken)

    async def _take(  # noqa: PLR0913 -- one agent in all its circumstances
        self,
        observed: Observed,
        draft: Draft,
        wanted: Wanted,
        agent: Agent,
        workload: Workload,
        status: AgentStatus | None,
    ) -> Taken:
        annotation = trigger_annotation(observed.name.name)
        recorded = self._recorded(observed, draft, wanted, agent, workload, status)
        self._warn(observed, draft, wanted, agent, workload)
        counted = replace(recorded, desired=workload.replicas, current=workload.replicas, draining=None)
        settled = recorded.digest == wanted.digest and recorded.patched_time is None and not recorded.old_pods
        if settled:
            self._tracker.release(workload.id, observed.name)
            return Taken(agent, self._misused(observed, workload), counted)
        seen = self._tracker.follow(workload, observed.name)
        if seen is None:
            return Taken(agent, Step(Do.HOLD, Verdict("Looking", f"listing the pods of {workload.id}")), recorded)
        mine = on_old_key.SeenPods(
            {pod.uid: pod for pod in on_old_key.of_workload(seen.alive.values(), workload)}, seen.ended
        )
        if _resumed(draft, workload) and recorded.patched_time is not None:
            recorded = replace(recorded, patched_time=observed.now.replace(microsecond=0))
        trigger = policy.target_trigger(recorded, wanted.digest)
        progress = self._progress(observed, draft, wanted, workload, recorded, mine, annotation, trigger)
        block = await self._block(observed, workload) if recorded.digest != wanted.digest else None
        step = policy.decide(progress, block)
        if step.do is Do.PATCH:
            step = self._coalesced(observed, workload) or step
        if step.do is Do.PATCH:
            recorded = await self._patch(observed, draft, workload, recorded, mine, annotation, trigger, wanted)
            step = Step(Do.WATCH, Verdict("Rolling", f"{workload.id} restarts on the new key"), _soon(observed.now))
        elif recorded.digest == wanted.digest:
            recorded = self._follow(recorded, mine, annotation, trigger, observed.now)
            recorded = policy.finish(recorded) if step.do is Do.NOTHING else recorded
        return Taken(agent, step, _counted(recorded, workload, mine, annotation, trigger))

    def _recorded(  # noqa: PLR0913 -- one agent in all its circumstances
        self,
        observed: Observed,
        draft: Draft,
        wanted: Wanted,
        agent: Agent,
        workload: Workload,
        status: AgentStatus | None,
    ) -> AgentStatus:
        annotation = trigger_annotation(observed.name.name)
        baseline = draft.baseline or wanted.digest
        lost_key = observed.status.digest_key not in {None, self._digester.key_id}
        if status is not None and lost_key:
            return policy.rebase(status, workload, annotation, baseline)
        recorded = policy.adopt(agent, status, workload, annotation, baseline)
        patched = status is not None and recorded.digest == wanted.digest and recorded.trigger != status.trigger
        if patched and status is not None and status.digest is not None and status.patched_time is None:
            # The template was patched together with another binding's, or right before a crash.
            begun = policy.begin(status, observed.now)
            return replace(begun, trigger=recorded.trigger, digest=recorded.digest)
        return recorded

    def _progress(  # noqa: PLR0913 -- gathers what one decision needs
        self,
        observed: Observed,
        draft: Draft,
        wanted: Wanted,
        workload: Workload,
        recorded: AgentStatus,
        mine: SeenPods,
        annotation: str,
        trigger: str,
    ) -> policy.Progress:
        secret = draft.status.secret
        written = secret.written_time if secret and secret.written_time else observed.now
        old = [pod for pod in mine.alive.values() if on_old_key.is_old(pod, annotation, trigger)]
        new = [pod for pod in mine.alive.values() if not on_old_key.is_old(pod, annotation, trigger)]
        restarts = [moment for other in self._siblings(observed, workload.id) for moment in _restarts(other, workload)]
        return policy.Progress(
            status=recorded,
            workload=workload,
            desired=wanted.digest,
            ready_at=written + observed.spec.rollout.propagation,
            settings=observed.spec.rollout,
            spent=policy.spent([*restarts, *recorded.restarts], observed.now),
            old_serving=sum(1 for pod in old if not pod.terminating and not pod.ended),
            troubled=[pod for pod in new if pod.trouble and not pod.ready],
            rolling_back=bool(wanted.refused),
            now=observed.now,
        )

    async def _block(self, observed: Observed, workload: Workload) -> Verdict | None:
        quotas = await self._cluster.list_quotas(observed.name.namespace)
        return preflight.block(workload, observed.record.secret.name, quotas)

    def _misused(self, observed: Observed, workload: Workload) -> Step:
        """Nothing to do; but a workload that does not read the Secret should be known before the first key change."""
        unused = preflight.secret_not_used(workload, observed.record.secret.name)
        return Step(Do.HOLD, unused, stalls=True) if unused else Step(Do.NOTHING)

    def _siblings(self, observed: Observed, workload: WorkloadId) -> list[BindingRecord]:
        others = [name for name in self._inventory.of_agent(workload) if name != observed.name]
        return [self._inventory.bindings[name] for name in others]

    def _coalesced(self, observed: Observed, workload: Workload) -> Step | None:
        """Hold a restart for another binding's that is due within `COALESCE`, so that the two make one."""
        for other in self._siblings(observed, workload.id):
            due = _due(other, workload)
            if due is not None and observed.now < due <= observed.now + COALESCE:
                message = f"{workload.id} restarts together with VoiceKeyBinding {other.name.name}"
                return Step(Do.HOLD, Verdict("Coalescing", message), due)
        return None

    async def _patch(  # noqa: PLR0913 -- the act and all it records
        self,
        observed: Observed,
        draft: Draft,
        workload: Workload,
        recorded: AgentStatus,
        mine: SeenPods,
        annotation: str,
        trigger: str,
        wanted: Wanted,
    ) -> AgentStatus:
        """Record the intent (who is on the old key, the way back), then patch the template."""
        begun = policy.begin(recorded, observed.now.replace(microsecond=0)) if not wanted.refused else _back(recorded, observed)
        begun = self._follow(begun, mine, annotation, trigger, observed.now)
        others = [agent for agent in draft.status.agents if (agent.kind, agent.name) != (begun.kind, begun.name)]
        draft.status = replace(draft.status, agents=(*others, begun))
        await self._outcome.write(observed.record, draft.status)
        triggers: dict[str, str | None] = {annotation: trigger or None}
        for other in self._siblings(observed, workload.id):
            due = _due(other, workload)
            if due is not None and due <= observed.now:
                triggers |= _trigger_of(other, workload)
        await self._cluster.annotate_template(workload.id, workload.uid, workload.resource_version, triggers)
        self._outcome.event(observed.record, "Normal", "RolloutStarted", f"{workload.id} restarts on the new key")
        return replace(begun, trigger=trigger, digest=wanted.digest)

    def _follow(
        self, recorded: AgentStatus, mine: SeenPods, annotation: str, trigger: str, now: datetime
    ) -> AgentStatus:
        old, lost = on_old_key.follow(recorded.old_pods, mine, annotation, trigger, now)
        return replace(recorded, old_pods=old, unwitnessed=(recorded.unwitnessed or 0) + lost or None)

    def _warn(self, observed: Observed, draft: Draft, wanted: Wanted, agent: Agent, workload: Workload) -> None:
        """The conditions that tell and do not hold up: capacity, grace, literal keys."""
        warnings = {
            Is.CAPACITY_AT_RISK: preflight.capacity_at_risk(workload),
            Is.GRACE_TOO_SHORT: preflight.grace_too_short(workload, agent.max_call_duration),
            Is.LITERAL_KEY_IN_MANIFEST: preflight.literal_key(workload, wanted.data),
        }
        for condition, verdict in warnings.items():
            if verdict is not None and condition not in draft.findings:
                draft.true(condition, *verdict)

    def _conclude(self, observed: Observed, draft: Draft, wanted: Wanted, taken: list[Taken]) -> None:
        for one in taken:
            draft.wake_at(one.step.wake)
        self._phase(observed, draft, wanted, taken)
        open_steps = [one.step for one in taken if one.step.do is not Do.NOTHING]
        worst = next((step for step in open_steps if step.stalls), open_steps[0] if open_steps else None)
        refused = _refusal(observed, wanted) if wanted.refused else None
        if refused is not None:
            draft.stall(refused)
        if worst is not None and worst.verdict is not None:
            (draft.stall if worst.stalls else draft.progress)(worst.verdict)
        if not taken:
            return
        if refused is not None:
            draft.false(Is.AGENTS_CURRENT, *refused)
        elif worst is not None and worst.verdict is not None:
            draft.false(Is.AGENTS_CURRENT, *worst.verdict)
        else:
            count = f"{len(taken)} workload{'s' if len(taken) > 1 else ''}"
            draft.true(Is.AGENTS_CURRENT, "Current", f"every pod of {count} that takes new calls has the current key")
        _drained(draft, taken)

    def _phase(self, observed: Observed, draft: Draft, wanted: Wanted, taken: list[Taken]) -> None:
        change = draft.status.rotation
        if change is None or change.phase is Phase.IDLE:
            return
        refused = next((one.step for one in taken if one.step.do is Do.ROLL_BACK), None)
        held = sum(len(one.status.old_pods) for one in taken if one.status is not None)
        phase = _advanced(change.phase, taken, held, wanted)
        change = replace(change, phase=phase, pods_on_old_key=held, pods=max(change.pods or 0, held))
        if refused is not None and refused.verdict is not None:
            phase = rotation.next_phase(phase, Event.REFUSED)
            change = replace(change, phase=phase, refused_digest=wanted.digest)
            draft.wake_at(observed.now)
        draft.status = replace(draft.status, rotation=change)
        if phase is Phase.IDLE:
            outcome = Ended.ROLLED_BACK if wanted.refused else Ended.COMPLETED
            draft.status = rotation.ended(draft.status, outcome, observed.now)
            self._report(observed, change, outcome)

    def _report(self, observed: Observed, change: RotationStatus, outcome: Ended) -> None:
        if outcome is Ended.COMPLETED:
            message = f"version {change.to_version} is in use; {change.pods or 0} pods on the old key have ended"
            self._outcome.event(observed.record, "Normal", "KeyChanged", message)
        else:
            message = f"version {change.to_version} was refused, version {change.from_version} is back"
            self._outcome.event(observed.record, "Warning", "RolledBack", message)


def _missing(observed: Observed, agent: Agent) -> Step:
    workload = WorkloadId(agent.kind.value, observed.name.namespace, agent.name)
    message = f"{workload} does not exist: create it, or take it out of spec.agents; the Secret is kept in step meanwhile"
    return Step(Do.HOLD, Verdict("WorkloadMissing", message))


def _soon(now: datetime) -> datetime:
    return now + timedelta(seconds=1)


def _back(recorded: AgentStatus, observed: Observed) -> AgentStatus:
    """A way back keeps what it goes back to, and costs no restart of the budget."""
    return replace(recorded, patched_time=observed.now.replace(microsecond=0))


def _resumed(draft: Draft, workload: Workload) -> bool:
    """Whether a pause ended: the rollout's timeout runs from the resume."""
    waited = any(old.type == Is.AGENTS_CURRENT and old.reason == "WaitingForResume" for old in draft.status.conditions)
    return waited and not workload.paused


def _counted(
    recorded: AgentStatus, workload: Workload, mine: SeenPods, annotation: str, trigger: str
) -> AgentStatus:
    serving = [pod for pod in mine.alive.values() if not pod.terminating and not pod.ended]
    current = sum(1 for pod in serving if pod.ready and not on_old_key.is_old(pod, annotation, trigger))
    draining = sum(1 for pod in mine.alive.values() if pod.terminating and not pod.ended)
    return replace(recorded, desired=workload.replicas, current=current, draining=draining or None)


def _restarts(other: BindingRecord, workload: Workload) -> list[datetime]:
    return [moment for status in other.status().agents if status.uid == workload.uid for moment in status.restarts]


def _due(other: BindingRecord, workload: Workload) -> datetime | None:
    """When another binding's restart of the same workload may begin; None if it wants none."""
    status, spec = other.status(), other.spec()
    agent = next((one for one in status.agents if one.uid == workload.uid), None)
    if spec.suspend or status.rotation is None or status.rotation.phase is not Phase.STAGED:
        return None
    if agent is None or status.secret is None or status.secret.written_time is None:
        return None
    if agent.digest == status.secret.digest or preflight.secret_not_used(workload, other.secret.name):
        return None
    return status.secret.written_time + spec.rollout.propagation


def _trigger_of(other: BindingRecord, workload: Workload) -> Mapping[str, Any]:
    status = other.status()
    agent = next(one for one in status.agents if one.uid == workload.uid)
    digest = status.secret.digest if status.secret else ""
    return {trigger_annotation(other.name.name): policy.target_trigger(agent, digest) or None}


def _advanced(phase: Phase, taken: list[Taken], held: int, wanted: Wanted) -> Phase:
    """Walk the transition table as far as the agents have come."""
    patched = all(one.status is not None and one.status.digest == wanted.digest for one in taken)
    serving = patched and all(one.step.do is Do.NOTHING for one in taken)
    if phase is Phase.ROLLING_BACK:
        return rotation.next_phase(phase, Event.RESTORED) if serving else phase
    for event, holds in ((Event.PATCHED, patched), (Event.AVAILABLE, serving), (Event.ENDED, serving and not held)):
        phase = rotation.next_phase(phase, event) if holds else phase
    return phase


def _refusal(observed: Observed, wanted: Wanted) -> Verdict:
    """What to say, for as long as Vault holds a key that its pods refused."""
    change = observed.status.rotation
    said = next((old for old in observed.status.conditions if old.type == Is.STALLED and old.reason == "NewKeyRefused"), None)
    why = said.message.split(". Version")[0] if said else "the new key's pods did not start"
    number = change.to_version if change else 0
    return Verdict(
        "NewKeyRefused",
        f"{why}. Version {wanted.version} is kept in place of version {number}: put a working key into Vault, or, if "
        "the cause was another, annotate the binding with voicekeys.dev/sync-now to try the same key again",
    )


def _drained(draft: Draft, taken: list[Taken]) -> None:
    old = [pod for one in taken if one.status is not None for pod in one.status.old_pods]
    vanished = [pod for pod in old if pod.vanished_time is not None]
    names = ", ".join(pod.name for pod in (vanished or old)[:3]) + (", …" if len(vanished or old) > 3 else "")  # noqa: PLR2004
    for pod in vanished:
        draft.wake_at(on_old_key.release_time(pod))
    if vanished:
        message = (
            f"{len(vanished)} pod(s) on the old key vanished without anyone having seen their end ({names}): look on "
            "their nodes whether a container still runs"
        )
        draft.unknown(Is.CALLS_DRAINED, "Unwitnessed", message)
    elif old:
        message = f"{len(old)} pod(s) on the old key have not ended yet ({names})"
        draft.false(Is.CALLS_DRAINED, "Draining", message)
    else:
        draft.true(Is.CALLS_DRAINED, "Drained", "no pod holds an older key")
