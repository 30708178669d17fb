"""The arms: how each one's pods end, as manifests. What an arm does at a key change is in rotations.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.bench.drain.agent.stream import PORT
from tests.bench.drain.follow import ARM_LABEL

IMAGE = "voicekeys.lab/bench-agent:1"
SECRET_KEY = "PROVIDER_API_KEY"
DRAIN_PORT = 9909
SETTLE_SECONDS = 5
TEARDOWN_SECONDS = 10
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


def arms(longest: float, token: str) -> tuple[Arm, Arm, Arm]:
    """Return the arms, ours first, for calls of at most `longest` seconds; `token` guards our drain."""
    return voicekeys(longest, token), Arm("rollout_restart"), sleep_prestop()


def voicekeys(longest: float, token: str) -> Arm:
    """Our arm: the hook that holds until the last call has ended.

    What arming puts on pods is written by hand, here and nowhere else.
    """
    grace = int(longest) + SETTLE_SECONDS + TEARDOWN_SECONDS + 30
    hook = {
        "path": "/voicekeys/v1/drain",
        "port": DRAIN_PORT,
        "httpHeaders": [{"name": "X-Voicekeys-Token", "value": token}],
    }
    env = {
        "LIBRARY": "on",
        "VOICEKEYS_DRAIN_TOKEN": token,
        "VOICEKEYS_DRAIN_PORT": str(DRAIN_PORT),
        "VOICEKEYS_SETTLE_SECONDS": str(SETTLE_SECONDS),
        "VOICEKEYS_GRACE_SECONDS": str(grace),
    }
    return Arm("voicekeys", grace, {"httpGet": hook}, env)


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
