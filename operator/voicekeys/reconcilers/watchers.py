"""The watches of everything but bindings: what they see goes into the inventory, whom it concerns into the queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from voicekeys.api import names
from voicekeys.model.errors import ApiError
from voicekeys.model.identity import Name, WorkloadId
from voicekeys.model.secret import parse_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from voicekeys.model.digest import Digester
    from voicekeys.reconcilers.inventory import Inventory
    from voicekeys.reconcilers.ports import Cluster
    from voicekeys.reconcilers.queue import WorkQueue
    from voicekeys.reconcilers.stores import Stores

log = structlog.get_logger(__name__)

WORKLOADS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}
_OURS = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"


class Watchers:
    """Watches Secrets of ours, workloads, namespaces and stores.

    Args:
        cluster: the Kubernetes API.
        inventory: told of Secrets and namespaces.
        stores: told of stores.
        queue: told whom an event concerns.
        digester: makes digests of Secrets.
        namespaces: the namespaces to watch; empty for the whole cluster.
        watch_stores: whether stores come from the API server (else from files).
    """

    def __init__(
        self,
        cluster: Cluster,
        inventory: Inventory,
        stores: Stores,
        queue: WorkQueue,
        digester: Digester,
        *,
        namespaces: Sequence[str],
        watch_stores: bool,
    ) -> None:
        self._cluster = cluster
        self._inventory = inventory
        self._stores = stores
        self._queue = queue
        self._digester = digester
        self._namespaces = tuple(namespaces)
        self._watch_stores = watch_stores
        self._unsynced = 0
        self._synced = asyncio.Event()
        self._listed: set[str] = set()

    async def synced(self) -> None:
        """Wait until every watch has listed all there is: before that, a reconcile would see gaps."""
        await self._synced.wait()

    async def run(self) -> None:
        """Watch for ever; cancel to stop."""
        scopes = self._namespaces or ("",)
        work = [self._secrets(scope) for scope in scopes]
        work += [self._workloads(resource, scope) for resource in WORKLOADS for scope in scopes]
        work.append(self._namespaces_by_name() if self._namespaces else self._all_namespaces())
        if self._watch_stores:
            work.append(self._store_objects())
        self._unsynced = len(work)
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)

    def _one_synced(self) -> None:
        self._unsynced -= 1
        if self._unsynced == 0:
            self._synced.set()

    async def _secrets(self, scope: str) -> None:
        listed: set[Name] = set()
        before: dict[Name, int] = {}
        first = True
        async for kind, raw in self._cluster.watch("secrets", scope, _OURS):
            if kind == "LISTING":
                listed = set()
                before = {name: record.resource_version for name, record in self._inventory.secrets.items()}
            elif kind == "SYNCED":
                self._sweep_secrets(scope, {name: seen for name, seen in before.items() if name not in listed})
                if first:
                    first = False
                    self._one_synced()
            else:
                name = _name(raw)
                listed.add(name)
                self._secret(name, kind, raw)

    def _secret(self, name: Name, kind: str, raw: Mapping[str, Any]) -> None:
        known = self._inventory.secrets.get(name)
        if kind == "DELETED":
            if self._inventory.secret_deleted(name, int(raw["metadata"]["resourceVersion"])):
                self._wake(self._inventory.of_secret(name))
            return
        if known is not None and int(raw["metadata"]["resourceVersion"]) <= known.resource_version:
            return  # the echo of our own write
        record = parse_secret(raw, self._digester)
        self._inventory.secrets[name] = record
        if not record.same_as(known):
            self._wake(self._inventory.of_secret(name))

    def _sweep_secrets(self, scope: str, missing: Mapping[Name, int]) -> None:
        for name, seen in missing.items():
            known = self._inventory.secrets.get(name)
            if known is None or known.resource_version != seen or scope not in {"", name.namespace}:
                continue  # of another scope, or written while the list was under way
            del self._inventory.secrets[name]
            self._wake(self._inventory.of_secret(name))

    async def _workloads(self, resource: str, scope: str) -> None:
        first, listed, owner = True, set[WorkloadId](), WORKLOADS[resource]
        async for kind, raw in self._cluster.watch(resource, scope, metadata_only=True):
            if kind == "LISTING":
                listed = set()
            elif kind == "SYNCED":
                for missing in set(self._inventory.workloads(owner)) - listed:
                    if scope in {"", missing.namespace}:
                        self._wake(self._inventory.of_agent(missing))  # deleted while the watch was cut
                if first:
                    first = False
                    self._one_synced()
            else:
                workload = WorkloadId(owner, *_name(raw))
                listed.add(workload)
                self._wake(self._inventory.of_agent(workload))

    async def _all_namespaces(self) -> None:
        first = True
        async for kind, raw in self._cluster.watch("namespaces", metadata_only=True):
            if kind == "SYNCED" and first:
                first = False
                self._one_synced()
            elif kind not in {"SYNCED", "LISTING"}:
                self._namespace(kind, raw)

    async def _namespaces_by_name(self) -> None:
        """Without cluster-wide rights each namespace's labels are read by its name, once a minute."""
        first, known = True, False
        while True:
            for namespace in self._namespaces:
                try:
                    raw = await self._cluster.get_namespace(namespace)
                except ApiError as error:
                    log.warning("namespace not read", namespace=namespace, reason=error.reason, message=error.message)
                    break
                if raw is not None:
                    self._namespace("MODIFIED", raw)
            else:
                known = True
            if known and first:
                first = False
                self._one_synced()
            await asyncio.sleep(60 if known else 5)

    def _namespace(self, kind: str, raw: Mapping[str, Any]) -> None:
        name, labels = raw["metadata"]["name"], raw["metadata"].get("labels") or {}
        if kind == "DELETED":
            self._inventory.namespaces.pop(name, None)
            return
        if self._inventory.namespaces.get(name) != labels:
            self._inventory.namespaces[name] = labels
            self._wake(tuple(one for one in self._inventory.bindings if one.namespace == name))

    async def sweep_bindings(self, take: Callable[[Mapping[str, Any]], None]) -> None:
        """List the bindings once more: kopf tells nobody of those that vanished while its watch was cut (a 410).

        Args:
            take: told each binding that exists.
        """
        for scope in self._namespaces or ("",):
            seen: set[Name] = set()
            before = {name: record.uid for name, record in self._inventory.bindings.items()}
            async for kind, raw in self._cluster.watch(names.BINDING_PLURAL, scope):
                if kind == "SYNCED":
                    break
                if kind == "ADDED":
                    seen.add(_name(raw))
                    take(raw)
            missing = [one for one in before if one not in seen and scope in {"", one.namespace}]
            for gone in missing:
                known = self._inventory.bindings.get(gone)
                if known is None or known.uid != before[gone]:
                    continue  # made while the list was under way
                self._inventory.remove(gone)
                self._queue.add(gone)

    async def _store_objects(self) -> None:
        first, listed = True, set[str]()
        async for kind, raw in self._cluster.watch(names.STORE_PLURAL):
            if kind == "LISTING":
                listed = set()
            elif kind == "SYNCED":
                for gone in [name for name in self._stores.all if name not in listed]:
                    await self._stores.remove(gone)
                if first:
                    first = False
                    self._one_synced()
            elif kind == "DELETED":
                await self._stores.remove(raw["metadata"]["name"])
            else:
                listed.add(raw["metadata"]["name"])
                await self._take_store(raw)

    async def _take_store(self, raw: Mapping[str, Any]) -> None:
        try:
            await self._stores.upsert(raw)
        except ValueError:
            # The CRD would have refused it: an older CRD is installed. The error's text may quote the spec.
            log.error("store cannot be used: install the CRDs of this version", store=raw["metadata"]["name"])  # noqa: TRY400

    def _wake(self, bindings: tuple[Name, ...]) -> None:
        for name in bindings:
            self._queue.add(name)


def _name(raw: Mapping[str, Any]) -> Name:
    return Name(raw["metadata"]["namespace"], raw["metadata"]["name"])
