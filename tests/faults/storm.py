"""All faults at once, each at its own request of its own binding: what they did while they lasted, and what after.

::

    wave(fault)      namespace with a binding per request that a key change makes, each with its own path in Vault
    newcomer(fault)  namespace whose binding is made while its ServiceAccount gets no token and its events no answer
    vault(fault)     namespace with its own store, so that one Vault's faults are not another's
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from tests.faults import actions
from tests.reconcilers import objects
from tests.reconcilers.world import World, condition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.proxy import Proxy, Rule, Seen
    from tests.lab import Lab
    from tests.reconcilers.harness import Operator

WINDOW = 12.0  # seconds that faults last: longer than the ten after which an outage of Vault is told
IN_STREAM = "410 in the stream"
API_FAULTS: dict[str, Callable[[], Any]] = {
    "410": lambda: actions.answer(410),
    IN_STREAM: actions.expired_watch,
    "429": lambda: actions.answer(429, retry_after=1),
    "500": lambda: actions.answer(500),
    "409": lambda: actions.answer(409),
    "cut before": actions.cut_before,
    "cut after": actions.cut_after,
    "5 s late": lambda: actions.slow(5),
    "garbage": actions.garbage,
}
VAULT_FAULTS: dict[str, Callable[[], Any]] = {
    "sealed": lambda: actions.vault_says(503, "Vault is sealed"),
    "403": lambda: actions.vault_says(403, "permission denied"),
    "412": lambda: actions.vault_says(412, "required index state not present"),
    "429": lambda: actions.vault_says(429, "request path rate limit quota exceeded", retry_after=1),
    "500": lambda: actions.vault_says(500, "internal error"),
    "cut": actions.cut_before,
    "30 s late": lambda: actions.slow(30),
    "garbled": lambda: actions.garbage(b'{"data": {"da'),
    "of another shape": lambda: actions.answer(200, {"data": {"data": ["no", "map"], "metadata": 7}, "auth": []}),
}
# Each request of a key change: method, and path with {ns} and {name} (of binding, Secret and workload alike).
WAVE = {
    "get workload": ("GET", "/namespaces/{ns}/deployments/{name}$"),
    "list pods": ("GET", r"/namespaces/{ns}/pods\?(?!.*watch=1).*app(%3D|=){name}(&|$)"),
    "watch pods": ("GET", r"/namespaces/{ns}/pods\?(?=.*watch=1).*app(%3D|=){name}(&|$)"),
    "apply Secret": ("PATCH", "/namespaces/{ns}/secrets/{name}[?]"),
    "write status": ("PATCH", "/namespaces/{ns}/voicekeybindings/{name}/status"),
    "patch template": ("PATCH", "/namespaces/{ns}/deployments/{name}[?]"),
    "list quotas": ("GET", "/namespaces/{ns}/resourcequotas"),
}
NEWCOMER = {
    "mint token": ("POST", "/namespaces/{ns}/serviceaccounts/.*/token"),
    "write event": ("POST", "/namespaces/{ns}/events"),
}


@dataclass
class Case:
    """One fault at one request: of which binding, and what was seen when the faults ended."""

    request: str
    fault: str
    name: str = "voice"
    world: World = field(init=False)
    rule: Rule = field(init=False)
    before: dict[str, Any] = field(default_factory=dict)
    during: dict[str, Any] = field(default_factory=dict)
    requests: int = 0

    def look(self) -> dict[str, Any]:
        """What a user's agents have now: the key, their pods, and what the binding says."""
        world = self.world
        raw = world.binding(self.name)
        return {
            "data": world.data(self.name),
            "pods": sorted(pod["metadata"]["uid"] for pod in world.pods(self.name)),
            "replicaSets": self.replica_sets(),
            "ready": (condition_of(raw, "Ready") or {}).get("status"),
            "reachable": condition_of(raw, "SourceReachable"),
        }

    def value(self, version: int) -> str:
        """The key's value: nothing of the binding's name in it, or that name would be redacted in the log."""
        return hashlib.sha256(f"{version} {self.name}".encode()).hexdigest()

    def rolled_out(self) -> None:
        """Wait until the workload's pods run."""
        self.world.wait(f"{self.name} rolled out", lambda: self.world.rolled_out(self.name))

    def replica_sets(self) -> int:
        """How many templates the workload has had."""
        owners = [one["metadata"]["ownerReferences"][0]["name"] for one in self.world.replica_sets()]
        return owners.count(self.name)

    def arm(self, proxy: Proxy, method: str, path: str, fault: Callable[[], Any], **options: Any) -> None:
        """Begin with the fault."""
        found = path.format(ns=self.world.namespace, name=self.name)
        self.rule = proxy.add(fault(), method, found, **options)

    def __str__(self) -> str:
        return f"{self.fault} at {self.request}"


