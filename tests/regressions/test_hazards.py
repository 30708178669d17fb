"""What would cut calls though every pod has its hook: told on the binding when it is found, gone when it is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.calls import change, hook
from voicekeys.model.calls import DrainState

if TYPE_CHECKING:
    from tests.regressions.small import Small

HTTP = {"httpGet": {"path": "/rooms", "port": 8080}}
AT_REST = 130
"""Pods at rest are looked at so often while something is amiss."""


@pytest.fixture
def small(armed: Small) -> Small:
    """An agent whose pod is armed and has a call."""
    return armed


def has(small: Small, condition: str) -> bool:
    """Whether the binding has a condition at all: one that is abnormal is left out when it is over."""
    found = any(one["type"] == condition for one in small.status()["conditions"])
    assert found == small.is_true(condition)
    return found


def told(small: Small, condition: str) -> int:
    """How often an event told of a condition."""
    return sum(message.startswith(f"{condition}: ") for _, message in small.events)


def edit(small: Small, **container: Any) -> None:
    """Change the container of the agent's template, as a person does; None takes a field out."""
    (agent,) = small.workload["spec"]["template"]["spec"]["containers"]
    for field, value in container.items():
        agent[field] = value
        if value is None:
            del agent[field]
    small.workload["metadata"]["generation"] += 1
    small.workload["metadata"]["resourceVersion"] = small.cluster.version()
    small.controller()


def inject(small: Small, pod: str, proxy: dict[str, Any], *, native: bool = False) -> None:
    """Give a pod a mesh's sidecar."""
    spec = small.cluster.pods[pod]["spec"]
    if native:
        spec["initContainers"] = [proxy | {"restartPolicy": "Always"}]
    else:
        spec["containers"].append(proxy)
    small.cluster.tell("MODIFIED", small.cluster.pods[pod])


def serve(small: Small, pod: str) -> None:
    """A new pod that is armed, and answers."""
    small.pod(pod)
    hook(small, pod)
    small.agents.serve(pod)


def end(small: Small, pod: str) -> None:
    """Let the last call of a pod end, and the pod with it."""
    small.agents.change(pod, calls=0, completed=1, state=DrainState.IDLE)
    small.pass_by(2)
    small.end(pod)


# ---- mesh sidecars (facts K6)


def test_a_mesh_s_classic_sidecar_is_told_until_the_pods_have_a_native_one(small: Small) -> None:
    inject(small, "old", {"name": "istio-proxy"})
    assert not has(small, "MeshSidecarCutsCalls")
    change(small)
    assert small.reason("MeshSidecarCutsCalls") == "ClassicSidecar"
    assert "container istio-proxy gets SIGTERM" in small.message("MeshSidecarCutsCalls")
    assert told(small, "MeshSidecarCutsCalls") == 1
    serve(small, "new")
    inject(small, "new", {"name": "istio-proxy"}, native=True)
    small.controller()
    end(small, "old")
    small.pass_by(AT_REST)
    assert not has(small, "MeshSidecarCutsCalls")
    assert small.is_true("Ready")


def test_it_stays_told_while_the_new_pods_have_it_too(small: Small) -> None:
    inject(small, "old", {"name": "linkerd-proxy"})
    change(small)
    serve(small, "new")
    inject(small, "new", {"name": "linkerd-proxy"})
    small.controller()
    end(small, "old")
    small.pass_by(2 * AT_REST)
    assert has(small, "MeshSidecarCutsCalls")
    assert told(small, "MeshSidecarCutsCalls") == 1


def test_a_sidecar_with_a_hook_of_its_own_is_not_told(small: Small) -> None:
    inject(small, "old", {"name": "envoy", "lifecycle": {"preStop": {"sleep": {"seconds": 1800}}}})
    change(small)
    assert len(small.patches) == 1
    assert not has(small, "MeshSidecarCutsCalls")


# ---- liveness (facts K13)


