"""How simulated pods live and end: the facts that tests of rollouts rest on."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

pytestmark = pytest.mark.simulated_nodes

PREFIX = "lab.voicekeys.dev/"


def deployment(namespace: str, replicas: int = 1, **annotations: str) -> dict[str, Any]:
    """Return a Deployment `agent` whose pods carry the lab's annotations (`ready_after` is `…/ready-after`)."""
    marks = {PREFIX + name.replace("_", "-"): value for name, value in annotations.items()}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "agent", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "agent"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": "agent"}, "annotations": marks},
                "spec": {"containers": [{"name": "agent", "image": "example.com/agent:1"}]},
            },
        },
    }


def pods(lab: Lab, namespace: str) -> list[dict[str, Any]]:
    """Return the namespace's pods."""
    found: list[dict[str, Any]] = lab.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return found


def first_pod(lab: Lab, namespace: str, **status: Any) -> dict[str, Any]:
    """Wait until a pod's status has the given fields, and return it."""

    def look() -> dict[str, Any] | None:
        return next((p for p in pods(lab, namespace) if status.items() <= p["status"].items()), None)

    found = eventually(look, f"a pod with {status}")
    assert found is not None
    return found


def container_state(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a pod's only container."""
    state: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]
    return state


def is_ready(pod: dict[str, Any]) -> bool:
    """Tell whether a pod's condition Ready is True."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])


class Watch:
    """The pods of a namespace as a watch sees them: `(seconds since start, event type, pod)`."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        argv = ["get", "pods", "-n", namespace, "--watch", "--output-watch-events", "-o", "json"]
        self._process = subprocess.Popen(
            [lab.binaries["kubectl"], f"--kubeconfig={lab.kubeconfig}", *argv], stdout=subprocess.PIPE, text=True
        )
        self._rest = self._events()
        # The watch is on once it has shown the pod that is there.
        self._first = next(self._rest)

    def until_deleted(self) -> list[tuple[float, str, dict[str, Any]]]:
        """Return all events up to the first DELETED."""
        start, seen = time.monotonic(), []
        for kind, pod in itertools.chain([self._first], self._rest):
            seen.append((time.monotonic() - start, kind, pod))
            if kind == "DELETED":
                break
        self._process.kill()
        self._process.wait()
        return seen

    def _events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        assert self._process.stdout is not None
        text, decoder = "", json.JSONDecoder()
        while line := self._process.stdout.readline():
            text += line
            try:
                event, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            text = text[end:].lstrip()
            yield event["type"], event["object"]


def delete_and_watch(lab: Lab, namespace: str, pod: dict[str, Any]) -> list[tuple[float, str, dict[str, Any]]]:
    """Scale the Deployment to nothing and return what a watch saw of the pod's end."""
    watch = Watch(lab, namespace)
    lab.kubectl("scale", "deployment/agent", "-n", namespace, "--replicas=0")
    seen = [each for each in watch.until_deleted() if each[2]["metadata"]["uid"] == pod["metadata"]["uid"]]
    assert seen[-1][1] == "DELETED"
    return seen


def test_pods_run_and_a_rollout_completes(lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, replicas=3))
    lab.kubectl("rollout", "status", "-n", namespace, "deployment/agent", "--timeout=30s")
    assert [is_ready(p) for p in pods(lab, namespace)] == [True] * 3
    assert {p["spec"]["nodeName"] for p in pods(lab, namespace)} <= {"node-0", "node-1", "node-2"}


def test_a_deleted_pod_drains_then_shows_terminated_containers_then_goes(lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, drain="3s"))
    pod = first_pod(lab, namespace, phase="Running")
    seen = delete_and_watch(lab, namespace, pod)
    terminating = next(at for at, _, p in seen if p["metadata"].get("deletionTimestamp"))
    ended = next(at for at, _, p in seen if "terminated" in container_state(p))
    assert 2.0 < ended - terminating < 5.0
    assert seen[-1][2]["status"]["phase"] == "Succeeded"
    assert container_state(seen[-1][2])["terminated"]["exitCode"] == 0


def test_a_rollout_is_called_complete_while_old_pods_still_drain(lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, replicas=2, drain="8s"))
    lab.kubectl("rollout", "status", "-n", namespace, "deployment/agent", "--timeout=30s")
    lab.kubectl("rollout", "restart", "-n", namespace, "deployment/agent")
    lab.kubectl("rollout", "status", "-n", namespace, "deployment/agent", "--timeout=30s")
    assert sum("deletionTimestamp" in p["metadata"] for p in pods(lab, namespace)) == 2


def test_an_exit_code_makes_a_failed_end(lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, drain="500ms", exit_code="137"))
    last = delete_and_watch(lab, namespace, first_pod(lab, namespace, phase="Running"))[-1][2]
    assert last["status"]["phase"] == "Failed"
    assert container_state(last)["terminated"]["exitCode"] == 137


def test_a_vanishing_pod_shows_no_terminal_status(lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, end="vanish", drain="500ms"))
    seen = delete_and_watch(lab, namespace, first_pod(lab, namespace, phase="Running"))
    assert all("running" in container_state(p) for _, _, p in seen)


@pytest.mark.parametrize(
    ("waiting", "phase", "restarts"), [("ImagePullBackOff", "Pending", 0), ("CrashLoopBackOff", "Running", 3)]
)
def test_a_pod_that_is_never_ready_says_why(lab: Lab, namespace: str, waiting: str, phase: str, restarts: int) -> None:
    lab.apply(deployment(namespace, ready="never", waiting=waiting))
    pod = first_pod(lab, namespace, hostIP="192.0.2.1")
    assert not is_ready(pod)
    assert pod["status"]["phase"] == phase
    assert container_state(pod)["waiting"]["reason"] == waiting
    assert pod["status"]["containerStatuses"][0]["restartCount"] == restarts


def test_ready_after_delays_readiness(lab: Lab, namespace: str) -> None:
    start = time.monotonic()
    lab.apply(deployment(namespace, ready_after="2s"))
    first_pod(lab, namespace, phase="Running")
    assert 1.5 < time.monotonic() - start < 6


def test_a_pod_that_never_got_ready_ends_like_any_other(lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, ready="never"))
    pod = first_pod(lab, namespace, hostIP="192.0.2.1")
    assert "terminated" in container_state(delete_and_watch(lab, namespace, pod)[-1][2])