def api_cases() -> list[Case]:
    """Every fault of the API server at every request."""
    faults = [fault for fault in API_FAULTS if fault != IN_STREAM]
    wave = [Case(request, fault, request.replace(" ", "-").lower()) for fault in faults for request in WAVE]
    newcomers = [Case(request, fault) for fault in faults for request in NEWCOMER]
    # All that is well is no news: an event is written only where the token's fault is told.
    told = [case for case in newcomers if str(case) != "5 s late at write event"]
    return [*wave, *told, Case("watch pods", IN_STREAM, "watch-pods")]


def vault_cases() -> list[Case]:
    """Every fault of Vault at a login and at a read."""
    return [Case(request, fault) for fault in VAULT_FAULTS for request in ("login", "read")]


class Storm:
    """Runs all cases side by side, once."""

    def __init__(self, lab: Lab, operator: Operator, api: Proxy, vault: Proxy) -> None:
        self.lab = lab
        self.operator = operator
        self.api = api
        self.vault = vault
        self.cases = {str(case): case for case in api_cases() + vault_cases()}
        self.health: list[int] = []
        self._worlds: list[World] = []

    def _world(self, **store: Any) -> World:
        world = World(self.lab, self.operator, store=False)
        world.store(poll={"interval": "300s"}, **store)
        self._worlds.append(world)
        return world

    def prepare(self) -> None:
        """Make every tenant; those of a key change are in step with version 1."""
        for fault in API_FAULTS:
            world, alone, newcomer = self._world(), self._world(), self._world()
            for case in self._of(fault, WAVE):
                case.world = alone if case.request == "list quotas" else world
                self._follow(case)
            for case in self._of(fault, NEWCOMER):
                case.world = newcomer
                if case.request == "mint token":  # the other one is about the same binding
                    self._agent(case)
        for case in self._of_vault():
            case.world = self._world(vault={"address": self.vault.url})
            if case.request == "read":
                self._follow(case)
            else:
                self._agent(case)
        for case in self.cases.values():
            if self.changes(case):
                case.rolled_out()
                case.world.ready(case.name, 1)
                case.before = case.look()

    @staticmethod
    def changes(case: Case) -> bool:
        """Whether a case is about a key change (else about a binding that is new)."""
        return case.request not in {*NEWCOMER, "login"}

    def _of(self, fault: str, requests: dict[str, Any]) -> list[Case]:
        return [case for case in self.cases.values() if case.fault == fault and case.request in requests]

    def _of_vault(self) -> list[Case]:
        return [case for case in self.cases.values() if case.request in {"login", "read"}]

    def _agent(self, case: Case) -> None:
        case.world.put(case.name, api_key=case.value(1))
        case.world.deploy(case.name, replicas=1, secrets=(case.name,), drain="500ms", wait=False)

    def _follow(self, case: Case) -> None:
        self._agent(case)
        case.world.bind(case.name, case.name, agents=[objects.agent(case.name)])

    def blow(self) -> None:
        """Begin with the faults, change every key, and look at what happens until they end."""
        for case in self.cases.values():
            if case.request in {"login", "read"}:
                path = "/v1/secret/data/{ns}/" if case.request == "read" else "/v1/auth/kubernetes/login"
                fault = VAULT_FAULTS[case.fault]
                when = None if case.request == "read" else _login_of(case.world.namespace)
                case.arm(self.vault, "", path, fault, when=when)
            else:
                case.arm(self.api, *{**WAVE, **NEWCOMER}[case.request], API_FAULTS[case.fault])
        for case in self.cases.values():
            if self.changes(case):
                case.world.change(case.name, api_key=case.value(2))
            elif case.request != "write event":  # the same binding as its token's
                case.world.bind("voice", "voice", agents=[objects.agent("voice")])
        began = time.monotonic()
        while time.monotonic() - began < WINDOW:
            self.health.append(self.operator.get("/healthz")[0])
            time.sleep(0.5)
        for case in self.cases.values():
            case.requests = case.rule.matched
            case.during = case.look()

    def calm(self) -> None:
        """End the API server's faults, and Vault's as soon as each binding that lost it says so."""
        self.api.calm()
        for case in self._of_vault():
            if case.request == "read":
                case.world.until("SourceReachable", "False", seconds=45)
                case.during = case.look()
        self.vault.calm()

    def close(self) -> None:
        """Take every tenant away."""
        for world in self._worlds:
            world.close()


def _login_of(namespace: str) -> Callable[[Seen], bool]:
    """Whether a login is that of a ServiceAccount of a namespace: its token says so."""

    def when(seen: Seen) -> bool:
        token = (seen.json() or {}).get("jwt", "")
        claims = re.match(r"[^.]+\.([^.]+)\.", token)
        if claims is None:
            return False
        text = base64.urlsafe_b64decode(claims[1] + "=" * (-len(claims[1]) % 4))
        return bool(orjson.loads(text)["kubernetes.io"]["namespace"] == namespace)

    return when
