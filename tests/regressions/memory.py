"""A cluster, a Vault and clocks in memory, as the reconcilers' ports; what is in them is `Small`'s."""

from __future__ import annotations

import asyncio
import copy
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.reconcilers.check import violations
from voicekeys.model.errors import ApiConflict, ApiError, SourceMissing, StoreDown
from voicekeys.model.identity import Name, WorkloadId
from voicekeys.model.payload import KeyVersion, Payload
from voicekeys.reconcilers.pods import selector_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.regressions.small import Small
    from tests.regressions.virtual import VirtualLoop
    from voicekeys.model.identity import Identity

Object = dict[str, Any]

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Both clocks of the loop's time; the wall clock may be `ahead`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.ahead = timedelta()

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time()) + self.ahead

    def monotonic(self) -> float:
        return self._loop.time()


class Vault:
    """A store's client; what it gives is the world's."""

    def __init__(self, small: Small) -> None:
        self._small = small
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0

    async def read(self, identity: Identity, path: str, version: int = 0) -> KeyVersion:
        del identity
        self.times.append(self._small.loop.time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0.01)
        finally:
            self.in_flight -= 1
        if self._small.vault_down:
            raise StoreDown("VaultUnreachable", "it is down: wait")
        versions = self._small.keys[path]
        number = version or max(versions)
        if number in self._small.unreadable:
            raise StoreDown("VaultUnreachable", "it is down: wait")
        if number in self._small.lost:
            raise SourceMissing("KeyMissing", "it was destroyed: put it again")
        return KeyVersion(number, EPOCH, Payload(versions[number]))

    async def close(self) -> None:
        """Nothing is held."""


class Cluster:
    """The API server: as much of it as the reconcilers use."""

    def __init__(self, small: Small) -> None:
        self._small = small
        self.secrets: dict[Name, Object] = {}
        self.workloads: dict[WorkloadId, Object] = {}
        self.quotas: list[Object] = []
        self.pods: dict[str, Object] = {}
        self.bindings: dict[Name, Object] = {}
        self.patches: list[dict[str, str | None]] = []
        self.armings: list[Object] = []
        self.kubelet_said: set[tuple[str, str]] = set()  # UIDs of pods, and reasons of events about them
        self.no_events: ApiError | None = None  # what reading events raises
        self.looks: list[tuple[str, str, str]] = []
        self.watchers: list[tuple[str, asyncio.Queue[tuple[str, Object]]]] = []
        self._versions = itertools.count(100)

    def version(self) -> str:
        return str(next(self._versions))

    async def get_secret(self, name: Name) -> Object | None:
        return self.secrets.get(name)

    async def apply_secret(self, manifest: Mapping[str, Any]) -> Object:
        name = Name(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        old, new = self.secrets.get(name), copy.deepcopy(dict(manifest))
        if manifest["metadata"].get("uid") and old is None:
            raise ApiConflict("Conflict", "it is gone", status=409)
        new["metadata"]["uid"] = old["metadata"]["uid"] if old else f"s-{self.version()}"
        new["metadata"]["resourceVersion"] = self.version()
        self.secrets[name] = new
        return copy.deepcopy(new)

    async def replace_status(self, kind: str, name: Name, uid: str, status: Mapping[str, Any]) -> Object:
        del kind, uid
        self._small.before_status(status)
        raw = self.bindings[name]
        raw["status"] = copy.deepcopy(dict(status))
        raw["metadata"]["resourceVersion"] = self.version()
        self._small.broken += [f"{name.name}: {what}" for what in violations(raw, finished=False)]
        return copy.deepcopy(raw)

    async def get_workload(self, workload: WorkloadId) -> Object | None:
        return copy.deepcopy(self.workloads.get(workload))

    async def arm_template(
        self,
        workload: WorkloadId,
        uid: str,
        resource_version: str,
        arming: Mapping[str, Any],
        annotations: Mapping[str, str | None],
    ) -> Object:
        self.armings.append(dict(arming))
        return await self.annotate_template(workload, uid, resource_version, annotations)

    async def give_up_template(self, workload: WorkloadId, raw: Object) -> Object:
        del workload
        return raw

    async def annotate_pod(self, namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> None:
        del namespace
        pod = self.pods[name]
        assert pod["metadata"]["uid"] == uid
        pod["metadata"].setdefault("annotations", {}).update(annotations)
        self.tell("MODIFIED", pod)

    async def list_pods(self, namespace: str, selector: Mapping[str, Any]) -> list[Object]:
        del namespace
        return [copy.deepcopy(pod) for pod in self.pods.values() if matches(pod, selector_text(selector))]

    async def annotate_template(
        self, workload: WorkloadId, uid: str, resource_version: str, annotations: Mapping[str, str | None]
    ) -> Object:
        del uid, resource_version
        raw = self.workloads[workload]
        found = raw["spec"]["template"]["metadata"].setdefault("annotations", {})
        for key, value in annotations.items():
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
        raw["metadata"]["generation"] += 1
        raw["metadata"]["resourceVersion"] = self.version()
        self.patches.append(dict(annotations))
        return copy.deepcopy(raw)

    async def get_namespace(self, name: str) -> Object | None:
        return {"metadata": {"name": name}}

    async def list_quotas(self, namespace: str) -> list[Object]:
        del namespace
        return self.quotas

    async def has_event(self, namespace: str, uid: str, reason: str) -> bool:
        self.looks.append((namespace, uid, reason))
        if self.no_events is not None:
            raise self.no_events
        return (uid, reason) in self.kubelet_said

    async def mint_token(self, identity: Identity, audience: str) -> str:
        raise NotImplementedError

    def emit(self, regarding: Mapping[str, str], kind: str, reason: str, message: str) -> None:
        del regarding, kind
        self._small.events.append((reason, message))

    async def watch(
        self, resource: str, namespace: str = "", selector: str = "", *, metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, Object]]:
        del resource, namespace, metadata_only
        queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        self.watchers.append((selector, queue))
        yield "LISTING", {}
        for pod in list(self.pods.values()):
            if matches(pod, selector):
                yield "ADDED", copy.deepcopy(pod)
        yield "SYNCED", {}
        while True:
            yield await queue.get()

    def tell(self, kind: str, pod: Object) -> None:
        for selector, queue in self.watchers:
            if matches(pod, selector):
                queue.put_nowait((kind, copy.deepcopy(pod)))


def matches(pod: Object, selector: str) -> bool:
    """Whether a pod has the labels of a selector."""
    wanted = dict(part.split("=") for part in selector.split(",")) if selector else {}
    return bool(wanted.items() <= pod["metadata"]["labels"].items())
