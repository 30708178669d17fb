"""Faults of the engine that were once there, as a user would have met them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.processes import every
from tests.reconcilers import objects
from tests.reconcilers.world import condition_of, is_true
from tests.regressions.fussy import calm, fussy

if TYPE_CHECKING:
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes

AGENTS = [objects.agent()]
QUICK = {"propagation": "1s", "timeout": "6s"}


def reason(raw: Any, kind: str) -> str:
    return str((condition_of(raw, kind) or {}).get("reason", ""))


def begin(world: World, *, replicas: int = 2, pod: Any = None, rollout: Any = None, **marks: str) -> None:
    world.put()
    world.deploy(replicas=replicas, pod=pod, wait=False, **marks)
    world.bind(agents=AGENTS, rollout=rollout or {"propagation": "1s"})
    world.ready(version=1)
    world.wait("rolled out", world.rolled_out)
    world.aged()


def old_pods(world: World) -> list[Any]:
    agents = world.binding()["status"].get("agents") or []
    return [pod for one in agents for pod in one.get("oldPods") or []]


def draining(world: World) -> None:
    world.change()
    world.ready(version=2)
    world.wait("old pods drain", lambda: old_pods(world))


def force(world: World, pod: str) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod}"
    world.lab.api("PATCH", path, {"metadata": {"finalizers": None}})
    world.lab.api("DELETE", path, {"gracePeriodSeconds": 0})


def mend(world: World) -> None:
    """Delete pods that are not ready until all are, as a person does after mending what kept them from it."""

    def look() -> bool:
        wrong = [
            pod for pod in world.pods() if "deletionTimestamp" not in pod["metadata"] and not is_true(pod, "Ready")
        ]
        for pod in wrong:
            world.lab.api("DELETE", f"/api/v1/namespaces/{world.namespace}/pods/{pod['metadata']['name']}")
        return not wrong

    world.wait("all pods ready", look, pause=0.5)


def test_another_path_that_cannot_be_read_is_not_ready(world: World) -> None:
    world.put()
    world.bind()
    world.ready(version=1)
    world.edit(source={"path": f"{world.namespace}/no-such-key"})
    raw = world.until("SourceReachable", "False")
    assert not is_true(raw, "Ready")
    world.put("no-such-key", api_key="it-came-later-0001")
    world.sync_now()
    world.wait("the other key", lambda: world.data() == {"api_key": b"it-came-later-0001"})
    world.ready()


def test_a_vanished_pod_of_a_deleted_workload_makes_no_loop(world: World) -> None:
    begin(world, drain="40s", pod={"terminationGracePeriodSeconds": 6})
    draining(world)
    for pod in old_pods(world):
        force(world, pod["name"])
    world.until("CallsDrained", "Unknown", "Unwitnessed")
    world.lab.api("DELETE", world.path("Deployment", "agent"), {"propagationPolicy": "Orphan"})
    world.until("AgentsCurrent", "False", "WorkloadMissing")
    time.sleep(14)  # deadline and one full grace
    before = reconciles(world)
    time.sleep(2)
    assert reconciles(world) - before < 200, "in 2 s"
    assert is_true(world.binding(), "CallsDrained")


def reconciles(world: World) -> float:
    return world.operator.metric("voicekeys_reconciles_total", kind="VoiceKeyBinding") or 0


def test_old_pods_of_a_deleted_workload_are_seen_to_end(world: World) -> None:
    begin(world, drain="5s")
    draining(world)
    world.lab.api("DELETE", world.path("Deployment", "agent"), {"propagationPolicy": "Background"})
    world.wait("old pods ended", lambda: not old_pods(world), seconds=25)
    assert condition_of(world.binding(), "CallsDrained")["status"] == "True"  # type: ignore[index]


def test_an_agent_taken_out_while_it_drains_is_waited_for(world: World) -> None:
    begin(world, drain="8s")
    draining(world)
    world.edit(agents=[])
    for _ in every(0.25, 4):
        assert not world.events("KeyChanged")
        assert not is_true(world.binding(), "CallsDrained")
    world.wait("the change is complete", lambda: world.events("KeyChanged"), seconds=25)
    assert "2 pods" in world.events("KeyChanged")[0]["note"]


def test_a_second_bad_key_goes_back_to_the_one_that_worked(world: World) -> None:
    begin(world, rollout=QUICK)
    good = world.data()
    fussy(world)
    world.change()
    world.wait("v2 rolls", world.trigger)
    world.change()
    world.until("Stalled", "True", "NewKeyRefused", seconds=40)
    world.wait("the first key again", lambda: world.data() == good, seconds=10)


def test_a_mapping_that_is_refused_is_no_refused_key(world: World) -> None:
    begin(world, rollout=QUICK)
    fussy(world)
    world.edit(target={"data": {"KEY": "api_key"}})
    raw = world.until("Stalled", "True", seconds=20)
    for _ in every(0.5, 3):
        raw = world.binding()
        assert "in place of version 1" not in str(raw["status"])
    calm(world)
    mend(world)
    world.idle(version=1)


def test_sync_now_during_a_way_back_goes_forward(world: World) -> None:
    begin(world, rollout=QUICK)
    fussy(world)
    world.change()
    world.until("Stalled", "True", "NewKeyRefused", seconds=40)
    calm(world)
    world.sync_now(value="again")
    world.wait("taken up", lambda: (world.binding()["status"].get("handled") or {}).get("syncNow"), pause=0.05)
    mend(world)
    world.idle(version=2)
    seen = [one for one in world.statuses.of(world.namespace) if (one["status"].get("handled") or {}).get("syncNow")]
    later = [(one["status"].get("rotation") or {}).get("phase", "Idle") for one in seen]
    assert "RollingBack" not in later, later
    history = [(one["toVersion"], one["outcome"]) for one in world.binding()["status"]["history"]]
    assert history[-1] == (2, "Completed"), history


def test_the_old_key_put_again_during_a_way_back_is_told_as_it_was(world: World) -> None:
    world.put(api_key="a-good-value-0001")
    world.deploy(replicas=2, wait=False)
    world.bind(agents=AGENTS, rollout=QUICK)
    world.ready(version=1)
    world.wait("rolled out", world.rolled_out)
    world.aged()
    fussy(world)
    world.change()
    world.wait("refused", lambda: (world.binding()["status"].get("rotation") or {}).get("refusedDigest"), 40, 0.05)
    world.change(api_key="a-good-value-0001")
    world.idle(version=3)
    history = [(one["toVersion"], one["outcome"]) for one in world.binding()["status"]["history"]]
    assert (2, "Completed") not in history, history
    assert not [one for one in world.events("KeyChanged") if "version 2" in one["note"]]


def test_a_younger_binding_learns_that_an_older_one_takes_its_secret(world: World) -> None:
    world.put("a", api_key="value-of-the-older")
    world.put("b", api_key="value-of-the-younger")
    world.bind("older", "a")
    world.ready("older")
    time.sleep(1.1)  # creation times have seconds
    world.bind("younger", "b", target={"secretName": "shared"})
    world.ready("younger")
    world.edit("older", target={"secretName": "shared"})
    world.until("Stalled", "True", "TargetConflict", name="younger", seconds=10)
    world.edit("older", target={"secretName": None})
    world.ready("younger", seconds=10)


def test_a_store_that_nobody_uses_is_not_reconciling_for_ever(world: World) -> None:
    world.wait("store has a status", lambda: (world.store_object().get("status") or {}).get("conditions"))
    assert not is_true(world.store_object(), "Reconciling")
    assert is_true(world.store_object(), "Ready")


def test_calls_longer_than_the_timeout_do_not_refuse_a_key(world: World) -> None:
    world.put()
    world.deploy(kind="StatefulSet", replicas=2, drain="16s", wait=False)
    world.bind(agents=[objects.agent(kind="StatefulSet")], rollout={**QUICK, "timeout": "12s"})
    world.ready(version=1)
    world.wait("rolled out", lambda: world.rolled_out(kind="StatefulSet"))
    world.change()
    world.wait("v2 begins", lambda: world.trigger(kind="StatefulSet"))
    world.idle(version=2, seconds=90)
    assert not [one for one in world.statuses.of(world.namespace) if is_true(one, "Stalled")]


def test_a_lost_status_forgets_no_old_pod(world: World) -> None:
    begin(world, drain="20s")
    draining(world)
    name = world.path("VoiceKeyBinding", "voice")
    raw = world.binding()
    raw["status"] = {"observedGeneration": -1}
    world.lab.api("PUT", f"{name}/status", raw)
    raw = world.ready(version=2)
    assert condition_of(raw, "CallsDrained")["status"] == "False", raw["status"]  # type: ignore[index]
    assert len(old_pods(world)) == 2


def test_the_same_value_put_again_is_no_hand_edit(world: World) -> None:
    world.put(api_key="the-same-value-0001")
    world.bind()
    world.ready(version=1)
    world.change(api_key="the-same-value-0001")
    world.ready(version=2)
    time.sleep(1)
    assert not [one for one in world.events() if "put right" in one["note"]]


def test_a_binding_that_is_being_deleted_acts_no_more(world: World) -> None:
    begin(world)
    made = world.binding()
    world.patch(made, {"metadata": {"finalizers": ["example.com/wait"]}})
    world.delete(made)
    time.sleep(1)
    before = world.data()
    world.change()
    world.steady(lambda: (world.data(), world.trigger()), 4, "Secret and template")
    assert world.data() == before
    world.patch(made, {"metadata": {"finalizers": None}})


def test_a_store_that_is_gone_is_not_said_to_answer(world: World) -> None:
    world.put()
    world.bind()
    world.ready(version=1)
    world.delete(world.store_object())
    world.until("Reconciling", "True", "StoreNotFound")
    assert condition_of(world.binding(), "SourceReachable")["status"] == "Unknown"  # type: ignore[index]
    world.store()
    raw = world.ready(version=1)
    assert is_true(raw, "SourceReachable")


def test_an_edit_of_a_store_makes_nothing_unready(world: World) -> None:
    world.put()
    world.bind()
    world.ready(version=1)
    before = len(world.statuses.of(world.namespace))
    for seconds in (6, 7, 8):
        world.store(poll={"interval": f"{seconds}s"})
        world.annotate("voice", sync_now=str(seconds))
        time.sleep(0.5)
    time.sleep(1)
    assert all(is_true(one, "Ready") for one in world.statuses.of(world.namespace)[before:])
