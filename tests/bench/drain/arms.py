"""The arms: how each one's pods end, as manifests. What an arm does at a key change is in rotations.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.bench.drain.agent.stream import PORT
from tests.bench.drain.follow import ARM_LABEL

IMAGE = "voicekeys.lab/bench-agent:1"
SECRET_KEY = "PROVIDER_API_KEY"
DEFAULT_GRACE = 30
SLEEP_SECONDS = 10
Object = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way to change a key. `name` is the arm's in the results; that of its objects has hyphens.

    Args:
        name: in the results.
        grace: terminationGracePeriodSeconds.
        pre_stop: the hook; empty for none.
        env: of the agent, beside what all have.
    """

    name: str
    grace: int = DEFAULT_GRACE
    pre_stop: Object = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> str:
        """The name of its Deployment, Service, Secret and, where it has one, binding."""
        return self.name.replace("_", "-")


def arms() -> tuple[Arm, Arm, Arm]:
    """Return the arms, ours first."""
    return voicekeys(), Arm("rollout_restart"), sleep_prestop()


def voicekeys() -> Arm:
    """Our arm: an agent that uses the library. Its hook and its grace are the API server's, by the binding."""
    return Arm("voicekeys", env={"LIBRARY": "on"})


def sleep_prestop() -> Arm:
    """A fixed sleep before SIGTERM, as people do today."""
    return Arm("sleep_prestop", DEFAULT_GRACE + SLEEP_SECONDS, {"sleep": {"seconds": SLEEP_SECONDS}})


def objects(arm: Arm, replicas: int, env: dict[str, str]) -> list[Object]:
    """Return an arm's Service and Deployment; `env` is where its agents find the provider and the witness."""
    labels = {ARM_LABEL: arm.app}
    ports = [
        {"name": "stream", "port": PORT},
        {"name": "sip", "port": 5060, "protocol": "UDP"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": arm.app},
        "spec": {"selector": labels, "ports": ports},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": arm.app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": _pod(arm, env)},
        },
    }
    return [service, deployment]


def _pod(arm: Arm, env: dict[str, str]) -> Object:
    own = {"POD_NAME": "metadata.name", "POD_UID": "metadata.uid", "POD_IP": "status.podIP"}
    values = {"ARM": arm.name, **env, **arm.env}
    key = {"name": SECRET_KEY, "valueFrom": {"secretKeyRef": {"name": arm.app, "key": SECRET_KEY}}}
    container = {
        "name": "agent",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "env": [
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in own.items()),
            *({"name": name, "value": value} for name, value in values.items()),
            key,
        ],
        # Green while it drains (K17).
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        **({"lifecycle": {"preStop": arm.pre_stop}} if arm.pre_stop else {}),
    }
    return {
        "terminationGracePeriodSeconds": arm.grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
    }
