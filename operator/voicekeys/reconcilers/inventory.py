"""What is known of the cluster between two reconciles: bindings, their Secrets, namespaces, and who shares what.

Objects are kept as the JSON they came as and parsed when they are worked on: 10,000 bindings take some 20 MiB.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any

import orjson

from voicekeys.api.binding import BindingSpec, parse_binding_spec
from voicekeys.api.status import BindingStatus, dump_status, parse_binding_status
from voicekeys.model.identity import Name, WorkloadId
from voicekeys.model.orders import parse_orders
from voicekeys.model.packing import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voicekeys.model.secret import SecretRecord

Object = dict[str, Any]


class BindingRecord:
    """One binding: identity, the JSON of spec and status, and the names that other objects find it by."""

    __slots__ = (
        "_spec",
        "_status",
        "agents",
        "applied",
        "created",
        "environment",
        "generation",
        "name",
        "orders",
        "resource_version",
        "secret",
        "store",
        "uid",
    )

    def __init__(self, raw: Mapping[str, Any]) -> None:
        metadata = raw["metadata"]
        self.name = Name(sys.intern(metadata["namespace"]), metadata["name"])
        self.uid: str = metadata["uid"]
        self.generation: int = metadata["generation"]
        self.resource_version = int(metadata["resourceVersion"])
        self.created: str = metadata["creationTimestamp"]
        self.orders = parse_orders(metadata)
        self.applied = 0  # the generation that its Secret was brought to, which its status may not say yet
        self._spec = zlib.compress(orjson.dumps(raw["spec"]), 1)
        self.status_json = pack_status(raw.get("status"))
        spec = self.spec()
        self.store = sys.intern(spec.source.store_ref.name)
        self.environment = sys.intern(spec.environment)
        secret = Name(self.name.namespace, spec.target.effective_secret_name(self.name.name))
        self.secret = self.name if secret == self.name else secret
        self.agents = tuple(WorkloadId(agent.kind.value, self.name.namespace, agent.name) for agent in spec.agents)

    @property
    def status_json(self) -> bytes:
        """The status as `pack_status` gives it. It is kept deflated: a third of its size, for ten microseconds."""
        return zlib.decompress(self._status)

    @status_json.setter
    def status_json(self, value: bytes) -> None:
        self._status = zlib.compress(value, 1)

    def spec(self) -> BindingSpec:
        """Parse the spec; ValueError where an older CRD let something through that we cannot use."""
        return parse_binding_spec(zlib.decompress(self._spec))

    def status(self) -> BindingStatus:
        """Parse the status."""
        return parse_binding_status(self.status_json)


def pack_status(raw: Mapping[str, Any] | None) -> bytes:
    """A status as comparable bytes; key order does not matter."""
    return pack(raw or {}, sort_keys=True)


def packed(status: BindingStatus) -> bytes:
    """What `pack_status` gives for a status once it is written."""
    return pack_status(dump_status(status))


class Inventory:
    """All bindings and Secrets of ours, with the indices that turn an event about another object into bindings."""

    def __init__(self) -> None:
        self.bindings: dict[Name, BindingRecord] = {}
        self.secrets: dict[Name, SecretRecord] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.broken: dict[Name, str] = {}
        self._gone: dict[Name, int] = {}  # deleted, at which version: the answer to a write may come after the event
        self._by_secret: dict[Name, tuple[Name, ...]] = {}
        self._by_agent: dict[WorkloadId, tuple[Name, ...]] = {}

    def upsert(self, raw: Mapping[str, Any]) -> BindingRecord | None:
        """Take in a binding from the API server.

        Returns:
            The record if anything that we act on changed; None for an echo or an older version.

        Raises:
            ValueError: the spec cannot be used; the name is remembered as broken.
        """
        metadata = raw["metadata"]
        name = Name(metadata["namespace"], metadata["name"])
        known = self.bindings.get(name)
        if known and known.uid == metadata["uid"] and int(metadata["resourceVersion"]) <= known.resource_version:
            return None
        try:
            record = BindingRecord(raw)
        except ValueError:
            self.broken[name] = metadata["uid"]
            raise
        self.broken.pop(name, None)
        self.remove(name)
        self.bindings[name] = record
        self._index(record)
        return None if known and _same(known, record) else record

    def written(self, raw: Mapping[str, Any]) -> bool:
        """Remember our own status write, so that the next reconcile sees it before the watch shows it.

        Returns:
            False where the answer also holds somebody's edit, which the watch has not shown yet: take it in as one.
        """
        metadata = raw["metadata"]
        record = self.bindings.get(Name(metadata["namespace"], metadata["name"]))
        version = int(metadata["resourceVersion"])
        if record is None or record.uid != metadata["uid"] or version <= record.resource_version:
            return True
        record.status_json = pack_status(raw.get("status"))
        if (record.generation, record.orders) != (metadata["generation"], parse_orders(metadata)):
            return False
        record.resource_version = version
        return True

    def remove(self, name: Name) -> BindingRecord | None:
        """Forget a binding."""
        self.broken.pop(name, None)
        record = self.bindings.pop(name, None)
        if record is not None:
            _drop(self._by_secret, record.secret, name)
            if record.secret not in self._by_secret:
                self._gone.pop(record.secret, None)
            for agent in record.agents:
                _drop(self._by_agent, agent, name)
        return record

    def _index(self, record: BindingRecord) -> None:
        _put(self._by_secret, record.secret, record.name)
        for agent in record.agents:
            _put(self._by_agent, agent, record.name)

    def secret_written(self, name: Name, record: SecretRecord) -> None:
        """Remember our own write of a Secret, unless the watch has shown something newer before the answer came."""
        known = self.secrets.get(name)
        newest = max(known.resource_version if known else 0, self._gone.get(name, 0))
        if record.resource_version > newest:
            self.secrets[name] = record
            self._gone.pop(name, None)

    def secret_deleted(self, name: Name, resource_version: int) -> bool:
        """Forget a Secret that was deleted at a version; False where a newer one is known already."""
        known = self.secrets.get(name)
        if known is not None and known.resource_version > resource_version:
            return False
        self.secrets.pop(name, None)
        if name in self._by_secret:
            self._gone[name] = resource_version
        return True

    def of_secret(self, secret: Name) -> tuple[Name, ...]:
        """Bindings that write a Secret (more than one is a conflict)."""
        return self._by_secret.get(secret, ())

    def of_agent(self, workload: WorkloadId) -> tuple[Name, ...]:
        """Bindings whose agents run in a workload."""
        return self._by_agent.get(workload, ())

    def workloads(self, kind: str) -> tuple[WorkloadId, ...]:
        """The workloads of one kind that any binding names."""
        return tuple(workload for workload in self._by_agent if workload.kind == kind)

    def of_store(self, store: str) -> Iterator[BindingRecord]:
        """Bindings that read from a store."""
        return (record for record in self.bindings.values() if record.store == store)


def _same(known: BindingRecord, new: BindingRecord) -> bool:
    """Whether all that a reconcile reads is the same: what we wrote ourselves comes back this way."""
    return (
        known.uid == new.uid
        and known.generation == new.generation
        and known.orders == new.orders
        and known.status_json == new.status_json
    )


def _put(index: dict[Any, tuple[Name, ...]], key: Name | WorkloadId, name: Name) -> None:
    index[key] = (*index.get(key, ()), name)


def _drop(index: dict[Any, tuple[Name, ...]], key: Name | WorkloadId, name: Name) -> None:
    left = tuple(other for other in index.get(key, ()) if other != name)
    if left:
        index[key] = left
    else:
        index.pop(key, None)
