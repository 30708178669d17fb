"""The operator's state as rows for metrics; read at scrape, kept nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from voicekeys.model.workload import parse_time
from voicekeys.reconcilers.store import LOGIN_REASONS
from voicekeys.telemetry.state import BindingRow, StoreRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voicekeys.policies.drain import Counted
    from voicekeys.reconcilers.drains import Drains
    from voicekeys.reconcilers.inventory import BindingRecord, Inventory
    from voicekeys.reconcilers.ports import Clock
    from voicekeys.reconcilers.stores import Store, Stores


class State:
    """Satisfies ``telemetry.state.StateView``.

    Args:
        inventory: bindings.
        stores: stores and pollers.
        leads: whether this process holds the Lease.
        drains: live calls of draining pods.
        clock: for the age of calls.
    """

    def __init__(
        self,
        inventory: Inventory,
        stores: Stores,
        leads: Callable[[], bool],
        drains: Drains | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._inventory = inventory
        self._stores = stores
        self._leads = leads
        self._drains = drains
        self._clock = clock

    def leader(self) -> bool:
        """Whether this process holds the Lease."""
        return self._leads()

    def bindings(self) -> Iterator[BindingRow]:
        """One row a binding."""
        counts = self._drains.counted() if self._drains is not None else {}
        for record in list(self._inventory.bindings.values()):
            yield self._row(record)._replace(**self._calls(record, counts.get(record.name)))

    def _calls(self, record: BindingRecord, counted: Counted | None) -> dict[str, Any]:
        ended = self._drains.ended(record.name) if self._drains is not None else None
        fields: dict[str, Any] = {}
        if ended is not None:
            fields |= {f"calls_{outcome}": number for outcome, number in ended._asdict().items()}
        if counted is not None:
            fields |= {"draining_calls": counted.calls, "draining_pods_unknown": counted.unknown}
        if counted is not None and counted.oldest is not None and self._clock is not None:
            fields["oldest_call"] = max(0.0, (self._clock.now() - counted.oldest).total_seconds())
        return fields

    def stores(self) -> Iterator[StoreRow]:
        """One row a store."""
        counts: dict[str, int] = {}
        for record in self._inventory.bindings.values():
            counts[record.store] = counts.get(record.store, 0) + 1
        for store in list(self._stores.all.values()):
            yield _store_row(store, counts.get(store.name, 0))

    def _row(self, record: BindingRecord) -> BindingRow:
        status: dict[str, Any] = orjson.loads(record.status_json)
        conditions = {one["type"]: one for one in status.get("conditions") or []}
        key, rotation = status.get("key") or {}, status.get("rotation") or {}
        ends = [one["finishedTime"] for one in status.get("history") or [] if one["outcome"] == "Completed"]
        source = self._stores.source_of(record.name)
        stalled = conditions.get("Stalled", {})
        return BindingRow(
            namespace=record.name.namespace,
            name=record.name.name,
            store=record.store,
            environment=record.environment,
            key_created=_stamp(key.get("createdTime")),
            rotate_by=_stamp(key.get("rotateBy")),
            phase=rotation.get("phase", "Idle"),
            last_success=_stamp(ends[-1]) if ends else None,
            pods_on_old_key=rotation.get("podsOnOldKey", 0),
            ready=conditions.get("Ready", {}).get("status") == "True",
            stalled=stalled.get("reason", "") if stalled.get("status") == "True" else "",
            source_last_read=source.read_at if source is not None else None,
            shared_across_environments=conditions.get("SharedAcrossEnvironments", {}).get("status") == "True",
            pod_kill_deadline=_deadline(status),
        )


def _store_row(store: Store, bindings: int) -> StoreRow:
    poller = store.poller
    if poller is None:
        return StoreRow(store.name, bindings=bindings)
    read = {source.id.identity for source in poller.sources.values() if source.key is not None}
    denied = any(
        source.error is not None and source.error.reason in LOGIN_REASONS for source in poller.sources.values()
    )
    return StoreRow(
        name=store.name,
        reachable=poller.answered and poller.down is None,
        logged_in=bool(read) and not denied,
        bindings=bindings,
        identities=len(read),
    )


def _stamp(text: str | None) -> float | None:
    moment = parse_time(text)
    return moment.timestamp() if moment else None


def _deadline(status: dict[str, Any]) -> float | None:
    pods = [pod for agent in status.get("agents") or [] for pod in agent.get("oldPods") or []]
    moments = [_stamp(pod["deadline"]) for pod in pods if pod.get("deadline")]
    return min((moment for moment in moments if moment is not None), default=None)
