"""What the benchmark runs in: two real nodes, the operator in a pod as `deploy/` installs it, and the arms' agents."""

from __future__ import annotations

import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.drain.arms import IMAGE, SECRET_KEY, Arm
from tests.bench.drain.arms import objects as arm_objects
from tests.bench.drain.sipp import missing as sipp_missing
from tests.lab.nodes import RealNodes, images
from tests.lab.nodes.requirements import missing as nodes_missing
from tests.lab.processes import LabError, eventually
from tests.nodes.install import overlay
from tests.nodes.witness import Event, Witness
from tests.reconcilers import objects

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.drain.provider import ProviderProcess
    from tests.lab import Lab

ROOT = Path(__file__).parents[3]
HOME = "voicekeys-system"
NAMESPACE = "bench-drain"
FIELD = "api_key"
BINDINGS = f"/apis/voicekeys.dev/v1alpha1/namespaces/{NAMESPACE}/voicekeybindings"
PACKAGES = {"agent": ROOT / "tests/bench/drain/agent", "voicekeys/agent": ROOT / "operator/voicekeys/agent"}


def missing() -> str | None:
    """Say what this machine lacks and how to get it; None when nothing."""
    return "; ".join(lack for lack in (nodes_missing(), sipp_missing()) if lack) or None


def agent_image(folder: Path, say: Callable[[str], None]) -> Path:
    """Write the agents' image: Python, this benchmark's agent, the library as it is here, and `websockets`."""
    found = find_spec("websockets")
    assert found is not None and found.origin is not None  # noqa: PT018
    packages = PACKAGES | {"websockets": Path(found.origin).parent}
    files = {"/voicekeys/__init__.py": ROOT / "operator/voicekeys/__init__.py"}
    for name, source in packages.items():
        # No compiled parts: the image's Python need not be this one.
        files |= {f"/{name}/{file.relative_to(source)}": file for file in source.rglob("*.py")}
    return images.python(IMAGE, files, ["python3", "-m", "agent"], folder, say)


class Journal(Witness):
    """What the agents' pods told."""

    def all(self, arm: str, event: str) -> list[Event]:
        """Return what pods of an arm told, in the order in which it was heard."""
        return [each for each in list(self._events) if each.event == event and each.details.get("arm") == arm]


class World:
    """The cluster with everything in it, and the key that each arm has now."""

    def __init__(self, nodes: RealNodes, provider: ProviderProcess, journal: Journal, replicas: int) -> None:
        self.nodes = nodes
        self.lab: Lab = nodes.lab
        self.provider = provider
        self.journal = journal
        self.replicas = replicas
        self.keys: dict[str, str] = {}

    # ---- made

    def install_operator(self, folder: Path, say: Callable[[str], None]) -> None:
        """Install the operator from the Dockerfile's image by deploy/'s manifests, and wait until it is there."""
        self.nodes.load(images.operator(say))
        self.lab.kubectl("apply", "--server-side", "-k", overlay(folder))
        self.lab.kubectl("-n", HOME, "rollout", "status", "deployment/voicekeys-operator", "--timeout=120s")

    def make_arms(self, arms: tuple[Arm, ...], longest: float) -> None:
        """Make each arm's key, Secret and agents; the first arm's by Vault, store and binding."""
        self.lab.make_namespace(NAMESPACE)
        for arm in arms:
            self.new_key(arm)
        self._bind(arms[0], longest)
        secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/{arms[0].app}"
        eventually(lambda: self.lab.cluster.exists(secret), "the Secret of the binding", 60)
        eventually(lambda: self._agent(arms[0]).get("drainToken"), "a token for the agent's pods", 60)
        env = {"PROVIDER": self.provider.address, "WITNESS": self.journal.address}
        for arm in arms:
            if arm is not arms[0]:
                self.write_secret(arm)
            for each in arm_objects(arm, self.replicas, env):
                self.apply(each)
        for arm in arms:
            self.kubectl("rollout", "status", f"deployment/{arm.app}", "--timeout=180s")
        eventually(lambda: self._agent(arms[0]).get("digest"), "the agent in the binding's status", 60)

    def _agent(self, arm: Arm) -> dict[str, Any]:
        return next(iter(self.status(arm).get("agents") or [{}]))

    def _bind(self, arm: Arm, longest: float) -> None:
        self.lab.apply(objects.store(NAMESPACE, self.lab.vault_addr, [objects.rule("own", NAMESPACE, NAMESPACE)]))
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "voicekeys-reader"}})
        self.put_key(arm)
        agent = objects.agent(arm.app, drain={"mode": "HTTP", "maxCallDuration": f"{int(longest)}s"})
        spec = {
            "target": {"data": {SECRET_KEY: FIELD}},
            "agents": [agent],
            # The product's own pause before a restart, and more restarts than people need.
            "rollout": {"propagation": None, "maxRestartsPerHour": 60},
        }
        self.lab.apply(objects.binding(NAMESPACE, arm.app, self._path(arm), NAMESPACE, **spec))

    # ---- keys

    def new_key(self, arm: Arm) -> str:
        """Make a new key at the provider for an arm, which holds the old one yet; return the old one."""
        old, self.keys[arm.name] = self.keys.get(arm.name, ""), f"sk-{secrets.token_hex(20)}"
        self.provider.add(self.keys[arm.name])
        return old

    def put_key(self, arm: Arm) -> int:
        """Put an arm's key into Vault; return its version."""
        return self.lab.put_key(self._path(arm), **{FIELD: self.keys[arm.name]})

    def write_secret(self, arm: Arm) -> None:
        """Write an arm's key into its Secret, as people do by hand or by a sync operator."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": arm.app}}
        self.apply({**secret, "stringData": {SECRET_KEY: self.keys[arm.name]}})

    @staticmethod
    def _path(arm: Arm) -> str:
        return f"{NAMESPACE}/{arm.app}"

    # ---- seen

    def status(self, arm: Arm) -> dict[str, Any]:
        """Return the status of an arm's binding."""
        found: dict[str, Any] = self.lab.api("GET", f"{BINDINGS}/{arm.app}").get("status", {})
        return found

    def pods(self, arm: Arm) -> dict[str, bool]:
        """Return an arm's pods by UID, and whether each is being deleted."""
        query = f"labelSelector=bench.voicekeys.dev/arm%3D{arm.app}"
        found = self.lab.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?{query}")["items"]
        return {each["metadata"]["uid"]: "deletionTimestamp" in each["metadata"] for each in found}

    # ---- done

    def apply(self, document: dict[str, Any]) -> None:
        """Apply an object in the namespace."""
        document["metadata"]["namespace"] = NAMESPACE
        self.lab.apply(document)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.lab.kubectl("-n", NAMESPACE, *arguments)


def require() -> None:
    """Raise LabError with what to install where this machine lacks something."""
    if lack := missing():
        raise LabError(lack)
