"""Live calls and a restart: what is asked before it, what is seen through it, and what a cut call leads to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.regressions.calls import agent_with_a_call, bound, change, hook, order, rolled
from tests.regressions.small import NS, Small
from voicekeys.api import names
from voicekeys.model.identity import WorkloadId


@pytest.fixture
def small(armed: Small) -> Small:
    """An agent whose pod is armed and has a call."""
    return armed


def test_a_gauge_has_its_image_before_its_workload_exists() -> None:
    """Admission takes it from the status, and the very first pods want it."""
    with agent_with_a_call(armed=True) as small:
        del small.cluster.workloads[WorkloadId("Deployment", NS, "agent")]
        bound(small, mode="Gauge", port=8080, gauge={"jsonPointer": "/calls"})
        small.sync_now("look")
        small.pass_by(5)
        assert small.reason("AgentsCurrent") == "WorkloadMissing"
        assert small.status()["gaugeImage"]
        assert small.agent()["drainToken"]


def test_an_armed_pod_is_replaced_whatever_calls_it_has(small: Small) -> None:
    assert small.is_true("DrainArmed")
    change(small)
    assert len(small.patches) == 1


def test_its_agent_has_a_token_before_it_is_ever_restarted(small: Small) -> None:
    token = small.agent()["drainToken"]
    assert len(token) >= 32
    small.boot()
    small.pass_by(5)
    assert small.agent()["drainToken"] == token


def test_calls_of_a_draining_pod_are_told_and_the_binding_is_ready_meanwhile(small: Small) -> None:
    change(small)
    rolled(small)
    assert small.is_true("Ready")
    assert small.reason("CallsDrained") == "Draining"
    assert "1 pod of Deployment n/agent still finishes 1 call" in small.message("CallsDrained")
    small.agents.change("old", calls=0, completed=1)
    small.end("old")
    small.pass_by(20)
    assert small.is_true("CallsDrained")
    assert "frozen" not in small.status()
    assert "forced" not in small.status()["history"][-1]


def test_a_call_that_was_live_at_the_end_freezes_further_restarts_until_somebody_approves(small: Small) -> None:
    change(small)
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert small.status()["history"][-1]["forced"] == 1
    assert small.status()["frozen"]["calls"] == 1
    assert small.phase() == "Frozen"
    assert small.is_true("Ready"), "the key is where it should be"
    assert "voicekeys.dev/approve" in small.message("CallsForced")
    assert any(reason == "CallsForced" for reason, _ in small.events)

    small.put("three")
    small.pass_by(60)
    assert small.secret() == "three", "the Secret follows all the same"
    assert len(small.patches) == 1
    assert small.reason("Stalled") == "Frozen"

    order(small, names.APPROVE_ANNOTATION, "seen")
    small.pass_by(20)
    assert len(small.patches) == 2
    assert "frozen" not in small.status()
    assert small.status()["handled"]["approve"] == "seen"


def test_a_cut_call_is_counted_when_its_container_ends_and_not_when_its_object_goes(small: Small) -> None:
    change(small)
    rolled(small)
    small.exit("old")
    small.pass_by(5)
    assert small.status()["history"][-1]["forced"] == 1
    small.end("old")
    small.pass_by(20)
    assert small.status()["frozen"]["calls"] == 1


def test_calls_that_a_release_cut_are_forced_though_the_pod_ended_before_it_told(small: Small) -> None:
    change(small)
    rolled(small)
    order(small, names.RELEASE_ANNOTATION, "old")
    small.pass_by(2)
    del small.agents.pods["old"]
    small.exit("old")
    small.pass_by(5)
    assert small.status()["history"][-1]["forced"] == 1
    assert small.is_true("CallsForced")


def test_an_approval_from_before_a_cut_call_approves_nothing(small: Small) -> None:
    order(small, names.APPROVE_ANNOTATION, "early")
    small.pass_by(5)
    change(small)
    rolled(small)
    small.end("old")
    small.pass_by(20)
    small.put("three")
    small.pass_by(60)
    assert small.reason("Stalled") == "Frozen"


def test_a_frozen_binding_stays_frozen_over_a_restart_of_the_operator(small: Small) -> None:
    change(small)
    rolled(small)
    small.end("old")
    small.pass_by(20)
    small.boot()
    small.put("three")
    small.pass_by(60)
    assert len(small.patches) == 1
    assert small.reason("Stalled") == "Frozen"


def test_a_hung_pod_is_released_once_and_what_that_cuts_is_told(small: Small) -> None:
    change(small)
    rolled(small)
    order(small, names.RELEASE_ANNOTATION, "old")
    small.pass_by(10)
    assert small.agents.released == ["old"]
    assert any(reason == "PodReleased" and "1" in message for reason, message in small.events)
    small.boot()
    small.pass_by(10)
    assert small.agents.released == ["old"]


def test_a_release_of_no_pod_is_told_once(small: Small) -> None:
    order(small, names.RELEASE_ANNOTATION, "nobody")
    small.pass_by(10)
    told = [message for reason, message in small.events if reason == "ReleaseFailed"]
    assert len(told) == 1
    assert "nobody" in told[0]


def test_pods_without_a_hook_wait_until_their_last_call_has_ended(unarmed: Small) -> None:
    assert unarmed.reason("DrainArmed") == "UnarmedPods"
    assert "Deployment n/agent, 1 pod(s)" in unarmed.message("DrainArmed")
    change(unarmed)
    unarmed.pass_by(120)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsHaveCalls"
    assert not unarmed.is_true("Stalled")
    unarmed.agents.change("old", calls=0, completed=1)
    unarmed.pass_by(10)
    assert len(unarmed.patches) == 1


def test_unknown_is_never_zero(unarmed: Small) -> None:
    unarmed.agents.pods.clear()
    change(unarmed)
    unarmed.pass_by(120)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsUnknown"
    unarmed.agents.serve("old", complete=False)
    unarmed.pass_by(60)
    assert unarmed.patches == []


def test_a_person_may_go_on_whatever_is_cut_for_one_key_change(unarmed: Small) -> None:
    change(unarmed)
    order(unarmed, names.ARM_ANNOTATION, "now")
    unarmed.pass_by(10)
    assert len(unarmed.patches) == 1
    assert any(reason == "RestartMayCutCalls" and "1 live call" in message for reason, message in unarmed.events)
    unarmed.pod("new")
    unarmed.agents.serve("new", calls=1)
    unarmed.controller()
    unarmed.end("old")
    unarmed.pass_by(20)
    unarmed.put("three")
    unarmed.pass_by(60)
    assert len(unarmed.patches) == 1, "the order was for the change before"


def test_a_rollout_of_the_users_own_arms(unarmed: Small) -> None:
    change(unarmed)
    unarmed.pod("own")
    hook(unarmed, "own")
    unarmed.agents.serve("own", calls=3)
    unarmed.end("old")
    unarmed.pass_by(20)
    assert len(unarmed.patches) == 1


def test_a_hook_whose_port_is_closed_would_drain_nothing(small: Small) -> None:
    small.agents.change("old", closed=True)
    change(small)
    small.pass_by(60)
    assert small.patches == []
    assert small.is_true("DrainUnreachable")
    small.agents.change("old", closed=False)
    small.pass_by(20)
    assert len(small.patches) == 1


def test_a_pod_that_the_operator_cannot_reach_drains_all_the_same(small: Small) -> None:
    """A NetworkPolicy keeps the operator out; the kubelet is on the node."""
    small.agents.pods.clear()
    change(small)
    assert len(small.patches) == 1
    assert small.is_true("DrainUnreachable")
    rolled_away = small.cluster.pods["old"]
    assert rolled_away
    small.pod("new")
    hook(small, "new")
    small.controller()
    small.terminate("old")
    small.pass_by(20)
    assert "is not known" in small.message("CallsDrained")
    small.end("old")
    small.pass_by(20)
    assert small.is_true("CallsDrained")
    assert "frozen" not in small.status(), "nobody has seen a call cut"
    assert any(reason == "CallsMayBeCut" for reason, _ in small.events)


def test_an_agent_that_takes_any_token_is_named_until_it_does_not(small: Small) -> None:
    small.agents.change("old", checks_token=False)
    change(small)
    rolled(small)
    small.agents.change("new", checks_token=False)
    small.agents.change("old", calls=0)
    small.end("old")
    small.pass_by(20)
    assert small.is_true("DrainTokenNotChecked")
    small.agents.change("new", checks_token=True)
    small.pass_by(130)
    assert not any(one["type"] == "DrainTokenNotChecked" for one in small.status()["conditions"])


def test_the_pods_with_the_fewest_calls_go_first(small: Small) -> None:
    small.workload["spec"]["replicas"] = 2
    small.controller(updated=2, available=2)
    small.pod("busy")
    hook(small, "busy")
    small.agents.serve("busy", calls=7)
    change(small)
    costs = {
        name: pod["metadata"]["annotations"].get(names.DELETION_COST_ANNOTATION)
        for name, pod in small.cluster.pods.items()
    }
    assert costs == {"old": "1", "busy": "7"}


def test_where_the_api_server_does_not_arm_the_hook_goes_into_the_template_with_the_key(unarmed: Small) -> None:
    unarmed.admission.arms = False
    unarmed.agents.change("old", calls=0)
    change(unarmed)
    assert len(unarmed.patches) == 1
    (arming,) = unarmed.cluster.armings
    (container,) = arming["spec"]["containers"]
    assert container["lifecycle"]["preStop"]["httpGet"]["path"] == "/voicekeys/v1/drain"
    assert arming["spec"]["terminationGracePeriodSeconds"] == 1845


def test_where_nothing_may_be_written_the_manifest_is_told(unarmed: Small) -> None:
    bound(unarmed, inject="Off")
    unarmed.pass_by(130)
    assert unarmed.reason("DrainArmed") == "ManifestNeedsHook"
    assert "preStop" in unarmed.message("DrainArmed")  # short enough to be in there as a whole
    assert unarmed.agent()["drainToken"] not in unarmed.message("DrainArmed")
    assert unarmed.is_true("GraceTooShort")


def test_at_rest_nothing_is_asked_once_all_is_well(small: Small) -> None:
    listed = []
    real = small.cluster.list_pods

    async def counting(namespace: str, selector: Any) -> Any:
        listed.append(namespace)
        return await real(namespace, selector)

    small.cluster.list_pods = counting  # type: ignore[method-assign]
    small.pass_by(600)
    assert listed == []


def test_pods_that_come_after_the_first_look_are_counted_soon() -> None:
    with Small() as small:
        small.deploy()
        bound(small)
        small.pass_by(5)
        assert small.reason("DrainArmed") == "NotCounted"
        small.pod("first")
        hook(small, "first")
        small.agents.serve("first")
        small.pass_by(10)
        assert small.is_true("DrainArmed")
