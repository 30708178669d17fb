"""Workloads and pods as the API server's JSON, and as the policies see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.gen.base import Modifier, Object, build, put, text
from voicekeys.api.names import TRIGGER_PREFIX, trigger_annotation
from voicekeys.model.identity import WorkloadId
from voicekeys.model.workload import Pod, Workload, parse_pod, parse_workload

if TYPE_CHECKING:
    from datetime import datetime

SECRET = "frejun-api-key"
HASH = "5d4f8c7b9"

_TEMPLATE: Object = {
    "metadata": {"labels": {"app": "receptionist"}},
    "spec": {
        "terminationGracePeriodSeconds": 1845,
        "containers": [
            {
                "name": "agent",
                "env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "API_KEY"}}}],
            }
        ],
    },
}
_METADATA: Object = {"namespace": "voice", "uid": "u-receptionist", "resourceVersion": "42", "generation": 3}


def deployment(*modifiers: Modifier) -> Workload:
    """A Deployment ``voice/receptionist`` of 3 pods that reads the Secret, rolled out, losing no capacity."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "receptionist"}}, "strategy": strategy}
    status = {"observedGeneration": 3, "updatedReplicas": 3, "availableReplicas": 3}
    return _parsed("Deployment", spec, status, modifiers)


def stateful_set(*modifiers: Modifier) -> Workload:
    """A StatefulSet of 3 pods, otherwise as `deployment`."""
    spec = {"replicas": 3, "selector": {}, "updateStrategy": {"type": "RollingUpdate"}}
    status = {"observedGeneration": 3, "updatedReplicas": 3, "availableReplicas": 3}
    return _parsed("StatefulSet", spec, status, modifiers)


def daemon_set(*modifiers: Modifier) -> Workload:
    """A DaemonSet on 3 nodes, otherwise as `deployment`."""
    spec = {"selector": {}, "updateStrategy": {"type": "RollingUpdate"}}
    status = {
        "observedGeneration": 3,
        "desiredNumberScheduled": 3,
        "updatedNumberScheduled": 3,
        "numberAvailable": 3,
    }
    return _parsed("DaemonSet", spec, status, modifiers)


def _parsed(kind: str, spec: Object, status: Object, modifiers: tuple[Modifier, ...]) -> Workload:
    raw = build(
        {
            "kind": kind,
            "metadata": {"name": "receptionist"} | _METADATA,
            "spec": spec | {"template": _TEMPLATE},
            "status": status,
        },
        *modifiers,
    )
    return parse_workload(WorkloadId(kind, "voice", raw["metadata"]["name"]), raw)


def strategy(kind: str, **rolling_update: Any) -> Modifier:
    """Set the update strategy, under the name that the kind has for it."""

    def modify(obj: Object) -> None:
        field = "strategy" if obj["kind"] == "Deployment" else "updateStrategy"
        obj["spec"][field] = {"type": kind} | ({"rollingUpdate": rolling_update} if rolling_update else {})

    return modify


def replicas(wanted: int) -> Modifier:
    """Set the number of pods wanted; what the controller counts stays behind."""

    def modify(obj: Object) -> None:
        field = "status.desiredNumberScheduled" if obj["kind"] == "DaemonSet" else "spec.replicas"
        put(field, wanted)(obj)

    return modify


def rolling(updated: int, available: int) -> Modifier:
    """Set how many pods are of the newest template, and how many serve."""

    def modify(obj: Object) -> None:
        daemon = obj["kind"] == "DaemonSet"
        obj["status"]["updatedNumberScheduled" if daemon else "updatedReplicas"] = updated
        obj["status"]["numberAvailable" if daemon else "availableReplicas"] = available

    return modify


def trigger(value: str, binding: str = "frejun") -> Modifier:
    """Set a binding's trigger annotation on the template."""

    def modify(obj: Object) -> None:
        annotations = obj["spec"]["template"]["metadata"].setdefault("annotations", {})
        annotations[trigger_annotation(binding)] = value

    return modify


def container(*, init: bool = False, **fields: Any) -> Modifier:
    """Add a container to the pod template."""

    def modify(obj: Object) -> None:
        pod_spec = obj["spec"]["template"]["spec"]
        pod_spec.setdefault("initContainers" if init else "containers", []).append({"name": "more"} | fields)

    return modify


def pod_spec(**fields: Any) -> Modifier:
    """Set fields of the template's pod spec."""

    def modify(obj: Object) -> None:
        obj["spec"]["template"]["spec"].update(fields)

    return modify


def env(*entries: Object) -> Modifier:
    """Set the environment of the one container."""
    return pod_spec(containers=[{"name": "agent", "env": list(entries)}])


def pod(name: str = "receptionist-x", *modifiers: Modifier) -> Pod:
    """A running, ready pod of the Deployment, without a trigger."""
    return parse_pod(raw_pod(name, *modifiers), prefix=TRIGGER_PREFIX)


def raw_pod(name: str = "receptionist-x", *modifiers: Modifier) -> Object:
    """Such a pod as JSON."""
    owner = {"kind": "ReplicaSet", "name": f"receptionist-{HASH}", "uid": "u-rs", "controller": True}
    base = {
        "metadata": {"name": name, "namespace": "voice", "uid": f"u-{name}", "ownerReferences": [owner]},
        "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 60},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "agent", "ready": True, "restartCount": 0, "state": {"running": {}}}],
        },
    }
    return build(base, *modifiers)


def owned_by(kind: str, name: str, uid: str) -> Modifier:
    """Give a pod another controller."""
    return put("metadata.ownerReferences", [{"kind": kind, "name": name, "uid": uid, "controller": True}])


def of_key(digest: str, binding: str = "frejun") -> Modifier:
    """Let a pod be of a template with this trigger."""

    def modify(obj: Object) -> None:
        obj["metadata"].setdefault("annotations", {})[trigger_annotation(binding)] = digest

    return modify


def terminating(deadline: datetime) -> Modifier:
    """Let a pod be deleted, to be killed at a deadline."""
    return put("metadata.deletionTimestamp", text(deadline))


def containers(*states: Object) -> Modifier:
    """Set the state of the containers, one after the other."""
    return put(
        "status.containerStatuses",
        [{"name": f"c{number}", "restartCount": 0, "state": state} for number, state in enumerate(states)],
    )
