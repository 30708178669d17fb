"""All that a reconcile looks at, read before it thinks: one frozen `Observed`.

::

    scenario A   no store of that name            → store is None
    scenario B   first read not done              → source.pending, workloads are not read
    scenario C   Vault fails, key in memory       → source.key and source.error
    scenario D   Vault fails, after a restart     → source.error only; the Secret in place is all we have
    scenario E   key refused by its pods          → previous is the pinned source of the version before
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voicekeys.clients.kube.ownership import is_left
from voicekeys.model.identity import OPERATOR, Identity, SourceId, WorkloadId
from voicekeys.model.workload import parse_workload
from voicekeys.policies.secret import Claim

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from voicekeys.api.binding import Agent, BindingSpec
    from voicekeys.api.status import AgentStatus, BindingStatus
    from voicekeys.api.store import StoreSpec
    from voicekeys.model.identity import Name
    from voicekeys.model.secret import SecretView
    from voicekeys.model.workload import Workload
    from voicekeys.reconcilers.inventory import BindingRecord, Inventory
    from voicekeys.reconcilers.ports import Clock, Cluster, Object
    from voicekeys.reconcilers.source import Source
    from voicekeys.reconcilers.stores import Stores


@dataclass(frozen=True, slots=True)
class Observed:
    """One binding and all around it, at one moment.

    Args:
        record: the binding as the inventory has it.
        generation: of the spec below.
        spec: parsed.
        status: parsed, as last written.
        store: the store that it names, None where there is none.
        labels: of the binding's namespace, None while it was not seen yet.
        secret: the target Secret if it carries our label.
        rivals: claims of other bindings on the same Secret.
        now: wall time.
    """

    record: BindingRecord
    generation: int
    spec: BindingSpec
    status: BindingStatus
    store: StoreSpec | None
    labels: Mapping[str, str] | None
    secret: SecretView | None
    rivals: tuple[Claim, ...]
    now: datetime

    @property
    def name(self) -> Name:
        """The binding's name."""
        return self.record.name

    def workload_id(self, agent: Agent | AgentStatus) -> WorkloadId:
        """The workload that an agent of the binding is, or was."""
        return WorkloadId(agent.kind.value, self.name.namespace, agent.name)

    @property
    def suspended(self) -> bool:
        """Whether the binding or its store asks to stop every act."""
        return self.spec.suspend or bool(self.store and self.store.suspend)


class Gatherer:
    """Reads for the reconcile.

    Args:
        inventory: what the watches have shown.
        stores: the stores and their pollers.
        cluster: for workloads, which are read when they are needed.
        clock: time.
    """

    def __init__(self, inventory: Inventory, stores: Stores, cluster: Cluster, clock: Clock) -> None:
        self._inventory = inventory
        self._stores = stores
        self._cluster = cluster
        self._clock = clock

    def binding(self, name: Name) -> Observed | None:
        """Snapshot a binding; None if it is gone.

        Raises:
            ValueError: spec or status cannot be used.
        """
        record = self._inventory.bindings.get(name)
        if record is None:
            return None
        secret = self._inventory.secrets.get(record.secret)
        others = (
            self._inventory.bindings[other] for other in self._inventory.of_secret(record.secret) if other != name
        )
        return Observed(
            record=record,
            generation=record.generation,
            spec=record.spec(),
            status=record.status(),
            store=self._stores.spec(record.store),
            labels=self._inventory.namespaces.get(name.namespace),
            secret=secret.view() if secret else None,
            rivals=tuple(Claim(other.created, other.name.name) for other in others),
            now=self._clock.now(),
        )

    def source(self, observed: Observed) -> Source | None:
        """The polled key of a binding that its store's rules allow; None while the store cannot be used."""
        wanted = source_id(observed, observed.spec.source.version or 0)
        return self._stores.subscribe(observed.name, wanted, observed.spec.environment)

    def previous(self, observed: Observed, version: int) -> Source | None:
        """The version before, pinned: what a rollback puts back."""
        return self._stores.subscribe_previous(observed.name, source_id(observed, version), observed.spec.environment)

    async def workloads(self, observed: Observed) -> dict[Agent, Workload]:
        """The agents' workloads that exist, read now.

        Raises:
            ApiError: the API server did not answer.
        """
        found = {}
        for agent in observed.spec.agents:
            workload = await self.workload(observed.workload_id(agent))
            if workload is not None:
                found[agent] = workload
        return found

    async def quotas(self, namespace: str) -> list[Object]:
        """The ResourceQuotas of a namespace, read now."""
        return await self._cluster.list_quotas(namespace)

    async def workload(self, workload: WorkloadId) -> Workload | None:
        """One workload, read now; None where it does not exist."""
        raw = await self._cluster.get_workload(workload)
        if raw is not None and is_left(raw):
            # A crash came between arming its template and giving that up: until then the user's own applies fail (K24).
            raw = await self._cluster.give_up_template(workload, raw)
        return parse_workload(workload, raw) if raw is not None else None


def source_id(observed: Observed, version: int) -> SourceId:
    """Which source a binding reads; stores with a login of their own share it over all namespaces."""
    source, store = observed.spec.source, observed.store
    lent = store is not None and store.auth.lends_identity
    identity = OPERATOR if lent else Identity(observed.name.namespace, source.service_account_name)
    return SourceId(source.store_ref.name, identity, source.path, version)
