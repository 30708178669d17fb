"""Pods and workloads of the test agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.nodes import images

if TYPE_CHECKING:
    from tests.lab.build import Say

IMAGE = "voicekeys.lab/agent:1"
PROGRAM = Path(__file__).parent / "agent" / "agent.py"
PORT = 9909
DRAIN = {"httpGet": {"path": "/drain", "port": PORT}}
Object = dict[str, Any]


def image(folder: Path, say: Say = print) -> Path:
    """Write the agent's image and return its archive."""
    files = {f"/{file.name}": file for file in (PROGRAM, PROGRAM.with_name("udp.py"))}
    return images.python(IMAGE, files, ["python3", "/agent.py"], folder, say)


def container(witness: str, plan: Object | None = None, name: str = "agent", **fields: Any) -> Object:
    """Return a container of the agent by a plan (see agent.py), with `fields` beside; `pre_stop` is its hook."""
    own = {"POD_NAME": "metadata.name", "POD_UID": "metadata.uid"}
    env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in own.items()]
    values = {"WITNESS": witness, "CONTAINER": name, "PLAN": json.dumps(plan or {})}
    pre_stop = fields.pop("pre_stop", None)
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "env": [*env, *({"name": key, "value": value} for key, value in values.items()), *fields.pop("env", [])],
        **({"lifecycle": {"preStop": pre_stop}} if pre_stop else {}),
        **fields,
    }


def pod(name: str, *containers: Object, node: str = "worker-1", grace: int = 30, **spec: Any) -> Object:
    """Return a pod on a node, its grace period in seconds."""
    pod_spec = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": list(containers),
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": pod_spec}


def workload(kind: str, name: str, template: Object, replicas: int = 3) -> Object:
    """Return a workload that makes pods like `template`; a Deployment a new one first (surge 1, none unavailable)."""
    labels = {"app": name}
    own: dict[str, Object] = {
        "Deployment": {"replicas": replicas, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
        "StatefulSet": {"replicas": replicas, "serviceName": name},
        "DaemonSet": {},
    }
    made = {"metadata": {"labels": labels}, "spec": template["spec"]}
    spec = {"selector": {"matchLabels": labels}, "template": made, **own[kind]}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def probe(path: str, seconds: int = 1, failures: int = 3) -> Object:
    """Return a probe of a path each so many seconds."""
    http = {"path": path, "port": PORT}
    return {"httpGet": http, "periodSeconds": seconds, "failureThreshold": failures}
