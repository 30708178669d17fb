"""Agents whose calls a test begins and ends, under a key that the operator changes: pods, binding, what is told."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.lab.nodes import images
from tests.lab.processes import eventually
from tests.nodes.pods import PROGRAM
from tests.reconcilers import objects
from tests.reconcilers.harness import ROOT
from tests.reconcilers.world import condition_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.build import Say
    from tests.nodes.pods import Object
    from tests.nodes.stage import Stage

IMAGE = "voicekeys.lab/line:1"
CONTROL = 8080
KEY = "voice"
NAME = "line"
REFUSED = 503
LONGEST_CALL = "2m"


def image(folder: Path, say: Say = print) -> Path:
    """Write the agent's image: Python, the program, and the library as it is here."""
    files = {"/voicekeys/__init__.py": ROOT / "operator/voicekeys/__init__.py"}
    folders = {"line": PROGRAM.parent.parent / "line", "voicekeys/agent": ROOT / "operator/voicekeys/agent"}
    for name, source in folders.items():
        files |= {f"/{name}/{file.relative_to(source)}": file for file in source.rglob("*.py")}
    return images.python(IMAGE, files, ["python3", "-m", "line"], folder, say)


class Lines:
    """A workload of lines with a binding, in a namespace of its own; its pods on one node or, if told, anywhere."""

    def __init__(
        self,
        stage: Stage,
        *,
        kind: str = "Deployment",
        replicas: int = 2,
        anywhere: bool = False,
        drain: Object | None = None,
        **env: str,
    ) -> None:
        self.stage, self.lab, self.kind, self.replicas = stage, stage.lab, kind, replicas
        self._placing: Object = {"nodeSelector": {}} if anywhere else {}
        self.version = self.put("first")
        drain = {"mode": "HTTP", "maxCallDuration": LONGEST_CALL} | (drain or {})
        rule = objects.rule("own", stage.namespace, stage.namespace)
        stage.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "voicekeys-reader"}})
        self.lab.apply(objects.store(stage.namespace, self.lab.vault_addr, [rule]))
        agents = [
            objects.agent(NAME, kind) | {"drain": {one: value for one, value in drain.items() if value is not None}}
        ]
        rollout = {"timeout": "40s", "propagation": "2s"}
        target = {"target": {"data": {"API_KEY": "api_key"}}, "agents": agents, "rollout": rollout}
        self.lab.apply(objects.binding(stage.namespace, KEY, f"{stage.namespace}/{KEY}", stage.namespace, **target))
        if drain["mode"] in {"HTTP", "Gauge"}:  # admission takes the token from there
            eventually(lambda: self.agent().get("drainToken"), "a token in the binding's status", 60)
        self.pods = self._deploy(env)
        eventually(lambda: self.agent().get("digest"), "the workload in the binding's status", 60)

    def _deploy(self, env: dict[str, str]) -> list[str]:
        variables = [{"name": name, "value": value} for name, value in env.items()]
        key = {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": KEY, "key": "API_KEY"}}}
        container = self.stage.container(env=[*variables, key])
        probe = {"httpGet": {"path": "/", "port": CONTROL}, "periodSeconds": 1}
        container |= {"image": IMAGE, "readinessProbe": probe}
        return self.stage.deploy(NAME, container, kind=self.kind, replicas=self.replicas, **self._placing)

    # ---- the key

    def put(self, value: str) -> int:
        """Put a version of the key into Vault."""
        return self.lab.put_key(f"{self.stage.namespace}/{KEY}", api_key=value)

    def change(self, value: str = "second") -> int:
        """Put another key, and have it read at once."""
        self.version = self.put(value)
        self.annotate("sync-now", str(self.version))
        return self.version

    def annotate(self, what: str, value: str) -> None:
        """Annotate the binding."""
        self.stage.kubectl("annotate", "vkb", KEY, f"voicekeys.dev/{what}={value}", "--overwrite")

    # ---- what is told

    def binding(self) -> Object:
        """The binding, as it is."""
        found: Object = self.lab.api(
            "GET", f"/apis/voicekeys.dev/v1alpha1/namespaces/{self.stage.namespace}/voicekeybindings/{KEY}"
        )
        return found

    def status(self) -> Object:
        """Its status."""
        found: Object = self.binding().get("status", {})
        return found

    def agent(self) -> Object:
        """What it says of the Deployment."""
        return next(iter(self.status().get("agents") or [{}]))

    def condition(self, kind: str) -> Object:
        """One of its conditions; empty where there is none."""
        return condition_of(self.binding(), kind) or {}

    def until(self, kind: str, status: str, reason: str = "", seconds: float = 60) -> Object:
        """Wait for a condition."""

        def so() -> Object | None:
            found = self.condition(kind)
            return found if found.get("status") == status and reason in {"", found["reason"]} else None

        try:
            return eventually(so, f"{kind}={status} {reason}", seconds) or {}
        except Exception as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(), indent=1)}") from error

    def finished(self, seconds: float = 90) -> Object:
        """Wait until the change to the newest version is over; return its entry in the history."""

        def entry() -> Object | None:
            history = self.status().get("history") or []
            return next((one for one in history if one["toVersion"] == self.version), None)

        try:
            return eventually(entry, f"version {self.version} in the history", seconds) or {}
        except Exception as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(), indent=1)}") from error

    def events(self, reason: str) -> list[str]:
        """The texts of the binding's events of a reason."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.stage.namespace}/events"
        return [one["note"] for one in self.lab.api("GET", path)["items"] if one["reason"] == reason]

    # ---- calls

    def post(self, pod: str, what: str) -> int:
        """Tell a pod something; returns the HTTP status."""
        return self.tell(self.address(pod), what)

    def address(self, pod: str) -> str:
        """A pod's address."""
        found = self.stage.pod(pod)
        assert found is not None, f"{pod} is gone"
        return str(found["status"]["podIP"])

    @staticmethod
    def tell(address: str, what: str, seconds: float = 10) -> int:
        """Tell an agent something, its pod's object may be gone; returns the HTTP status. Raises TimeoutError."""
        request = urllib.request.Request(f"http://{address}:{CONTROL}/{what}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def begin(self, pod: str, call: str = "one") -> int:
        """Begin a call."""
        return self.post(pod, f"begin/{call}")

    def end(self, pod: str, call: str = "one") -> None:
        """End a call; its pod must have had it still."""
        before = len(self.stage.witness.events(pod, "call-ended", call=call))
        self.post(pod, f"end/{call}")
        self.stage.witness.wait(pod, "call-ended", call=call, count=before + 1)

    def draining(self, *pods: str, seconds: float = 60) -> None:
        """Wait until pods are being deleted."""
        for pod in pods:
            eventually(
                lambda pod=pod: "deletionTimestamp" in (self.stage.pod(pod) or {}).get("metadata", {}),  # type: ignore[misc]
                f"{pod} drains",
                seconds,
            )

    def template(self, pod: str) -> str:
        """The hash of the template that a pod of a Deployment was made from; empty when it is gone."""
        return str((self.stage.pod(pod) or {}).get("metadata", {}).get("labels", {}).get("pod-template-hash", ""))

    def cut(self, pod: str) -> list[str]:
        """The calls that were live when a pod's program was told to end."""
        told = self.stage.witness.events(pod, "sigterm")
        return list(told[0].details["live"]) if told else []

    def await_end(self, pod: str, seconds: float = 60) -> None:
        """Wait until a pod's program was told to end."""
        self.stage.witness.wait(pod, "sigterm", seconds=seconds)

    def fresh(self) -> list[str]:
        """The pods that are not being deleted."""
        return [one["metadata"]["name"] for one in self.stage.pods(NAME) if "deletionTimestamp" not in one["metadata"]]


def wait_for(look: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until something is true."""
    return eventually(look, what, seconds)
