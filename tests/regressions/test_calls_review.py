"""Live calls and restarts, as somebody meets them who wants them to fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.calls import bound, change, hook, order, rolled
from tests.regressions.small import NS, Small
from voicekeys.api import names
from voicekeys.model.calls import DrainState
from voicekeys.model.errors import PORT_CLOSED, AgentGarbage, AgentUnreachable, ApiUnreachable
from voicekeys.model.identity import Name, WorkloadId
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.turns import Turns

if TYPE_CHECKING:
    from voicekeys.model.probe import Probe

OTHER = WorkloadId("Deployment", NS, "other")


@pytest.fixture
def small(armed: Small) -> Small:
    """An agent whose pod is armed and has a call."""
    return armed


# ---- a call is cut, and nobody hears of it


def test_a_hook_of_another_kind_is_no_drain(unarmed: Small) -> None:
    """`preStop: sleep 5` is in half of all manifests; it is kept, so the pod is not armed."""
    lifecycle = {"preStop": {"sleep": {"seconds": 5}}}
    unarmed.cluster.pods["old"]["spec"]["containers"] = [{"name": "c", "lifecycle": lifecycle}]
    unarmed.cluster.tell("MODIFIED", unarmed.cluster.pods["old"])
    change(unarmed)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsHaveCalls"


def test_a_pod_that_calls_itself_armed_and_has_no_hook_is_not_armed(unarmed: Small) -> None:
    """By its author, or by a manifest tool that took the hook off and left the annotation."""
    pod = unarmed.cluster.pods["old"]
    pod["metadata"]["annotations"] = {**pod["metadata"]["annotations"], names.ARMED_ANNOTATION: "HTTP"}
    unarmed.cluster.tell("MODIFIED", pod)
    change(unarmed)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsHaveCalls"


def test_a_cut_call_freezes_though_the_status_could_not_be_written_at_first(small: Small) -> None:
    change(small)
    rolled(small)
    failures = iter([True, True])

    def unavailable(status: Any) -> None:
        if "frozen" in status and next(failures, False):
            raise ApiUnreachable("Unavailable", "the API server does not answer")

    small.before_status = unavailable  # type: ignore[method-assign]
    small.end("old")
    small.pass_by(20)
    assert small.status()["history"][-1].get("forced") == 1
    assert small.is_true("CallsForced")
    assert len([reason for reason, _ in small.events if reason == "CallsForced"]) <= 2


def test_a_call_that_is_cut_while_the_binding_is_suspended_is_told(small: Small) -> None:
    change(small)
    rolled(small)
    agents = small.binding()["spec"]["agents"]
    small.bind(agents=agents, suspend=True)
    small.pass_by(5)
    small.end("old")
    small.pass_by(20)
    assert any(reason == "CallsForced" for reason, _ in small.events)
    small.bind(agents=agents)
    small.pass_by(20)
    assert small.is_true("CallsForced")


def test_a_hook_whose_pod_has_no_grace_for_it_drains_for_half_a_minute(small: Small) -> None:
    """Its hook is the user's own, and it was made before the binding; or maxCallDuration was raised since."""
    small.cluster.pods["old"]["spec"]["terminationGracePeriodSeconds"] = 30
    small.cluster.tell("MODIFIED", small.cluster.pods["old"])
    change(small)
    assert small.patches == []


def test_one_namespace_cannot_have_all_turns() -> None:
    """Its pods drain as long as it likes: nobody else's key would ever reach a pod."""
    turns, now = Turns(Inventory(), 4, lambda _: None), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(4):
        turns.hold(Name("greedy", f"b{number}"), "default", WorkloadId("Deployment", "greedy", f"w{number}"), None, now)
    assert turns.hold(Name("other", "b"), "default", WorkloadId("Deployment", "other", "w"), None, now) is None


# ---- one-shot annotations


def test_an_order_to_go_on_is_for_the_change_that_it_was_given_for(unarmed: Small) -> None:
    """It was not needed after all, and must not lie in wait for months."""
    unarmed.agents.change("old", calls=0)
    order(unarmed, names.ARM_ANNOTATION, "now")
    change(unarmed)
    assert len(unarmed.patches) == 1
    unarmed.pod("new")
    unarmed.cluster.pods["new"]["status"]["podIP"] = "10.0.0.2"
    unarmed.agents.serve("new", calls=1)
    unarmed.controller()
    unarmed.end("old")
    unarmed.pass_by(20)
    unarmed.put("three")
    unarmed.pass_by(60)
    assert len(unarmed.patches) == 1


