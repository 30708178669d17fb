"""Other bindings of the same workload: their restarts count, and one that is due restarts together with ours."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api.names import trigger_annotation
from voicekeys.api.status import Phase
from voicekeys.model.verdict import Verdict
from voicekeys.policies import preflight, records
from voicekeys.policies.rollout import Do, Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from voicekeys.api.status import AgentStatus
    from voicekeys.model.identity import Name
    from voicekeys.model.workload import Workload
    from voicekeys.reconcilers.inventory import BindingRecord, Inventory

COALESCE = records.ONE_RESTART
"""How long a restart waits for that of another binding of the same workload which is as good as due."""

INTENT_PAUSE = timedelta(milliseconds=300)
"""How long a restart waits before it looks again whether the other binding has recorded its intent."""

WHOLE_SECOND = timedelta(seconds=1)  # times in a status have no fractions


class Siblings:
    """The other bindings of a workload.

    Args:
        inventory: knows them.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def _of(self, binding: Name, workload: Workload) -> list[BindingRecord]:
        others = [name for name in self._inventory.of_agent(workload.id) if name != binding]
        return [self._inventory.bindings[name] for name in others]

    def restarts(self, binding: Name, workload: Workload) -> list[datetime]:
        """When other bindings restarted this workload."""
        agents = (_agent(other, workload) for other in self._of(binding, workload))
        return [moment for agent in agents if agent is not None for moment in records.restarted(agent)]

    def along(self, binding: Name, workload: Workload, last: Sequence[datetime]) -> list[str]:
        """The other bindings whose restart of this workload is the same one: either key may be what its pods refuse."""
        found = []
        for other in self._of(binding, workload):
            agent = _agent(other, workload)
            theirs = records.restarted(agent) if agent is not None else ()
            if any(abs(one - own) < records.ONE_RESTART for own in last for one in theirs):
                found.append(other.name.name)
        return found

    def hold(self, binding: Name, workload: Workload, ready_at: datetime, now: datetime) -> Step | None:
        """Hold a restart for another binding's that is due within `COALESCE`, so that the two make one.

        Args:
            binding: whose restart it is.
            workload: which is restarted.
            ready_at: when the restart was due; it is held for `COALESCE` at most, whatever else changes.
            now: wall time.
        """
        if now >= ready_at + COALESCE:
            return None
        for other in self._of(binding, workload):
            due = _due(other, workload)
            if due is not None and now < due <= now + COALESCE:
                return _together(other, workload, due)
        return None

    def unready(self, binding: Name, workload: Workload, ready_at: datetime, now: datetime) -> Step | None:
        """Hold a restart until every other binding that is due has recorded its intent, too.

        Without it the pods on that binding's old key would not be in its set when they begin to end. Arguments as
        `hold`; a binding that something holds up is waited for `COALESCE` at most, and restarts by itself later.
        """
        if now >= ready_at + COALESCE:
            return None
        for other in self._of(binding, workload):
            due = _due(other, workload)
            if due is not None and due <= now and not _recorded(other, workload, due):
                return _together(other, workload, now + INTENT_PAUSE)
        return None

    def triggers(self, binding: Name, workload: Workload, now: datetime) -> dict[str, str | None]:
        """The triggers of other bindings whose intent is recorded; None takes an annotation off."""
        found: dict[str, str | None] = {}
        for other in self._of(binding, workload):
            due, agent, secret = _due(other, workload), _agent(other, workload), other.status().secret
            if due is None or agent is None or secret is None or due > now or not _recorded(other, workload, due):
                continue
            found[trigger_annotation(other.name.name)] = _trigger(agent, secret.digest) or None
        return found


def _trigger(agent: AgentStatus, digest: str) -> str:
    intended = agent.intended_trigger
    return records.target_trigger(agent, digest) if intended is None else intended


def _together(other: BindingRecord, workload: Workload, wake: datetime) -> Step:
    message = f"{workload.id} restarts together with VoiceKeyBinding {other.name.name}"
    return Step(Do.HOLD, Verdict("Coalescing", message), wake)


def _recorded(other: BindingRecord, workload: Workload, due: datetime) -> bool:
    """Whether a binding has written its intent for this change; one for a former change is older than its due time."""
    agent = _agent(other, workload)
    return agent is not None and agent.patched_time is not None and agent.patched_time > due - WHOLE_SECOND


def _agent(other: BindingRecord, workload: Workload) -> AgentStatus | None:
    return next((one for one in other.status().agents if one.uid == workload.uid), None)


def _due(other: BindingRecord, workload: Workload) -> datetime | None:
    """When another binding's restart of the same workload may begin; None if it wants none."""
    status, spec, agent = other.status(), other.spec(), _agent(other, workload)
    if spec.suspend or status.rotation is None or status.rotation.phase not in {Phase.STAGED, Phase.ROLLING_BACK}:
        return None
    if agent is None or status.secret is None or status.secret.written_time is None:
        return None
    if agent.digest == status.secret.digest or preflight.secret_not_used(workload, other.secret.name):
        return None
    return status.secret.written_time + spec.rollout.propagation
