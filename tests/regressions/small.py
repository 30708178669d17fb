"""The real reconcilers over a small cluster and Vault in memory, in virtual time: hours pass in milliseconds.

::

    def test_something() -> None:
        with Small() as small:
            small.deploy(); small.pod("old"); small.bind()
            small.put("two"); small.pass_by(20)
            assert small.reason("Ready") == "…"
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from tests.reconcilers.world import condition_of, message_of
from tests.regressions.agents import Agents
from tests.regressions.memory import EPOCH, Clock, Cluster, Object, Vault, matches
from tests.regressions.virtual import VirtualLoop
from voicekeys.api import names
from voicekeys.model.digest import Digester
from voicekeys.model.errors import Retryable, VoiceKeysError
from voicekeys.model.identity import Name, WorkloadId
from voicekeys.model.secret import parse_secret
from voicekeys.reconcilers.arming import Arming
from voicekeys.reconcilers.binding import BindingReconciler
from voicekeys.reconcilers.calls import Calls
from voicekeys.reconcilers.drains import Drains
from voicekeys.reconcilers.gather import Gatherer
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.leftovers import Leftovers
from voicekeys.reconcilers.outcome import Outcome
from voicekeys.reconcilers.pods import PodTracker
from voicekeys.reconcilers.queue import WorkQueue
from voicekeys.reconcilers.rollout import Rollouts
from voicekeys.reconcilers.shared import SharedKeys
from voicekeys.reconcilers.siblings import Siblings
from voicekeys.reconcilers.stores import Stores
from voicekeys.reconcilers.sync import Sync
from voicekeys.reconcilers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Mapping


AGENTS = [{"kind": "Deployment", "name": "agent"}]
NS = "n"
BINDING = {"apiVersion": names.API_VERSION, "kind": names.BINDING_KIND}


class Armed:
    """Who arms new pods: the API server, until `goes`."""

    def __init__(self) -> None:
        self.arms = True
        self.changes = 0

    def goes(self) -> None:
        """The policy is taken out."""
        self.arms = False
        self.changes += 1


class Small:
    """A cluster with one namespace, a Vault, and the operator's reconcilers."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = Clock(self.loop)
        self.limit = 0
        self.admission = Armed()
        self.agents = Agents()
        self.woken: list[Name] = []
        self.vault_down = False
        self.unreadable: set[int] = set()
        self.lost: set[int] = set()
        self.keys: dict[str, dict[int, dict[str, bytes]]] = {}
        self.events: list[tuple[str, str]] = []
        self.broken: list[str] = []  # laws that a written status broke
        self.cluster = Cluster(self)
        self._bound: list[Name] = []
        self.vault = Vault(self)
        self._store: Object = {}

    def before_status(self, status: Mapping[str, Any]) -> None:
        """Told of each status before it is written; a test may raise here."""

    def __enter__(self) -> Self:
        asyncio.set_event_loop(self.loop)
        self.put("one")
        self.store()
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        self.loop.close()
        assert not self.broken, "\n".join(self.broken)

    # ---- the operator

    def boot(self, key: bytes = b"f" * 32) -> None:
        """Start the operator, anew if it ran: what it knew is in statuses only."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.cluster.watchers.clear()
        self.inventory = inventory = Inventory()
        inventory.namespaces[NS] = {}
        digester = Digester(key)
        for name, secret in self.cluster.secrets.items():
            if (secret["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == "voicekeys":
                inventory.secrets[name] = parse_secret(secret, digester)

        async def connect(name: str, spec: Any) -> Vault:
            del name, spec
            return self.vault

        def ignore(*_: object) -> None:
            """Reconciles come by the clock."""

        self.stores = Stores(
            connect, self.clock, random.Random(1), on_change=ignore, on_store=ignore, on_rebuilt=ignore, on_lag=ignore
        )
        cluster = self.cluster
        tracker, outcome = PodTracker(cluster, ignore), Outcome(cluster, cluster, inventory, inventory.upsert)
        gatherer = Gatherer(inventory, self.stores, cluster, self.clock)
        shared = SharedKeys(digester, self.stores.find)
        sync = Sync(gatherer, self.stores, cluster, inventory, outcome, digester, shared)
        turns = Turns(inventory, self.limit, self.woken.append)
        self.drains = Drains(self.agents, self.clock, random.Random(1), ignore)
        calls = Calls(self.drains, tracker, cluster, outcome)
        arming = Arming(cluster, calls, self.clock, self.admission, lambda: "gauge:1", inventory.of_agent)
        leftovers = Leftovers(gatherer, tracker)
        siblings = Siblings(inventory)
        rollouts = Rollouts(gatherer, siblings, turns, outcome, leftovers, arming, digester, self.clock)
        self.reconciler = BindingReconciler(gatherer, sync, rollouts, outcome, self.stores, self.clock, WorkQueue())
        for raw in cluster.bindings.values():
            inventory.upsert(copy.deepcopy(raw))
        self.loop.run_until_complete(self.stores.upsert(self._store))

    def pass_by(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, with a look at every binding after each step."""
        self.loop.run_until_complete(self._pass_by(int(seconds / step), step))

    async def _pass_by(self, steps: int, step: float) -> None:
        for _ in range(steps):
            for name in list(self._bound):
                with contextlib.suppress(Retryable):
                    await self.reconciler.reconcile(name)
            await asyncio.sleep(step)

    def outage(self, seconds: float) -> None:
        """Let time pass while the operator is down, and start it again."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.boot()

    # ---- what people do

    def store(self, prefix: str = "voice", **spec: Any) -> None:
        """Make or change the store; bindings may read below the prefix."""
        rules = [{"name": "r", "namespaceSelector": {}, "pathPrefixes": [prefix], "environment": "p"}]
        base = {"vault": {"address": "https://vault.example"}, "auth": {"kubernetes": {"role": "r"}}, "rules": rules}
        metadata = {"name": "default", "uid": "st", "generation": 1, "resourceVersion": self.cluster.version()}
        self._store = {"metadata": metadata, "spec": base | spec}
        if hasattr(self, "stores"):
            self.loop.run_until_complete(self.stores.upsert(self._store))

    def put(self, word: str, path: str = "voice/a", field: str = "api_key") -> int:
        """Put a version of a key, and have it read at once."""
        versions = self.keys.setdefault(path, {})
        number = max(versions, default=0) + 1
        versions[number] = {field: f"key-{word}-0123456789".encode()}
        for store in self.stores.all.values() if hasattr(self, "stores") else ():
            if store.poller is not None:
                for source in list(store.poller.sources.values()):
                    store.poller.read_now(source)
        return number

    def bind(self, name: str = "b", **spec: Any) -> Name:
        """Make or change a binding."""
        key = Name(NS, name)
        fresh = {"name": name, "namespace": NS, "uid": f"u-{self.cluster.version()}", "generation": 0}
        fresh["creationTimestamp"] = "2026-01-01T00:00:00Z"
        made = {**BINDING, "metadata": fresh, "status": {"observedGeneration": -1}}
        raw = self.cluster.bindings.setdefault(key, made)
        raw["metadata"]["generation"] += 1
        raw["metadata"]["resourceVersion"] = self.cluster.version()
        raw["spec"] = {"environment": "p", "source": {"path": "voice/a"}, "agents": AGENTS} | spec
        self.inventory.upsert(copy.deepcopy(raw))
        if key not in self._bound:
            self._bound.append(key)
        return key

    def unbind(self, name: str = "b", *, prune: bool = False) -> None:
        """Delete a binding, with its Secret if the garbage collector would."""
        key = Name(NS, name)
        self.cluster.bindings.pop(key)
        self.inventory.remove(key)
        self.loop.run_until_complete(self.reconciler.reconcile(key))
        self._bound.remove(key)
        if prune:
            self.cluster.secrets.pop(key)
            self.inventory.secrets.pop(key)

    def sync_now(self, value: str, name: str = "b") -> None:
        """Annotate a binding."""
        raw = self.cluster.bindings[Name(NS, name)]
        raw["metadata"].setdefault("annotations", {})[names.SYNC_NOW_ANNOTATION] = value
        raw["metadata"]["resourceVersion"] = self.cluster.version()
        self.inventory.upsert(copy.deepcopy(raw))

    def deploy(self, *secrets: str, replicas: int = 1) -> Object:
        """Make the Deployment `agent`; its pods are made by `pod`."""
        env = [{"secretRef": {"name": name}} for name in secrets or ("b",)]
        template = {"metadata": {}, "spec": {"containers": [{"name": "c", "envFrom": env}]}}
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        selector = {"matchLabels": {"app": "agent"}}
        metadata = {"name": "agent", "namespace": NS, "uid": "w", "resourceVersion": "1", "generation": 1}
        raw: Object = {
            "metadata": metadata,
            "spec": {"replicas": replicas, "selector": selector, "strategy": strategy, "template": template},
        }
        self.cluster.workloads[WorkloadId("Deployment", NS, "agent")] = raw
        self.controller(updated=replicas, available=replicas)
        return raw

    def quota(self, hard: int, used: int) -> None:
        """Limit the namespace's pods."""
        status = {"hard": {"pods": str(hard)}, "used": {"pods": str(used)}}
        self.cluster.quotas = [{"metadata": {"name": "q"}, "spec": {}, "status": status}]

    # ---- what controllers and kubelets do

    @property
    def workload(self) -> Object:
        return self.cluster.workloads[WorkloadId("Deployment", NS, "agent")]

    @property
    def annotations(self) -> dict[str, str]:
        """Of the pod template, as it is."""
        return dict(self.workload["spec"]["template"]["metadata"].get("annotations", {}))

    def controller(self, *, updated: int = 1, available: int = 1) -> None:
        """Let the Deployment's controller see the newest template, and count."""
        counts = {"updatedReplicas": updated, "availableReplicas": available}
        self.workload["status"] = {"observedGeneration": self.workload["metadata"]["generation"], **counts}

    def pod(self, name: str, *, ready: bool = True, annotations: dict[str, str] | None = None, **metadata: Any) -> None:
        """Make a pod, of the newest template unless told otherwise."""
        now = self.stamp()
        sets = f"agent-{name.replace('-', '')}"
        owner = {"controller": True, "kind": "ReplicaSet", "name": sets, "uid": f"rs-{name}"}
        own = {
            "uid": f"p-{name}",
            "name": name,
            "namespace": NS,
            "labels": {"app": "agent"},
            "annotations": self.annotations if annotations is None else annotations,
            "creationTimestamp": now,
            "ownerReferences": [owner],
        }
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": now}]
        containers = [{"name": "c", "state": {"running": {"startedAt": now}}}]
        self.cluster.pods[name] = {
            "metadata": own | metadata,
            "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 30},
            "status": {"phase": "Running", "conditions": conditions, "containerStatuses": containers},
        }
        self.cluster.tell("ADDED", self.cluster.pods[name])

    def restart_container(self, name: str, *, ready: bool = True) -> None:
        """Start a pod's container again, which reads the Secret anew (K13)."""
        status = self.cluster.pods[name]["status"]
        status["conditions"] = [{"type": "Ready", "status": str(ready), "lastTransitionTime": self.stamp()}]
        status["containerStatuses"] = [{"name": "c", "state": {"running": {"startedAt": self.stamp()}}}]
        self.cluster.tell("MODIFIED", self.cluster.pods[name])

    def relabel(self, name: str, **metadata: Any) -> None:
        """Change a pod's labels: to a watch by selector it looks deleted."""
        pod = self.cluster.pods[name]
        before = copy.deepcopy(pod)
        pod["metadata"].update(metadata)
        for selector, queue in self.cluster.watchers:
            if matches(before, selector):
                kind = "MODIFIED" if matches(pod, selector) else "DELETED"
                queue.put_nowait((kind, copy.deepcopy(pod if kind == "MODIFIED" else before)))

    def terminate(self, name: str) -> None:
        """Ask a pod to end."""
        self.cluster.pods[name]["metadata"]["deletionTimestamp"] = self.stamp(30)
        self.cluster.tell("MODIFIED", self.cluster.pods[name])

    def exit(self, name: str) -> None:
        """Let a pod's containers end; its object is there for a while."""
        pod = self.cluster.pods[name]
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "c", "state": {"terminated": {}}}]}
        self.cluster.tell("MODIFIED", pod)

    def end(self, name: str) -> None:
        """Let a pod end, seen."""
        pod = self.cluster.pods.pop(name)
        pod["metadata"]["deletionTimestamp"] = self.stamp()
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "c", "state": {"terminated": {}}}]}
        self.cluster.tell("DELETED", pod)

    def stamp(self, seconds: float = 0) -> str:
        """The API server's time, whatever the operator's clock says."""
        moment = EPOCH + timedelta(seconds=self.loop.time() + seconds)
        return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")

    # ---- what people see

    def status(self, name: str = "b") -> Any:
        return self.cluster.bindings[Name(NS, name)]["status"]

    def binding(self, name: str = "b") -> Object:
        return self.cluster.bindings[Name(NS, name)]

    def reason(self, kind: str, name: str = "b") -> str:
        return str((condition_of(self.binding(name), kind) or {}).get("reason", ""))

    def message(self, kind: str, name: str = "b") -> str:
        return message_of(self.binding(name), kind)

    def is_true(self, kind: str, name: str = "b") -> bool:
        return (condition_of(self.binding(name), kind) or {}).get("status") == "True"

    def phase(self, name: str = "b") -> str:
        return str((self.status(name).get("rotation") or {}).get("phase", ""))

    def agent(self, name: str = "b") -> Any:
        return self.status(name)["agents"][0]

    def outcomes(self, name: str = "b") -> list[str]:
        return [entry["outcome"] for entry in self.status(name).get("history") or []]

    def secret(self, name: str = "b") -> str:
        """Which key a Secret holds: the word that `put` was given."""
        data = self.cluster.secrets[Name(NS, name)]["data"]
        return base64.b64decode(data["api_key"]).decode().split("-")[1]

    @property
    def patches(self) -> list[dict[str, str | None]]:
        return self.cluster.patches


__all__ = ["AGENTS", "NS", "Small", "VoiceKeysError"]