@pytest.mark.parametrize(
    ("probe", "mended", "reason"),
    [
        (HTTP, HTTP | {"periodSeconds": 20, "failureThreshold": 6}, "ImpatientLiveness"),
        (HTTP, {"exec": {"command": ["/bin/alive"]}}, "ImpatientLiveness"),
        (HTTP, None, "ImpatientLiveness"),
        (
            {"exec": {"command": ["/bin/alive"]}, "terminationGracePeriodSeconds": 30},
            {"exec": {"command": ["/bin/alive"]}},
            "ProbeGraceTooShort",
        ),
    ],
    ids=["patience", "another probe", "no probe", "its own grace"],
)
def test_a_liveness_probe_on_a_busy_path_is_told_until_it_is_mended(
    small: Small, probe: dict[str, Any], mended: dict[str, Any] | None, reason: str
) -> None:
    edit(small, livenessProbe=probe)
    small.sync_now("look")
    small.pass_by(5)
    assert has(small, "LivenessMayCutCalls")
    assert small.reason("LivenessMayCutCalls") == reason
    assert "Deployment n/agent, container c" in small.message("LivenessMayCutCalls")
    assert small.is_true("Ready"), "it warns, and holds nothing up"
    edit(small, livenessProbe=mended)
    small.pass_by(5)
    assert not has(small, "LivenessMayCutCalls")
    assert told(small, "LivenessMayCutCalls") == 1


def test_a_restart_goes_on_with_an_impatient_probe(small: Small) -> None:
    edit(small, livenessProbe=HTTP)
    change(small)
    assert len(small.patches) == 1
    assert has(small, "LivenessMayCutCalls")


# ---- host ports


def test_a_host_port_is_told_until_there_is_none(small: Small) -> None:
    edit(small, ports=[{"containerPort": 5060, "hostPort": 5060, "protocol": "UDP"}])
    small.pass_by(5)
    assert small.reason("HostPortNeedsRoom") == "HostPort"
    assert "host port 5060" in small.message("HostPortNeedsRoom")
    assert "Give it 2 nodes for its 1 pod," in small.message("HostPortNeedsRoom")
    edit(small, ports=[{"containerPort": 5060, "protocol": "UDP"}])
    small.pass_by(5)
    assert not has(small, "HostPortNeedsRoom")
    assert told(small, "HostPortNeedsRoom") == 1


def test_without_a_surge_a_host_port_needs_no_room(small: Small) -> None:
    """Its old pod leaves the node before the new one comes: that is a loss of capacity, and told as such."""
    edit(small, ports=[{"containerPort": 5060, "hostPort": 5060}])
    small.pass_by(5)
    assert has(small, "HostPortNeedsRoom")
    small.workload["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 0, "maxUnavailable": 1}
    edit(small)
    small.pass_by(5)
    assert not has(small, "HostPortNeedsRoom")
    assert has(small, "CapacityAtRisk")


# ---- readiness while draining (facts K17)


def turn(small: Small, pod: str, *, ready: bool) -> None:
    """Have a pod's readiness probe turn out so, from now on."""
    found = small.cluster.pods[pod]
    found["status"]["conditions"] = [
        {"type": "Ready", "status": str(ready), "lastTransitionTime": small.stamp()},
    ]
    small.cluster.tell("MODIFIED", found)


def draining(small: Small) -> None:
    """The new pod serves; the old one has a call still, and its whole grace to finish it."""
    change(small)
    serve(small, "new")
    small.controller()
    small.agents.change("old", state=DrainState.REFUSING)
    old = small.cluster.pods["old"]
    old["metadata"]["deletionTimestamp"] = small.stamp(old["spec"]["terminationGracePeriodSeconds"])
    small.cluster.tell("MODIFIED", old)
    small.pass_by(5)


def test_a_pod_that_turns_unready_while_draining_is_told_until_it_has_ended(small: Small) -> None:
    draining(small)
    assert not has(small, "NotReadyWhileDraining")
    turn(small, "old", ready=False)
    small.pass_by(5)
    assert small.reason("NotReadyWhileDraining") == "NotReadyWhileDraining"
    assert "pod old turned not ready" in small.message("NotReadyWhileDraining")
    assert small.is_true("Ready"), "the binding is"
    end(small, "old")
    small.pass_by(AT_REST)
    assert not has(small, "NotReadyWhileDraining")
    assert told(small, "NotReadyWhileDraining") == 1


def test_one_that_was_unready_before_is_no_news(small: Small) -> None:
    turn(small, "old", ready=False)
    draining(small)
    assert not has(small, "NotReadyWhileDraining")


def test_it_is_known_after_the_restart_of_the_operator(small: Small) -> None:
    draining(small)
    turn(small, "old", ready=False)
    small.pass_by(5)
    small.boot()
    small.pass_by(5)
    assert has(small, "NotReadyWhileDraining")
    assert told(small, "NotReadyWhileDraining") == 1
