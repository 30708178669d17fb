"""Other bindings of the same workload: their restarts count, and one that is due restarts together with ours."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api.names import trigger_annotation
from voicekeys.api.status import Phase
from voicekeys.model.verdict import Verdict
from voicekeys.policies import preflight
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do, Step

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.api.status import AgentStatus
    from voicekeys.model.identity import Name
    from voicekeys.model.workload import Workload
    from voicekeys.reconcilers.inventory import BindingRecord, Inventory

COALESCE = timedelta(seconds=10)
"""How long a restart waits for that of another binding of the same workload which is as good as due."""


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
        return [moment for agent in agents if agent is not None for moment in agent.restarts]

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
                message = f"{workload.id} restarts together with VoiceKeyBinding {other.name.name}"
                return Step(Do.HOLD, Verdict("Coalescing", message), due)
        return None

    def triggers(self, binding: Name, workload: Workload, now: datetime) -> dict[str, str | None]:
        """The trigger annotations of other bindings that are due as well; None takes an annotation off."""
        found: dict[str, str | None] = {}
        for other in self._of(binding, workload):
            due, agent, secret = _due(other, workload), _agent(other, workload), other.status().secret
            if due is not None and due <= now and agent is not None and secret is not None:
                found[trigger_annotation(other.name.name)] = policy.target_trigger(agent, secret.digest) or None
        return found


def _agent(other: BindingRecord, workload: Workload) -> AgentStatus | None:
    return next((one for one in other.status().agents if one.uid == workload.uid), None)


def _due(other: BindingRecord, workload: Workload) -> datetime | None:
    """When another binding's restart of the same workload may begin; None if it wants none."""
    status, spec, agent = other.status(), other.spec(), _agent(other, workload)
    if spec.suspend or status.rotation is None or status.rotation.phase is not Phase.STAGED:
        return None
    if agent is None or status.secret is None or status.secret.written_time is None:
        return None
    if agent.digest == status.secret.digest or preflight.secret_not_used(workload, other.secret.name):
        return None
    return status.secret.written_time + spec.rollout.propagation
