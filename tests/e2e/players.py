"""Those who act at random: people with kubectl, with Vault, with workloads; the network; the operator's machine."""

from __future__ import annotations

import base64
import contextlib
import time
from typing import TYPE_CHECKING, Any

from tests.e2e.truth import FIELD, Bound, Key, Truth, Workload
from tests.faults import actions
from tests.lab.http import ApiError
from tests.reconcilers import objects
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.faults.proxy import Proxy, Seen
    from tests.lab import Lab
    from tests.reconcilers.harness import Operator

GARBAGE: tuple[dict[str, Any], ...] = ({"other": "field"}, {FIELD: ""}, {})
SURGE = {"rollout": {"propagation": "1s", "timeout": "8s", "maxRestartsPerHour": 60}}
API_FAULTS = (
    lambda: actions.answer(429, retry_after=1),
    lambda: actions.answer(500),
    lambda: actions.answer(409),
    lambda: actions.answer(410),
    actions.cut_before,
    actions.cut_after,
    actions.garbage,
    lambda: actions.slow(5),
    actions.expired_watch,
)
VAULT_FAULTS = (
    lambda: actions.vault_says(503, "Vault is sealed"),
    lambda: actions.vault_says(412, "required index state not present"),
    lambda: actions.vault_says(403, "permission denied"),
    lambda: actions.vault_says(429, "rate limit quota exceeded", retry_after=1),
    lambda: actions.vault_says(500, "internal error"),
    actions.cut_before,
    lambda: actions.slow(3),
    lambda: actions.garbage(b"<html>"),
)
API_PATHS = ("", "/secrets", "/status", "/deployments|/statefulsets", "/pods", "watch=1", "/token", "/events")
DRAINS = ({"drain": "200ms"}, {"drain": "2s"}, {"end": "vanish"}, {"exit-code": "137"}, {"ready": "never"})


def _not_kopfs(seen: Seen) -> bool:
    """Spare the list and watch of bindings, which are kopf's: `tests/faults/test_kopf.py` has its faults."""
    return not (seen.method == "GET" and seen.path.endswith("/voicekeybindings"))