def test_a_release_that_failed_can_be_ordered_again(small: Small) -> None:
    """Its value is the pod's name, so that "set it anew" can only mean: take it off, and set it again."""
    change(small)
    rolled(small)
    serving = small.agents.pods.pop("old")
    order(small, names.RELEASE_ANNOTATION, "old")
    small.pass_by(5)
    assert small.status()["handled"]["release"] == "old"
    small.agents.pods["old"] = serving
    order(small, names.RELEASE_ANNOTATION, "")
    small.pass_by(5)
    order(small, names.RELEASE_ANNOTATION, "old")
    small.pass_by(5)
    assert small.agents.released == ["old"]


def test_a_release_during_a_suspend_is_kept_for_later_and_told_so(small: Small) -> None:
    change(small)
    rolled(small)
    agents = small.binding()["spec"]["agents"]
    small.bind(agents=agents, suspend=True)
    order(small, names.RELEASE_ANNOTATION, "old")
    small.pass_by(10)
    assert small.agents.released == []
    assert "old" in small.message("Suspended")
    small.bind(agents=agents)
    small.pass_by(10)
    assert small.agents.released == ["old"]


def test_a_second_freeze_can_be_told_from_the_first(small: Small) -> None:
    """`approve=seen` twice is no change for kubectl, so the message asks for a new value."""
    change(small)
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert f"set {names.APPROVE_ANNOTATION} of the binding to a new value" in small.message("CallsForced")


def test_what_is_told_to_unarmed_pods_asks_for_a_new_value(unarmed: Small) -> None:
    change(unarmed)
    assert f"set {names.ARM_ANNOTATION} of the binding to a new value" in unarmed.message("AgentsCurrent")


def test_an_order_is_told_once_while_it_waits_for_a_turn(unarmed: Small) -> None:
    _fill_the_turns(unarmed)
    order(unarmed, names.ARM_ANNOTATION, "now")
    change(unarmed)
    unarmed.pass_by(120)
    assert unarmed.patches == []
    assert len([reason for reason, _ in unarmed.events if reason == "RestartMayCutCalls"]) <= 1


def test_pods_of_a_workload_that_waits_for_a_turn_are_not_asked_and_not_written(small: Small) -> None:
    small.workload["spec"]["replicas"] = 2
    small.controller(updated=2, available=2)
    small.pod("busy")
    hook(small, "busy")
    small.agents.serve("busy", calls=7)
    _fill_the_turns(small)
    written = []
    real = small.cluster.annotate_pod

    async def counting(namespace: str, name: str, uid: str, annotations: Any) -> None:
        written.append(name)
        await real(namespace, name, uid, annotations)

    small.cluster.annotate_pod = counting  # type: ignore[method-assign]
    change(small)
    small.pass_by(60)
    assert small.reason("AgentsCurrent") == "WaitingForTurn"
    assert len(written) <= 2


def _fill_the_turns(small: Small) -> None:
    small.limit = 1
    small.boot()
    turns = small.reconciler._rollouts._turns
    turns.hold(Name("else", "x"), "default", OTHER._replace(namespace="else"), None, small.clock.now())


# ---- for ever


