"""No call is cut: a key changes under live calls on real kubelets, with every fault that the way can have.

Each scene ends with no cut call, or with one that is told as forced. The agent is the project's library in a pod that
the API server armed by the binding; nothing about draining is in its manifest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import eventually
from tests.nodes.lines import NAME, REFUSED
from tests.nodes.scenes import HOLD, change_with_a_call, end_well

if TYPE_CHECKING:
    from tests.lab.nodes import RealNodes
    from tests.nodes.scenes import Scene

pytestmark = pytest.mark.usefixtures("operator")

# ---- the way as it should be


def test_the_api_server_arms_pods_whose_manifest_knows_of_nothing(scene: Scene) -> None:
    lines = scene()
    pod = lines.stage.pod(lines.pods[0]) or {}
    (container,) = pod["spec"]["containers"]
    assert container["lifecycle"]["preStop"]["httpGet"]["path"] == "/voicekeys/v1/drain"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 165
    assert pod["metadata"]["annotations"]["voicekeys.dev/armed"] == "HTTP"
    template = lines.stage.deployment(NAME)["spec"]["template"]
    assert "lifecycle" not in template["spec"]["containers"][0]
    lines.until("DrainArmed", "True")
    assert lines.condition("DrainTokenNotChecked") == {}
    assert lines.condition("DrainUnreachable") == {}


def test_a_call_outlives_the_change_of_its_key(scene: Scene) -> None:
    lines = scene()
    pod = change_with_a_call(lines)
    lines.until("Ready", "True", seconds=30)
    told = lines.until("CallsDrained", "False", "Draining")
    eventually(lambda: "finish" in lines.condition("CallsDrained").get("message", ""), "calls are told", 20)
    assert "1 call" in lines.condition("CallsDrained")["message"], told
    end_well(lines, pod)
    lines.until("CallsDrained", "True")
    new = lines.fresh()
    assert {lines.stage.witness.wait(name, "started").details["key"] for name in new} == {"second"}


def test_a_draining_pod_takes_no_new_call_after_its_settle_window(scene: Scene) -> None:
    lines = scene()
    pod = change_with_a_call(lines)
    assert lines.begin(pod, "late") != REFUSED, "who comes within the window did not know yet"
    time.sleep(HOLD)
    assert lines.begin(pod, "too-late") == REFUSED
    lines.end(pod, "late")
    end_well(lines, pod)


# ---- arming must itself cut nothing


def test_pods_from_before_the_binding_wait_for_their_calls(scene: Scene) -> None:
    lines = scene(drain={"mode": "HTTP", "inject": "Off"})
    pod = lines.pods[0]
    lines.begin(pod)
    lines.change()
    lines.until("AgentsCurrent", "False", "UnarmedPodsHaveCalls", 60)
    time.sleep(HOLD)
    assert len(lines.stage.pods(NAME)) == lines.replicas
    lines.end(pod)
    lines.finished()
    assert lines.cut(pod) == []


def test_an_agent_that_serves_no_contract_is_not_restarted_until_a_person_says_so(scene: Scene) -> None:
    lines = scene(replicas=1, DEAF="1")
    pod = lines.pods[0]
    lines.begin(pod)
    lines.change()
    closed = "refuses connections"
    eventually(lambda: closed in lines.condition("AgentsCurrent").get("message", ""), "the closed port is told", 60)
    assert lines.condition("DrainUnreachable")["status"] == "True"
    assert len(lines.stage.pods(NAME)) == 1
    assert lines.cut(pod) == []
    lines.annotate("arm", "now")
    lines.finished()
    assert lines.cut(pod) == ["one"], "a hook at a closed port holds nobody (K4)"
    assert lines.events("RestartMayCutCalls")


def test_a_leaked_key_is_replaced_whatever_calls_that_cuts(scene: Scene) -> None:
    """Without a hook the pod has 30 s, whatever its guard holds: what that may cut is told before, and counted."""
    lines = scene(replicas=1, drain={"mode": "HTTP", "inject": "Off"})
    lines.begin(lines.pods[0])
    lines.annotate("leaked", "seen-in-a-log")
    lines.until("KeyLeaked", "True", "NewKeyAwaited")
    lines.change()
    entry = lines.finished(150)
    assert entry["forced"] == 1
    assert any("1 live call" in text for text in lines.events("LeakEmergency")), lines.events("LeakEmergency")
    assert lines.condition("KeyLeaked") == {}


# ---- faults


def test_a_kubelet_that_restarts_runs_the_hook_again(scene: Scene, nodes: RealNodes) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    nodes.restart_kubelet("worker-1")
    end_well(lines, pod)


def test_an_api_server_that_is_gone_for_a_minute(scene: Scene) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    lines.lab.freeze_api()
    try:
        time.sleep(60)
        assert lines.cut(pod) == []
    finally:
        lines.lab.thaw_api()
    eventually(lambda: lines.stage.pod(pod) is not None, "the API server answers again", 60)
    # No wait for the operator: its leader ended with its Lease, and must be there again before a call's end is missed.
    end_well(lines, pod)


def test_a_forced_delete_is_no_end(scene: Scene) -> None:
    lines = scene(replicas=1, drain={"mode": "HTTP", "maxCallDuration": "10s", "settle": "1s", "teardown": "1s"})
    pod = change_with_a_call(lines)
    address = lines.address(pod)
    lines.stage.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    told = lines.until("CallsDrained", "Unknown", "Unwitnessed")
    assert pod in told["message"]
    time.sleep(HOLD)
    assert lines.cut(pod) == [], "the container runs on (K9)"
    assert lines.status()["agents"][0]["oldPods"][0]["name"] == pod
    lines.tell(address, "end/one")
    lines.await_end(pod)
    assert lines.cut(pod) == []
    # Nobody saw that, so it is believed at the pod's deadline and one full grace.
    entry = lines.finished(150)
    assert entry["unwitnessed"] == 1
    assert "forced" not in entry


def test_an_event_loop_that_is_blocked_holds_its_calls(scene: Scene) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    address = lines.address(pod)
    lines.tell(address, "block/8")
    time.sleep(0.5)  # it begins a moment after the answer
    with pytest.raises(TimeoutError):
        lines.tell(address, "idle", seconds=2)
    end_well(lines, pod)


def test_a_new_key_that_does_not_start_costs_no_call(scene: Scene) -> None:
    lines = scene(replicas=1, REFUSES="bad")
    pod = lines.pods[0]
    lines.begin(pod)
    lines.change("bad")
    lines.until("Stalled", "True", "NewKeyRefused", 150)
    assert lines.cut(pod) == []
    assert lines.fresh() != []
    lines.end(pod)


def test_the_user_edits_the_deployment_meanwhile(scene: Scene) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    lines.stage.kubectl("set", "env", f"deployment/{NAME}", "EDITED=yes")
    end_well(lines, pod)


def test_a_second_key_comes_while_the_first_still_drains(scene: Scene) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    lines.until("Ready", "True")
    (second,) = lines.fresh()
    lines.begin(second, "two")
    lines.change("third")
    lines.draining(second)
    time.sleep(HOLD)
    assert lines.cut(pod) == lines.cut(second) == []
    lines.end(second, "two")
    entry = end_well(lines, pod)
    assert entry["pods"] == 2


def test_replicas_change_while_it_drains(scene: Scene) -> None:
    lines = scene()
    pod = change_with_a_call(lines)
    lines.stage.kubectl("scale", f"deployment/{NAME}", "--replicas=4")
    lines.stage.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=60s")
    lines.stage.kubectl("scale", f"deployment/{NAME}", "--replicas=2")
    end_well(lines, pod)


def test_a_paused_deployment_waits_for_its_user(scene: Scene) -> None:
    lines = scene(replicas=1)
    pod = lines.pods[0]
    lines.begin(pod)
    lines.stage.kubectl("rollout", "pause", f"deployment/{NAME}")
    lines.change()
    lines.until("AgentsCurrent", "False", "WaitingForResume")
    lines.stage.kubectl("rollout", "resume", f"deployment/{NAME}")
    lines.draining(pod)
    end_well(lines, pod)


def test_a_call_longer_than_promised_is_told_as_forced_and_stops_further_restarts(scene: Scene) -> None:
    lines = scene(replicas=1, drain={"mode": "HTTP", "maxCallDuration": "1s", "settle": "1s", "teardown": "1s"})
    pod = change_with_a_call(lines)
    lines.await_end(pod, 60)
    entry = lines.finished()
    assert entry["forced"] == 1
    assert lines.condition("CallsForced")["reason"] == "Frozen"
    assert lines.events("CallsForced")
    lines.change("third")
    lines.until("Stalled", "True", "Frozen")
    lines.annotate("approve", "seen")
    lines.finished()


def test_a_leaked_call_is_waited_for_until_somebody_lets_it_go(scene: Scene) -> None:
    lines = scene(replicas=1, MAX_CALL="1")
    pod = change_with_a_call(lines)
    time.sleep(HOLD)
    assert lines.cut(pod) == []
    lines.annotate("release", pod)
    entry = lines.finished()
    assert entry["forced"] == 1
    assert any("1" in text for text in lines.events("PodReleased"))


def test_vault_is_sealed_while_it_drains(scene: Scene) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    lines.lab.vault.seal()
    try:
        time.sleep(HOLD)
        assert lines.cut(pod) == []
    finally:
        lines.lab.vault.unseal()
    end_well(lines, pod)


def test_a_drained_node_lets_calls_end(scene: Scene, nodes: RealNodes) -> None:
    lines = scene(replicas=1)
    pod = lines.pods[0]
    lines.begin(pod)
    nodes.cordon("worker-1")
    try:
        lines.stage.kubectl("delete", "pod", pod, "--wait=false")  # what an eviction does, without its budget
        lines.draining(pod)
        time.sleep(HOLD)
        assert lines.cut(pod) == []
        lines.end(pod)
        lines.await_end(pod)
        assert lines.cut(pod) == []
    finally:
        nodes.uncordon("worker-1")