class Tenant:
    """One namespace with its people. What they do, they tell `truth`."""

    def __init__(self, lab: Lab, operator: Operator, vault: Proxy, random: Random) -> None:
        self.world = World(lab, operator, store=False)
        self.world.store(vault={"address": vault.url}, poll={"interval": "5s"})
        self.truth = Truth()
        self.random = random
        self._values = 0
        for path in ("one", "two", "three"):
            self.truth.keys[path] = Key()
            self.put(path)
        self._workload("Deployment", "calls", "a", "b")
        self._workload("Deployment", "chats", "c")
        self._workload("StatefulSet", "trunk", "a")
        self._workload("DaemonSet", "edge", "c")
        self._binding("a", "one", ("Deployment", "calls"), ("StatefulSet", "trunk"))
        self._binding("b", "two", ("Deployment", "calls"))
        self._binding("c", "two", ("Deployment", "chats"), ("DaemonSet", "edge"))
        self._binding("d", "three")

    def _workload(self, kind: str, name: str, *bindings: str) -> None:
        self.truth.workloads[name] = Workload(kind, name, bindings)
        # Every template that it ever has is to be seen in the end.
        kept = {"revisionHistoryLimit": 1000}
        pod = {"terminationGracePeriodSeconds": 2}
        self.world.deploy(name, kind, replicas=2, secrets=bindings, pod=pod, spec=kept, wait=False, drain="500ms")

    def _binding(self, name: str, path: str, *agents: tuple[str, str]) -> None:
        self.truth.bindings[name] = Bound(name, path, agents)
        self.bind(name)

    # ---- people with Vault

    def put(self, path: str) -> None:
        """Put a key that never was before."""
        self._values += 1
        self._write(path, {FIELD: f"value-{self.world.namespace}-{path}-{self._values:05d}"})

    def put_again(self, path: str) -> None:
        """Put the same value as a new version."""
        versions = self.truth.keys[path].versions
        self._write(path, dict(versions[-1]))

    def put_garbage(self, path: str) -> None:
        """Put what no Secret can be made of."""
        self._write(path, dict(self.random.choice(GARBAGE)))

    def _write(self, path: str, fields: dict[str, Any]) -> None:
        # Told before it is done: from then on the operator may have it.
        self.truth.keys[path].versions.append(fields)
        self.truth.changed(path)
        self.world.lab.put_key(f"{self.world.namespace}/{path}", **fields)

    def delete_key(self, path: str) -> None:
        """Delete the newest version (it can be brought back)."""
        key = self.truth.keys[path]
        key.deleted.add(len(key.versions))
        self.world.vault("POST", f"secret/delete/{{}}/{path}", {"versions": [len(key.versions)]})

    def undelete_key(self, path: str) -> None:
        """Bring the newest version back."""
        key = self.truth.keys[path]
        self.truth.changed(path)
        key.deleted.discard(len(key.versions))
        self.world.vault("POST", f"secret/undelete/{{}}/{path}", {"versions": [len(key.versions)]})

    def notify(self, path: str) -> None:
        """Tell the operator, if it is there to be told."""
        with contextlib.suppress(OSError, AssertionError):
            self.world.notify(path)

    # ---- people with bindings and Secrets

    def bind(self, name: str) -> None:
        """Apply a binding (again)."""
        bound = self.truth.bindings[name]
        self.truth.touched(name)
        bound.alive, bound.suspended = True, False
        agents = [objects.agent(workload, kind) for kind, workload in bound.agents]
        data = {"data": {FIELD: FIELD}}
        self.world.bind(name, bound.path, agents=agents, target=data, suspend=False, **SURGE)

    def unbind(self, name: str) -> None:
        """Delete a binding; its Secret stays."""
        self.truth.bindings[name].alive = False
        with contextlib.suppress(ApiError):
            self.world.delete(self.world.binding(name))

    def suspend(self, name: str) -> None:
        """Suspend a binding, or take that back."""
        bound = self.truth.bindings[name]
        if bound.alive:
            bound.suspended = not bound.suspended
            self.world.edit(name, suspend=bound.suspended)

    def sync_now(self, name: str) -> None:
        """Ask for a read, and for another try of a refused key."""
        if self.truth.bindings[name].alive:
            self.truth.touched(name)
            self.world.sync_now(name)

    def move(self, name: str) -> None:
        """Let a binding read another path."""
        bound = self.truth.bindings[name]
        if bound.alive:
            bound.path = self.random.choice(list(self.truth.keys))
            self.truth.touched(name)
            self.world.edit(name, source={"path": f"{self.world.namespace}/{bound.path}"})

    def edit_secret(self, name: str) -> None:
        """Write into a Secret by hand."""
        secret = self.world.get("Secret", name)
        if secret is not None:
            value = f"by-hand-{self.random.randrange(1000)}"
            self.truth.bindings[name].edited.add(value)
            self.world.patch(secret, {"data": {FIELD: base64.b64encode(value.encode()).decode()}})

    def delete_secret(self, name: str) -> None:
        """Delete a Secret by hand."""
        secret = self.world.get("Secret", name)
        if secret is not None:
            self.truth.secrets_away.add(name)
            self.world.delete(secret)

    # ---- people with workloads

    def pause(self, name: str) -> None:
        """Pause a Deployment, or resume it."""
        workload = self.truth.workloads[name]
        if workload.kind == "Deployment":
            workload.paused = not workload.paused
            self._patch(name, {"paused": workload.paused})

    def scale(self, name: str) -> None:
        """Have another number of pods."""
        if self.truth.workloads[name].kind != "DaemonSet":
            self._patch(name, {"replicas": self.random.randint(1, 3)})

    def edit_template(self, name: str, marks: dict[str, str] | None = None) -> None:
        """Change how a workload's pods start and end: a rollout of the user's own."""
        self.truth.workloads[name].causes += 1
        chosen = self.random.choice(DRAINS) if marks is None else marks
        if chosen == {"ready": "never"} and self.truth.workloads[name].kind == "StatefulSet":
            chosen = {}  # its controller would wait for such a pod for ever, whatever the template says later
        every = {f"lab.voicekeys.dev/{key}": None for one in DRAINS for key in one}
        wanted = every | {f"lab.voicekeys.dev/{key}": value for key, value in chosen.items()}
        self._patch(name, {"template": {"metadata": {"annotations": wanted}}})

    def delete_pod(self, name: str) -> None:
        """Delete a pod."""
        pods = sorted(pod["metadata"]["name"] for pod in self.world.pods(name))
        pod = self.world.get("Pod", self.random.choice(pods)) if pods else None
        if pod is not None:
            with contextlib.suppress(ApiError):
                self.world.delete(pod)

    def _patch(self, name: str, spec: dict[str, Any]) -> None:
        raw = self.world.get(self.truth.workloads[name].kind, name)
        assert raw is not None
        self.world.patch(raw, {"spec": spec})

    # ---- one of all this

    def act(self) -> str:
        """Do one thing at random; say what."""
        weighted: tuple[tuple[int, Callable[[str], None], Any], ...] = (
            (8, self.put, self.truth.keys),
            (2, self.put_again, self.truth.keys),
            (2, self.put_garbage, self.truth.keys),
            (2, self.delete_key, self.truth.keys),
            (2, self.undelete_key, self.truth.keys),
            (4, self.notify, self.truth.keys),
            (2, self.bind, self.truth.bindings),
            (1, self.unbind, self.truth.bindings),
            (1, self.suspend, self.truth.bindings),
            (2, self.sync_now, self.truth.bindings),
            (1, self.move, self.truth.bindings),
            (3, self.edit_secret, self.truth.bindings),
            (2, self.delete_secret, self.truth.bindings),
            (2, self.pause, self.truth.workloads),
            (2, self.scale, self.truth.workloads),
            (2, self.edit_template, self.truth.workloads),
            (2, self.delete_pod, self.truth.workloads),
        )
        [(_, deed, on)] = self.random.choices(weighted, [weight for weight, *_ in weighted])
        name = self.random.choice(list(on))
        deed(name)
        return f"{deed.__name__} {name}"

    def settle(self) -> None:
        """At the end: everything is there, resumed, able to start; refused keys are tried once more."""
        for name, workload in self.truth.workloads.items():
            if workload.paused:
                self.pause(name)
            self.edit_template(name, {"drain": "500ms"})
        for name in self.truth.bindings:
            self.bind(name)
            self.sync_now(name)


