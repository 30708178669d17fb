"""What the demo puts into a cluster, as `deploy/` has it, and how it takes it out again."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.lab.demo_timeline import NAMESPACE, OPERATOR
from tests.lab.http import ApiError
from tests.lab.processes import LabError, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.lab import Lab

ROOT = Path(__file__).parents[2]
SYSTEM = "voicekeys-system"
ACCOUNT = f"{SYSTEM}/voicekeys-operator"
KEY_PATH = "voice/production/frejun"
PREFIX = "voice/production"
OURS = "lab.voicekeys.dev/demo"
# Simulated pods: ready after a second, so that the rolling update can be watched; the last call ends after seven.
POD_ANNOTATIONS = {"lab.voicekeys.dev/ready-after": "1s", "lab.voicekeys.dev/drain": "7s"}
# On real nodes an image that is there for everybody, with a preStop hook that takes as long.
REAL_IMAGE = "registry.k8s.io/pause:3.10"
ROLLOUT_TIMEOUT = "30s"

Object = dict[str, Any]


def operator_objects(lab: Lab) -> list[Object]:
    """Return what `kubectl apply -k deploy/` applies, with the Deployment at 0 replicas: the operator runs here."""
    objects = _rendered(lab, ROOT / "deploy")
    for each in objects:
        if each["kind"] == "Deployment":
            each["spec"]["replicas"] = 0
    return objects


def example_objects(lab: Lab, role: str, *, simulated: bool) -> list[Object]:
    """Return what `kubectl apply -k deploy/examples/` applies, fitted to the lab: see `changes_of_examples`."""
    objects = _rendered(lab, ROOT / "deploy" / "examples")
    for each in objects:
        if each["kind"] == "VoiceKeyStore":
            each["spec"]["vault"]["address"] = lab.vault_addr
            each["spec"]["auth"]["kubernetes"]["role"] = role
        elif each["kind"] == "VoiceKeyBinding":
            each["spec"]["rollout"] = {"timeout": ROLLOUT_TIMEOUT}
        elif each["kind"] == "Deployment":
            _fit_agent(each["spec"]["template"], simulated=simulated)
    return objects


def changes_of_examples(*, simulated: bool) -> str:
    """Say what is not as in the files of `deploy/examples/`."""
    pods = "simulated pods end 7 s after their deletion" if simulated else f"{REAL_IMAGE} with a preStop of 7 s"
    return f"Vault's address and role, rollout.timeout {ROLLOUT_TIMEOUT}, {pods}"


def _fit_agent(template: Object, *, simulated: bool) -> None:
    template["metadata"].setdefault("annotations", {}).update(POD_ANNOTATIONS)
    if not simulated:
        container = template["spec"]["containers"][0]
        container["image"] = REAL_IMAGE
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": 7}}}


def _rendered(lab: Lab, folder: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(lab.kubectl("kustomize", folder)) if each]


class Installation:
    """Applies objects, and on a cluster that is not thrown away afterwards removes each of them again.

    Args:
        lab: where.
        lasting: whether the cluster outlives the demo.
    """

    def __init__(self, lab: Lab, *, lasting: bool) -> None:
        self.lab = lab
        self.lasting = lasting
        self.applied: list[Object] = []

    def apply(self, objects: list[Object]) -> int:
        """Apply objects, marked as the demo's own; return how many. Raises LabError where one is somebody else's."""
        if self.lasting:
            self._refuse_foreign(objects)
        for each in objects:
            each["metadata"].setdefault("labels", {})[OURS] = "true"
            self.applied.append(each)
            self.lab.apply(each)
        return len(objects)

    def remove(self) -> None:
        """Delete what was applied, the last first, and wait until the namespaces are gone."""
        if not self.lasting:
            return
        for each in reversed(self.applied):
            with _unless_missing():
                self.lab.api("DELETE", self.lab.cluster.path(each))
        for each in _namespaces(self.applied):
            path = self.lab.cluster.path(each)
            gone = f"namespace {each['metadata']['name']} gone"
            eventually(lambda path=path: not self.lab.cluster.exists(path), gone, seconds=120, pause=0.5)  # type: ignore[misc]

    def _refuse_foreign(self, objects: Iterable[Object]) -> None:
        foreign = []
        for each in objects:
            with _unless_missing():
                found = self.lab.api("GET", self.lab.cluster.path(each))
                if OURS not in (found["metadata"].get("labels") or {}):
                    foreign.append(f"{each['kind']} {each['metadata']['name']}")
        if foreign:
            names = ", ".join(foreign[:5]) + (" …" if len(foreign) > 5 else "")
            raise LabError(
                f"this cluster has {names} already, and the demo would delete it at its end: nothing was touched"
            )


def start_operator(lab: Lab) -> int:
    """Start the operator as a process of the lab that authenticates as its ServiceAccount; return its HTTP port."""
    config = lab.kubeconfig_for(ACCOUNT)
    port = lab.ports.take()
    env = {
        "VOICEKEYS_KUBECONFIG": str(config),
        "VOICEKEYS_POD_NAMESPACE": SYSTEM,
        "VOICEKEYS_HTTP_HOST": "127.0.0.1",
        "VOICEKEYS_HTTP_PORT": str(port),
    }
    lab.processes.start(OPERATOR, [sys.executable, "-m", "voicekeys"], env=env)
    lab.processes.wait(OPERATOR, lambda: '"leading"' in lab.logs(OPERATOR), "leading")
    return port


def trust_vault(lab: Lab) -> str:
    """Put Vault's CA where the example store looks for it, and make a role for the namespace; return the role."""
    assert lab.vault.ca_file is not None
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "vault-ca", "namespace": SYSTEM},
        "data": {"ca.crt": lab.vault.ca_file.read_text()},
    }
    lab.apply(config_map)
    return lab.allow(NAMESPACE, PREFIX)


def _namespaces(objects: Iterable[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] == "Namespace"]


@contextlib.contextmanager
def _unless_missing() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.status != 404:
            raise