def test_pods_that_have_no_running_container_have_no_call_to_wait_for(unarmed: Small) -> None:
    """The old key was revoked and every pod crashes: the new key is what they wait for."""
    del unarmed.agents.pods["old"]
    waiting = {"name": "c", "restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    status = unarmed.cluster.pods["old"]["status"]
    status["containerStatuses"] = [waiting]
    status["conditions"] = [{"type": "Ready", "status": "False", "lastTransitionTime": unarmed.stamp()}]
    unarmed.cluster.tell("MODIFIED", unarmed.cluster.pods["old"])
    change(unarmed)
    unarmed.pass_by(60)
    assert len(unarmed.patches) == 1


def test_a_suspended_binding_gives_its_turn_back_when_its_last_old_pod_has_ended(small: Small) -> None:
    change(small)
    rolled(small)
    agents = small.binding()["spec"]["agents"]
    small.bind(agents=agents, suspend=True)
    small.agents.change("old", calls=0, completed=1)
    small.end("old")
    small.pass_by(20)
    turns = small.reconciler._rollouts._turns
    assert turns.hold(Name("else", "x"), "default", OTHER._replace(namespace="else"), 1, small.clock.now()) is None


def test_who_says_that_another_binding_arms_a_template_is_told_why_it_stays_unarmed(unarmed: Small) -> None:
    """A binding that was renamed, or an annotation copied along: admission and Template then give no hook at all."""
    unarmed.workload["spec"]["template"]["metadata"]["annotations"] = {names.ARMED_BY_ANNOTATION: "gone"}
    unarmed.workload["metadata"]["resourceVersion"] = unarmed.cluster.version()
    unarmed.pass_by(130)
    assert unarmed.is_true("HookConflict")
    unarmed.workload["spec"]["template"]["metadata"]["annotations"] = {names.ARMED_BY_ANNOTATION: "b"}
    unarmed.pass_by(130)
    assert not any(one["type"] == "HookConflict" for one in unarmed.status()["conditions"])


# ---- what a hostile, or only a broken, pod does to others


def test_pods_that_take_connections_and_say_nothing_do_not_keep_the_worker(small: Small) -> None:
    """16 workers serve all tenants; and a worker that waits here does not sync this binding's Secret."""
    for number in range(200):
        small.pod(f"p{number}")
        hook(small, f"p{number}")

    async def hang(pod: Any, *_: Any) -> Any:
        await asyncio.sleep(7)
        raise AgentUnreachable("DrainUnreachable", f"pod {pod.pod} does not answer")

    small.agents.calls = small.agents.probe = hang  # type: ignore[method-assign, assignment]
    small.put("two")
    longest = 0.0
    for _ in range(20):
        began = small.loop.time()
        small.pass_by(1)
        longest = max(longest, small.loop.time() - began)
    assert longest < 60


def test_which_pod_answers_first_is_no_news(small: Small) -> None:
    for name in ("b1", "b2", "b3"):
        small.pod(name)
        hook(small, name)
    turn = iter(range(10**6))

    async def broken(pod: Any, *_: Any) -> Probe:
        await asyncio.sleep(0.01 * ((next(turn) * 7 + len(pod.pod)) % 5))
        raise AgentGarbage("ContractBroken", f"pod {pod.pod} speaks another language")

    async def refused(pod: Any, *_: Any) -> Probe:
        await asyncio.sleep(0.01 * ((next(turn) * 7 + len(pod.pod)) % 5))
        raise AgentUnreachable(PORT_CLOSED, f"pod {pod.pod} refuses connections")

    small.agents.probe = refused  # type: ignore[method-assign]
    change(small)
    small.pass_by(10)
    writes: list[Any] = []
    small.before_status = writes.append  # type: ignore[method-assign, assignment]
    small.pass_by(120)
    assert len(writes) <= 1


def test_a_pod_that_closes_and_opens_again_writes_no_status_each_time(small: Small) -> None:
    """`is over` wakes at once; whoever says it again and again would write a status as often as it is asked."""
    change(small)
    rolled(small)
    woken: list[float] = []
    small.drains._wakes._on_change = lambda *_: woken.append(small.loop.time())

    async def flip() -> None:
        for number in range(240):
            small.agents.change("old", state=DrainState.REFUSING, calls=number % 2)
            await asyncio.sleep(0.25)

    small.loop.run_until_complete(flip())
    assert len(woken) <= 62  # a second between two at least


def test_a_number_of_forced_calls_that_no_status_can_hold(small: Small) -> None:
    change(small)
    rolled(small)
    small.agents.change("old", calls=0, forced=2**62)
    small.pass_by(5)
    small.end("old")
    small.pass_by(20)
    assert small.status()["frozen"]["calls"] < 2**31
    assert small.status()["history"][-1]["forced"] < 2**31


# ---- a token


def test_the_agents_own_drain_token_is_not_told_in_a_condition(unarmed: Small) -> None:
    secret = "own-token-0123456789"
    container = unarmed.workload["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "VOICEKEYS_DRAIN_TOKEN", "value": secret}]
    unarmed.workload["metadata"]["resourceVersion"] = unarmed.cluster.version()
    bound(unarmed, inject="Off")
    unarmed.pass_by(130)
    assert unarmed.reason("DrainArmed") == "ManifestNeedsHook"
    assert secret not in str(unarmed.status()["conditions"]) + str(unarmed.events)