class Weather:
    """The network and the operator's machine."""

    def __init__(self, lab: Lab, operator: Operator, api: Proxy, vault: Proxy, random: Random) -> None:
        self.lab = lab
        self.operator = operator
        self.api = api
        self.vault = vault
        self.random = random
        self._left = 0  # acts until a fault ends

    def act(self) -> str:
        """Begin or end one fault, or end the operator."""
        if self._left == 1:
            self.calm()
            return "calm"
        self._left = max(0, self._left - 1)
        deeds = [
            self._api,
            self._api,
            self._api,
            self._vault,
            self._vault,
            self._seal,
            self._cut,
            self._kill,
            self._restart,
        ]
        deed = self.random.choice(deeds)
        return deed()

    def calm(self) -> None:
        """End all faults."""
        self._left = 0
        self.api.calm()
        self.vault.calm()

    def _api(self) -> str:
        fault, path = self.random.randrange(len(API_FAULTS)), self.random.choice(API_PATHS)
        self.api.add(API_FAULTS[fault](), "", path, when=_not_kopfs)
        self._left = self.random.randint(1, 3)
        return f"fault {fault} of the API server at {path or 'all'}"

    def _vault(self) -> str:
        fault = self.random.randrange(len(VAULT_FAULTS))
        self.vault.add(VAULT_FAULTS[fault](), "")
        self._left = self.random.randint(1, 4)
        return f"fault {fault} of Vault"

    def _seal(self) -> str:
        self.lab.vault.seal()
        time.sleep(self.random.uniform(0.5, 3))  # who puts keys waits as well
        self.lab.vault.unseal()
        return "Vault sealed and unsealed"

    def _cut(self) -> str:
        return f"{self.api.cut_streams()} watches cut"

    def _kill(self) -> str:
        self.calm()  # it has to start
        self.operator.restart(kill=True)
        return "operator killed and started"

    def _restart(self) -> str:
        self.calm()
        self.operator.restart()
        return "operator restarted"
