"""The world that is measured: namespaces, keys in Vault, a store, bindings, made fast by the raw API."""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from tests.bench.processes import ROOT, SYSTEM_NAMESPACE
from voicekeys.api import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.lab import Lab

API = f"/apis/{names.GROUP}/{names.VERSION}"
STORE = "default"
PREFIX = "keys"
FIELD = "api_key"
SECRET_KEY = "PROVIDER_API_KEY"
CONCURRENCY = 16
FAN = "fan-out"

Request = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """How large it is: bindings over paths over namespaces (one identity each); `agents` of them have a Deployment."""

    bindings: int
    paths: int
    namespaces: int = 1
    agents: int = 0

    def __post_init__(self) -> None:
        if not self.bindings >= self.paths >= self.namespaces >= 1 or self.agents > self.bindings:
            raise ValueError("wanted: bindings ≥ paths ≥ namespaces ≥ 1, and agents ≤ bindings")


class World:
    """All objects of one run; `values` is what Vault holds, by path."""

    def __init__(self, lab: Lab, sizes: Sizes, interval: int, seed: int = 1) -> None:
        self.lab = lab
        self.sizes = sizes
        self.values: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        """Secret (`namespace/name`) to the path that it follows."""
        self._interval = interval
        self._random = random.Random(seed)

    def namespace(self, number: int) -> str:
        """The namespace of a path's number."""
        return f"bench-{number % self.sizes.namespaces}"

    def path(self, number: int) -> str:
        """A path by its number."""
        return f"{PREFIX}/{self.namespace(number)}/provider-{number:05}"

    def build(self, notify_key: bytes) -> None:
        """Make everything; the operator does not run yet."""
        lab = self.lab
        lab.kubectl("apply", "-k", ROOT / "crds")
        lab.kubectl("wait", "--for=condition=Established", "crd", "--all")
        lab.vault.share(PREFIX)
        lab.make_namespace(SYSTEM_NAMESPACE)
        data = {"key": base64.b64encode(notify_key).decode()}
        metadata = {"name": names.NOTIFY_SECRET, "namespace": SYSTEM_NAMESPACE}
        lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        for number in range(self.sizes.namespaces):
            name = lab.make_namespace(self.namespace(number), {"environment": "production"})
            account = {"metadata": {"name": "voicekeys-reader", "namespace": name}}
            lab.cluster.ensure({"apiVersion": "v1", "kind": "ServiceAccount", **account})
        self.put(self.path(number) for number in range(self.sizes.paths))
        lab.apply(self._store())
        self._create([self._deployment(number) for number in range(self.sizes.agents)])
        self._create([self._binding(number, number % self.sizes.paths) for number in range(self.sizes.bindings)])

    def fan_out(self, count: int) -> str:
        """Add bindings that all follow one new path, and give that path."""
        path = f"{PREFIX}/{self.namespace(0)}/{FAN}"
        self.put([path])
        self._create([self._binding_to(f"{FAN}-{number:05}", self.namespace(0), path) for number in range(count)])
        return path

    def put(self, paths: Iterable[str]) -> None:
        """Put a new value at each of the paths."""
        requests = []
        for path in paths:
            self.values[path] = f"sk-{self._random.getrandbits(160):040x}"
            requests.append((f"/v1/secret/data/{path}", {"data": {FIELD: self.values[path]}}))
        asyncio.run(_post(self.lab.vault_addr, {"X-Vault-Token": self.lab.vault_token}, requests))

    def check(self) -> None:
        """Look at every Secret and every binding.

        Raises:
            RuntimeError: one is not as it should be.
        """
        held: dict[str, str] = {}
        for item in self._all(f"/api/v1/secrets?labelSelector={names.MANAGED_BY_LABEL}%3D{names.MANAGED_BY}"):
            value = (item.get("data") or {}).get(SECRET_KEY, "")
            held[f"{item['metadata']['namespace']}/{item['metadata']['name']}"] = base64.b64decode(value).decode()
        wrong = [name for name, path in self.secrets.items() if held.get(name) != self.values[path]]
        faults = [f"Secret {name} does not hold what Vault has" for name in wrong]
        for item in self._all(f"{API}/{names.BINDING_PLURAL}?"):
            conditions = {one["type"]: one for one in item.get("status", {}).get("conditions") or ()}
            ready = conditions.get("Ready", {})
            if ready.get("status") != "True":
                faults.append(f"{item['metadata']['name']} is not Ready: {ready.get('message')}")
        if faults:
            raise RuntimeError(f"{len(faults)} objects are wrong, such as: {'; '.join(faults[:3])}")

    def _all(self, query: str) -> Iterable[dict[str, Any]]:
        following = ""
        while True:
            page = self.lab.api("GET", f"{query}&limit=500&continue={following}")
            yield from page["items"]
            following = page["metadata"].get("continue", "")
            if not following:
                return

    def _store(self) -> dict[str, Any]:
        rule = {
            "name": "production",
            "namespaceSelector": {"matchLabels": {"environment": "production"}},
            "pathPrefixes": [PREFIX],
            "environment": "production",
        }
        spec = {
            "vault": {"address": self.lab.vault_addr, "insecure": True},
            "auth": {"kubernetes": {"role": "voicekeys"}},
            "poll": {"interval": f"{self._interval}s"},
            "rules": [rule],
        }
        return {"apiVersion": names.API_VERSION, "kind": names.STORE_KIND, "metadata": {"name": STORE}, "spec": spec}

    def _binding(self, number: int, path: int) -> Request:
        agents = [{"kind": "Deployment", "name": _agent(number)}] if number < self.sizes.agents else []
        return self._binding_to(f"key-{number:05}", self.namespace(path), self.path(path), agents)

    def _binding_to(self, name: str, namespace: str, path: str, agents: list[dict[str, str]] | None = None) -> Request:
        self.secrets[f"{namespace}/{name}"] = path
        spec: dict[str, Any] = {
            "environment": "production",
            "source": {"path": path},
            "target": {"data": {SECRET_KEY: FIELD}},
            "rotation": {"maxAge": "90d", "warnBefore": "14d"},
        }
        if agents:
            spec["agents"] = agents
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.BINDING_KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        return f"{API}/namespaces/{namespace}/{names.BINDING_PLURAL}", body

    def _deployment(self, number: int) -> Request:
        namespace, name = self.namespace(number % self.sizes.paths), _agent(number)
        source = {"secretRef": {"name": f"key-{number:05}"}}
        pod = {"containers": [{"name": "agent", "image": "agent", "envFrom": [source]}]}
        spec = {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        }
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        return f"/apis/apps/v1/namespaces/{namespace}/deployments", body

    def _create(self, requests: list[Request]) -> None:
        tls = ssl.create_default_context(cafile=str(self.lab.ca_file))
        headers = {"Authorization": f"Bearer {self.lab.admin_token}"}
        asyncio.run(_post(self.lab.api_url, headers, requests, tls))


def _agent(number: int) -> str:
    return f"agent-{number:05}"


async def _post(base: str, headers: dict[str, str], requests: list[Request], tls: ssl.SSLContext | None = None) -> None:
    """POST all of them, some at a time; the first refusal ends it."""
    headers = headers | {"Content-Type": "application/json"}
    todo = iter(requests)

    async def work(session: aiohttp.ClientSession) -> None:
        for path, body in todo:
            async with session.post(base + path, data=orjson.dumps(body)) as answer:
                if answer.status >= 300:
                    raise RuntimeError(f"POST {path}: {answer.status} {(await answer.text())[:300]}")
                await answer.read()

    connector = aiohttp.TCPConnector(limit=CONCURRENCY, ssl=tls or True)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work(session))
