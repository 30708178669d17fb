"""Whether drain hooks do what they are for, and what would cut calls all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests import gen
from tests.policies.test_drain import report
from voicekeys.model.errors import AgentError, AgentGarbage, AgentUnreachable
from voicekeys.model.probe import Probe
from voicekeys.policies import hazards

if TYPE_CHECKING:
    from voicekeys.model.workload import Pod, Workload

GOOD = Probe(report(), checks_token=True, takes_token=True)
LAX = Probe(report(), checks_token=False, takes_token=True)
REFUSES = Probe(report(), checks_token=True, takes_token=False)
DOWN = AgentUnreachable("DrainUnreachable", "pod a does not answer")
BROKEN = AgentGarbage("ContractBroken", "pod b does not speak HTTP")


def reason(verdict: Any) -> str | None:
    return None if verdict is None else verdict.reason


UNREACHABLE: dict[str, tuple[dict[str, AgentError], str | None, str]] = {
    "all answer": ({}, None, ""),
    "one does not": ({"a": DOWN}, "NoAnswer", "D x: pod a does not answer. The kubelet"),
    "two do not": ({"b": BROKEN, "a": DOWN}, "ContractBroken", "D x: pod b does not speak HTTP (2 pods). The kubelet"),
}


@pytest.mark.parametrize(("failures", "why", "start"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_unreachable(failures: dict[str, AgentError], why: str | None, start: str) -> None:
    verdict = hazards.unreachable("D x", failures)
    assert reason(verdict) == why
    assert verdict is None or verdict.message.startswith(start)


@pytest.mark.parametrize(("probe", "why"), [(GOOD, None), (LAX, "DrainTokenNotChecked"), (REFUSES, None)])
def test_token_not_checked(probe: Probe, why: str | None) -> None:
    assert reason(hazards.token_not_checked("D x", {"z": GOOD, "a": probe})) == why


@pytest.mark.parametrize(("probe", "why"), [(GOOD, None), (LAX, None), (REFUSES, "HookRefused")])
def test_hook_refused(probe: Probe, why: str | None) -> None:
    assert reason(hazards.hook_refused("D x", {"z": GOOD, "a": probe})) == why


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        (["a"], "D x: the preStop of pod a failed (event FailedPreStopHook), so that its containers were told to end"),
        (["a", "b"], "and their calls were cut, or may have been"),
    ],
)
def test_hook_failed(pods: list[str], words: str) -> None:
    verdict = hazards.hook_failed("D x", pods)
    assert reason(verdict) == "HookFailed"
    assert words in str(verdict)


def test_no_hook_failed() -> None:
    assert hazards.hook_failed("D x", []) is None


def test_pods_are_named_but_not_all() -> None:
    verdict = hazards.token_not_checked("D x", dict.fromkeys("abcd", LAX))
    assert verdict is not None
    assert verdict.message.startswith("D x: pods a, b, c, … took a wrong token")
    verdict = hazards.hook_refused("D x", {"a": REFUSES})
    assert verdict is not None
    assert verdict.message.startswith("D x: pod a would refuse")


def unready(at: float) -> gen.Modifier:
    return gen.put(
        "status.conditions", [{"type": "Ready", "status": "False", "lastTransitionTime": gen.text(gen.at(at))}]
    )


# Deleted at second 0, killed at second 60.
DELETED = gen.terminating(gen.at(60))
READINESS: dict[str, tuple[tuple[gen.Modifier, ...], bool]] = {
    "ready while it drains": ((DELETED,), False),
    "turned unready after its deletion": ((DELETED, unready(5)), True),
    "was not ready before": ((DELETED, unready(-5)), False),
    "was never ready": ((DELETED, gen.put("status.conditions", [])), False),
    "not ready, and not deleted": ((unready(5),), False),
    "not ready, for its container has ended": ((DELETED, unready(5), gen.containers({"terminated": {}})), False),
}


@pytest.mark.parametrize(("modifiers", "cut"), READINESS.values(), ids=READINESS)
def test_not_ready_while_draining(modifiers: tuple[gen.Modifier, ...], cut: bool) -> None:  # noqa: FBT001
    verdict = hazards.not_ready_while_draining("D x", [gen.pod("z"), gen.pod("a", *modifiers)])
    assert reason(verdict) == ("NotReadyWhileDraining" if cut else None)
    assert verdict is None or "pod a turned" in verdict.message


def containers(*many: gen.Object, init: tuple[gen.Object, ...] = ()) -> Pod:
    return gen.pod("a", gen.put("spec.containers", list(many)), gen.put("spec.initContainers", list(init)))


PROXY: gen.Object = {"name": "istio-proxy"}
WAITS = {"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}}
AGENT: gen.Object = {"name": "agent"} | WAITS
SIDECARS: dict[str, tuple[Pod, bool]] = {
    "none": (containers(AGENT), False),
    "an ordinary container": (containers(AGENT, PROXY), True),
    "with a hook": (containers(AGENT, PROXY | WAITS), False),
    "a native sidecar": (containers(AGENT, init=(PROXY | {"restartPolicy": "Always"},)), False),
    "another container": (containers(AGENT, {"name": "log"}), False),
}


@pytest.mark.parametrize(("pod", "cut"), SIDECARS.values(), ids=SIDECARS)
def test_mesh_sidecars(pod: Pod, cut: bool) -> None:  # noqa: FBT001
    verdict = hazards.mesh_sidecar_cuts_calls("D x", [containers(AGENT), pod])
    assert reason(verdict) == ("ClassicSidecar" if cut else None)
    assert verdict is None or "container istio-proxy gets" in verdict.message


def probed(**probe: Any) -> Workload:
    return gen.deployment(gen.pod_spec(containers=[{"name": "log"}, {"name": "agent", "livenessProbe": probe}]))


HTTP = {"httpGet": {"path": "/", "port": 8080}}
LIVENESS: dict[str, tuple[Workload, int | None, str | None]] = {
    "none": (gen.deployment(), None, None),
    "the defaults": (probed(**HTTP), None, "ImpatientLiveness"),
    "grpc": (probed(grpc={"port": 1}), None, "ImpatientLiveness"),
    "patient": (probed(**HTTP, periodSeconds=20, failureThreshold=3), None, None),
    "a program in the container": (probed(exec={"command": ["x"]}), None, None),
    "a port, which the kernel answers": (probed(tcpSocket={"port": 1}), None, None),
    "a grace of its own": (probed(exec={}, terminationGracePeriodSeconds=30), None, "ProbeGraceTooShort"),
    "one that is long enough": (probed(exec={}, terminationGracePeriodSeconds=1845), None, None),
    "for calls that are short": (probed(exec={}, terminationGracePeriodSeconds=30), 30, None),
    "for calls that are not": (probed(exec={}, terminationGracePeriodSeconds=30), 31, "ProbeGraceTooShort"),
}


@pytest.mark.parametrize(("workload", "longest", "why"), LIVENESS.values(), ids=LIVENESS)
def test_liveness(workload: Workload, longest: int | None, why: str | None) -> None:
    call = None if longest is None else timedelta(seconds=longest)
    assert reason(hazards.liveness_may_cut_calls(workload, call)) == why


def ports(*many: gen.Object, **spec: Any) -> gen.Modifier:
    return gen.pod_spec(containers=[{"name": "log"}, {"name": "agent", "ports": list(many)}], **spec)


SIP = {"containerPort": 5060, "hostPort": 5060}
NO_SURGE = gen.strategy("RollingUpdate", maxSurge=0, maxUnavailable=1)
HOST_PORTS: dict[str, tuple[Workload, bool]] = {
    "no port": (gen.deployment(ports()), False),
    "a port of the pod": (gen.deployment(ports({"containerPort": 5060})), False),
    "a port of the host": (gen.deployment(ports(SIP)), True),
    "the host's network": (gen.deployment(ports({"containerPort": 5060}, hostNetwork=True)), True),
    "without a surge": (gen.deployment(ports(SIP), NO_SURGE), False),
    "a DaemonSet": (gen.daemon_set(ports(SIP)), False),
}


@pytest.mark.parametrize(("workload", "needs"), HOST_PORTS.values(), ids=HOST_PORTS)
def test_host_ports(workload: Workload, needs: bool) -> None:  # noqa: FBT001
    verdict = hazards.host_port_needs_room(workload)
    assert reason(verdict) == ("HostPort" if needs else None)
    assert verdict is None or "host port 5060" in verdict.message
    assert verdict is None or "Give it 4 nodes for its 3 pods" in verdict.message
