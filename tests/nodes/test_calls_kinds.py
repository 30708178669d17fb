"""No call is cut, whatever the agent is: each drain mode and each kind of workload, and pods that others end too."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.nodes.lines import CONTROL, NAME, wait_for
from tests.nodes.scenes import HOLD, change_with_a_call, end_well

if TYPE_CHECKING:
    from tests.lab.nodes import RealNodes
    from tests.nodes.lines import Lines
    from tests.nodes.scenes import Scene

pytestmark = pytest.mark.usefixtures("operator")
SLEEP = 12
"""Seconds of a sleeping hook: more than the call takes."""
WAITS = """
import time, urllib.request
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:8080/idle")
        break
    except OSError:
        time.sleep(0.2)
"""


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_a_call_outlives_the_change_of_its_key_in_a(kind: str, scene: Scene) -> None:
    """Neither has room for a new pod beside the old one: it is one pod short while the call goes on (K23)."""
    lines = scene(kind=kind, replicas=1)
    pod = change_with_a_call(lines)
    entry = end_well(lines, pod)
    assert entry["pods"] == 1


MODES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "Gauge": (
        {"mode": "Gauge", "port": CONTROL, "gauge": {"path": "/live", "jsonPointer": "/calls/live"}},
        {"DEAF": "1"},
    ),
    "Exec": ({"mode": "Exec", "command": ["python3", "-c", WAITS]}, {"DEAF": "1"}),
    "Signal": ({"mode": "Signal"}, {"OWN": "1"}),
    "Signal, by the library": ({"mode": "Signal"}, {}),
    "Sleep": ({"mode": "Sleep", "maxCallDuration": f"{SLEEP}s"}, {"DEAF": "1"}),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_call_outlives_the_change_of_its_key_by_mode(mode: str, scene: Scene) -> None:
    """The agent serves no contract in four of them; by Signal it finishes its calls itself, as LiveKit's agents do."""
    drain, env = MODES[mode]
    lines = scene(replicas=1, drain=drain, **env)
    hooks = [one.get("lifecycle", {}).get("preStop") for one in containers(lines)]
    assert any(hooks) is not mode.startswith("Signal"), hooks
    pod = change_with_a_call(lines)
    if mode == "Gauge":
        told = lines.until("CallsDrained", "False", "Draining")
        assert "1 call" in told["message"], "the sidecar counts it"
    end_well(lines, pod)


def test_a_hook_that_cannot_run_is_told_and_holds_the_next_restart(scene: Scene) -> None:
    """A command that is missing holds nobody (K4); no pod of this mode could be asked before."""
    lines = scene(replicas=1, drain={"mode": "Exec", "command": ["/no/such/command"]}, DEAF="1")
    pod = lines.pods[0]
    lines.begin(pod)
    lines.change()
    lines.await_end(pod)
    assert lines.cut(pod) == ["one"]
    assert pod in lines.until("HookFailed", "True")["message"]
    lines.finished()
    lines.change("third")
    lines.until("AgentsCurrent", "False", "HookFailed")
    lines.annotate("approve", "seen")
    lines.finished()


def containers(lines: Lines) -> list[dict[str, Any]]:
    """The containers of the first pod, sidecars too."""
    spec = (lines.stage.pod(lines.pods[0]) or {})["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_an_autoscaler_changes_the_replicas_while_it_drains(scene: Scene) -> None:
    """The real controller; without metrics it holds what is outside its bounds to them (K19)."""
    lines = scene()
    pod = change_with_a_call(lines)
    scale(lines, 4, 6)
    wait_for(lambda: len(lines.fresh()) == 4, "four pods")
    lines.stage.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=90s")
    scale(lines, 1, 2)
    wait_for(lambda: len(lines.fresh()) == 2, "two pods")
    end_well(lines, pod)


def test_an_autoscaler_makes_a_pod_of_the_old_template_in_the_middle(scene: Scene) -> None:
    """It scales both ReplicaSets in proportion (K19): the late pod counts as old, whatever key it read (K13)."""
    lines = scene(SLOW="second")
    pod = lines.pods[0]
    lines.begin(pod)
    lines.change()
    lines.until("AgentsCurrent", "False", "Rolling")
    scale(lines, 4, 6)

    old = lines.template(pod)

    def late() -> list[str]:
        return [one for one in lines.fresh() if one not in lines.pods and lines.template(one) == old]

    wait_for(late, "a new pod of the old template", 90)
    lines.draining(pod, seconds=180)
    entry = end_well(lines, pod)
    assert entry["pods"] == lines.replicas + 1


def scale(lines: Lines, least: int, most: int) -> None:
    """Give the Deployment an autoscaler with these bounds."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    metrics = [{"type": "Resource", "resource": cpu}]
    bounds = {"minReplicas": least, "maxReplicas": most}
    # Without the window of five minutes that a scale-down waits for otherwise.
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    spec = {"scaleTargetRef": target, "metrics": metrics, "behavior": behavior, **bounds}
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": NAME}}
    lines.stage.apply({**autoscaler, "spec": spec})


def test_a_node_is_drained_under_a_budget_while_the_key_changes(scene: Scene, nodes: RealNodes) -> None:
    """`kubectl drain` asks for evictions; it waits for the call, and the budget holds the second pod back."""
    # Both pods on one node, and later room on the other.
    nodes.cordon("worker-2")
    try:
        lines = scene(anywhere=True)
    finally:
        nodes.uncordon("worker-2")
    # By a mark of these two: old pods of other scenes may still be there.
    lines.stage.kubectl("label", "pods", "-l", f"app={NAME}", "scene=drained")
    selector = {"matchLabels": {"app": NAME}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": NAME}}
    lines.stage.apply({**budget, "spec": {"maxUnavailable": 1, "selector": selector}})
    pod = lines.pods[0]
    lines.begin(pod)
    said: list[str] = []
    chosen = ("--pod-selector=scene=drained", "--timeout=150s")
    draining = threading.Thread(target=lambda: said.append(nodes.drain("worker-1", *chosen)))
    draining.start()
    try:
        lines.draining(pod)
        lines.change()
        lines.until("AgentsCurrent", "True", "Current", 120)
        time.sleep(HOLD)
        assert lines.cut(pod) == []
        assert draining.is_alive(), "kubectl drain does not wait for the call"
        end_well(lines, pod)
        draining.join(60)
        assert said, "kubectl drain failed"
        assert all(f"{one} evicted" in said[0] for one in lines.pods), said
    finally:
        draining.join(1)
        nodes.uncordon("worker-1")
