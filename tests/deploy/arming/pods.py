"""Pods as workloads make them, and bindings that arm them: plain objects, each changed in one way."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from tests.lab.processes import eventually

if TYPE_CHECKING:
    from tests.lab import Lab

Object = dict[str, Any]

TOKEN: Final = "token-of-the-agent"
IMAGE: Final = "voicekeys/operator:0.1.0"
HASH: Final = "7d9f"
UID: Final = "00000000-0000-0000-0000-000000000001"
OWNERS: Final = {"Deployment": "ReplicaSet", "StatefulSet": "StatefulSet", "DaemonSet": "DaemonSet"}
HOOK: Final[Object] = {
    "httpGet": {
        "path": "/voicekeys/v1/drain",
        "port": 9909,
        "scheme": "HTTP",
        "httpHeaders": [{"name": "X-Voicekeys-Token", "value": TOKEN}],
    }
}
BINDINGS: Final = "/apis/voicekeys.dev/v1alpha1/namespaces/{}/voicekeybindings"


def template(*containers: Object, annotations: Object | None = None, **spec: Any) -> Object:
    """Return a pod template of one container `agent`, or of the given ones."""
    metadata: Object = {"labels": {"app": "agent"}}
    if annotations is not None:
        metadata["annotations"] = annotations
    # Without the ServiceAccount's token, whose volume has a random name.
    pod = {"containers": list(containers or [container()]), "automountServiceAccountToken": False, **spec}
    return {"metadata": metadata, "spec": pod}


def container(name: str = "agent", **fields: Any) -> Object:
    """Return a container."""
    return {"name": name, "image": "agent:1", **fields}


def pod_of(kind: str, workload: str, made_from: Object, *, hash_label: str = HASH, owner: str = "") -> Object:
    """Return the pod that a workload's controller makes from a template; `owner` is another name of its controller."""
    made = copy.deepcopy(made_from)
    name = f"{workload}-{hash_label}" if kind == "Deployment" else workload
    if kind == "Deployment":
        made["metadata"].setdefault("labels", {})["pod-template-hash"] = hash_label
    reference = {
        "apiVersion": "apps/v1",
        "kind": OWNERS[kind],
        "name": owner or name,
        "uid": UID,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    made["metadata"] |= {"generateName": f"{name}-", "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Pod", **made}


def create(lab: Lab, namespace: str, pod: Object) -> Object:
    """Create a pod as a dry run, which goes through admission, and return it as the server would have it."""
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    created: Object = lab.api("POST", path, pod)
    return created


def agent(drain: Object, kind: str = "Deployment", name: str = "agent", **fields: Any) -> Object:
    """Return an entry of spec.agents."""
    return {"kind": kind, "name": name, "drain": drain, **fields}


def bind(
    lab: Lab, namespace: str, name: str, *agents: Object, token: str | None = TOKEN, image: str | None = IMAGE
) -> None:
    """Make a binding, with the status that an operator would have written: no operator runs here."""
    spec = {"environment": "production", "source": {"path": "voice/x"}, "agents": list(agents)}
    binding = {"apiVersion": "voicekeys.dev/v1alpha1", "kind": "VoiceKeyBinding", "metadata": {"name": name}}
    lab.api("POST", BINDINGS.format(namespace), {**binding, "spec": spec})
    known = [{"kind": one["kind"], "name": one["name"]} | ({"drainToken": token} if token else {}) for one in agents]
    status = {"observedGeneration": 1, "agents": known} | ({"gaugeImage": image} if image else {})
    lab.api("PATCH", f"{BINDINGS.format(namespace)}/{name}/status", {"status": status})


def await_arming(lab: Lab, namespace: str) -> None:
    """Wait until the API server has read every binding of a namespace made so far: it reads them with a delay."""
    name = f"probe-{len(lab.api('GET', BINDINGS.format(namespace))['items'])}"
    bind(lab, namespace, name, agent({"mode": "Signal"}, name=name))
    made = pod_of("Deployment", name, template())
    eventually(
        lambda: notes(create(lab, namespace, made)).get("voicekeys.dev/armed") == "Signal",
        "the policy to arm pods",
        seconds=30,
        pause=0.05,
    )


def notes(pod: Object) -> Object:
    """Return a pod's annotations."""
    found: Object = pod["metadata"].get("annotations", {})
    return found


def part(pod: Object, name: str = "agent") -> Object:
    """Return one container of a pod, of either list."""
    spec = pod["spec"]
    (found,) = (one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == name)
    return dict(found)


def env(pod: Object, name: str = "agent") -> dict[str, Any]:
    """Return a container's environment: values, or where they are from."""
    return {one["name"]: one.get("value", one.get("valueFrom", "")) for one in part(pod, name).get("env", [])}


def pre_stop(pod: Object, name: str = "agent") -> Any:
    """Return a container's preStop, None where it has none."""
    return part(pod, name).get("lifecycle", {}).get("preStop")
