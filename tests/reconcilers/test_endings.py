"""What goes wrong around a restart: pods whose end nobody saw, people and autoscalers in between, preflight."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.reconcilers import objects
from tests.reconcilers.world import condition_of, is_true, message_of

if TYPE_CHECKING:
    from tests.reconcilers.objects import Object
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes

TRIGGER = "voicekeys.dev/key.voice"


def started(world: World, *, binding: dict[str, Any] | None = None, **workload: Any) -> None:
    """A synced binding whose Deployment runs on version 1."""
    world.put()
    world.bind(agents=[objects.agent()], **(binding or {}))
    world.deploy(**workload)
    world.idle(version=1)


def test_pods_that_vanish_unseen_are_unknown_then_counted(world: World) -> None:
    started(world, replicas=2, end="vanish", drain="1s", pod={"terminationGracePeriodSeconds": 4})
    version = world.change()
    raw = world.until("CallsDrained", "Unknown", "Unwitnessed")
    world.ready(version=version)
    assert "look on their nodes" in message_of(raw, "CallsDrained")
    assert any("vanishedTime" in pod for agent in raw["status"]["agents"] for pod in agent["oldPods"])
    raw = world.idle(version=version, seconds=90)
    entry = raw["status"]["history"][-1]
    assert (entry["pods"], entry["unwitnessed"]) == (2, 2)


def test_a_pod_deleted_by_force_is_unknown_not_drained(world: World) -> None:
    started(world, replicas=2, drain="20s", pod={"terminationGracePeriodSeconds": 6})
    version = world.change()
    world.ready(version=version)
    old = next(pod for pod in world.pods() if TRIGGER not in pod["metadata"]["annotations"])
    world.lab.api("DELETE", world.path("Pod", old["metadata"]["name"]), {"gracePeriodSeconds": 0})
    raw = world.until("CallsDrained", "Unknown", "Unwitnessed")
    assert old["metadata"]["name"] in message_of(raw, "CallsDrained")
    assert is_true(raw, "Ready")
    raw = world.idle(version=version, seconds=90)
    assert raw["status"]["history"][-1]["unwitnessed"] == 1


def test_a_scale_up_in_the_middle_is_followed_to_its_end(world: World) -> None:
    started(world, replicas=3, drain="3s", ready_after="2s")
    version = world.change()
    world.until("Reconciling", "True", "Rolling")
    workload = world.get("Deployment", "agent")
    assert workload is not None
    world.patch(workload, {"spec": {"replicas": 6}})
    raw = world.idle(version=version, seconds=90)
    everyone = {seen["uid"] for one in world.statuses.of(world.namespace) for seen in _old(one)}
    assert raw["status"]["history"][-1]["pods"] <= len(everyone)
    pods = [pod for pod in world.pods() if "deletionTimestamp" not in pod["metadata"]]
    assert all(TRIGGER in pod["metadata"]["annotations"] for pod in pods)


def _old(raw: Object) -> list[Object]:
    return [pod for one in raw["status"].get("agents") or [] for pod in one.get("oldPods") or []]


def test_a_new_pod_on_the_old_template_is_noticed(world: World) -> None:
    """As an autoscaler's proportional scaling makes it: the old ReplicaSet grows while the new one starts."""
    started(world, replicas=2, drain="2s", ready_after="6s")
    (old,) = world.replica_sets()
    before = {pod["metadata"]["uid"] for pod in world.pods()}
    version = world.change()
    world.until("Reconciling", "True", "Rolling")
    stray = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **old["spec"]["template"]["metadata"],
            "name": f"{old['metadata']['name']}-stray",
            "namespace": world.namespace,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": old["metadata"]["name"],
                    "uid": old["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {**old["spec"]["template"]["spec"], "nodeName": "node-0"},
    }  # fmt: skip
    made = world.lab.apply(stray)[0]["metadata"]["uid"]
    world.wait(
        "the stray pod counted",
        lambda: any(made in {pod["uid"] for pod in _old(one)} for one in world.statuses.of(world.namespace)),
    )
    raw = world.idle(version=version, seconds=90)
    assert made not in before
    assert raw["status"]["history"][-1]["pods"] >= 2


def test_the_restart_budget_trips_the_breaker(world: World) -> None:
    started(world, replicas=1, binding={"rollout": {"maxRestartsPerHour": 2}})
    for _ in range(2):
        world.idle(version=world.change())
    world.change()
    raw = world.until("Stalled", "True", "RestartBudgetSpent")
    assert "maxRestartsPerHour" in message_of(raw, "Stalled")
    assert raw["status"]["key"]["version"] == 4, "the Secret always syncs"
    assert len(world.replica_sets()) == 3
    assert condition_of(raw, "CallsDrained")["status"] == "False"  # type: ignore[index]
    time.sleep(3)
    assert len(world.replica_sets()) == 3
    world.edit(rollout={"maxRestartsPerHour": 3})
    world.idle(version=4)
    assert len(world.replica_sets()) == 4


def test_recreate_is_not_restarted(world: World) -> None:
    started(world, replicas=1, strategy={"type": "Recreate"})
    world.change()
    raw = world.until("Stalled", "True", "NotRollingUpdate")
    assert "spec.strategy.type" in message_of(raw, "Stalled")
    assert raw["status"]["key"]["version"] == 2
    assert world.trigger() is None
    workload = world.get("Deployment", "agent")
    assert workload is not None
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    world.patch(workload, {"spec": {"strategy": surge}})
    world.idle(version=2)


def test_a_gap_in_capacity_is_told_and_goes_on(world: World) -> None:
    loose = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    started(world, replicas=2, strategy=loose)
    raw = world.until("CapacityAtRisk", "True", "UnavailableDuringRollout")
    assert "maxUnavailable 0" in message_of(raw, "CapacityAtRisk")
    world.idle(version=world.change())


def test_a_quota_without_room_stops_the_restart_before_it_begins(world: World) -> None:
    started(world, replicas=2)
    metadata = {"name": "few", "namespace": world.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "2"}}}
    made = world.lab.apply(quota)[0]
    world.wait(
        "the quota counts",
        lambda: (world.get("ResourceQuota", "few") or {}).get("status", {}).get("used", {}).get("pods") == "2",
    )
    world.change()
    raw = world.until("Stalled", "True", "QuotaExceeded")
    assert "ResourceQuota few" in message_of(raw, "Stalled")
    assert raw["status"]["key"]["version"] == 2
    assert world.trigger() is None
    world.patch(made, {"spec": {"hard": {"pods": "10"}}})
    world.idle(version=2, seconds=100)


def test_a_literal_key_in_env_is_told_and_never_shown(world: World) -> None:
    literal = "value-that-is-the-very-key-0001"
    env = [{"name": "VOICE_API_KEY", "value": literal}]
    container = {
        "name": "agent",
        "image": "example.com/agent:1",
        "env": env,
        "envFrom": [{"secretRef": {"name": "voice"}}],
    }
    world.put(api_key=literal)
    world.bind(agents=[objects.agent()])
    world.deploy(pod={"containers": [container]})
    raw = world.until("LiteralKeyInManifest", "True")
    assert "env VOICE_API_KEY" in message_of(raw, "LiteralKeyInManifest")
    assert literal not in str(raw["status"])
    assert is_true(raw, "Ready")


def test_a_grace_period_shorter_than_the_longest_call_is_told(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent(drain={"mode": "Signal", "maxCallDuration": "30m", "inject": "Off"})])
    world.deploy(replicas=1)
    raw = world.until("GraceTooShort", "True")
    assert "terminationGracePeriodSeconds to 1845" in message_of(raw, "GraceTooShort")
    assert is_true(raw, "Ready")
    world.deploy(replicas=1, pod={"terminationGracePeriodSeconds": 1845})
    world.wait("told no more", lambda: condition_of(world.binding(), "GraceTooShort") is None)


def test_a_trigger_taken_off_by_hand_ends_well(world: World) -> None:
    started(world, replicas=2)
    version = world.change()
    world.idle(version=version)
    workload = world.get("Deployment", "agent")
    assert workload is not None
    world.patch(workload, {"spec": {"template": {"metadata": {"annotations": {TRIGGER: None}}}}})
    time.sleep(4)
    raw = world.idle(version=version)
    time.sleep(4)
    digest = raw["status"]["secret"]["digest"]
    assert world.trigger() in {None, digest}
    restarts = raw["status"]["agents"][0].get("restarts", [])
    assert len(restarts) <= 2, "put back at most once, never in a loop"
    world.idle(version=world.change())


def test_a_workload_made_anew_is_adopted(world: World) -> None:
    started(world, replicas=2)
    world.idle(version=world.change())
    workload = world.get("Deployment", "agent")
    assert workload is not None
    world.delete(workload, propagationPolicy="Foreground")
    world.wait("it is gone", lambda: world.get("Deployment", "agent") is None)
    world.deploy(replicas=2)
    raw = world.idle(version=2)
    time.sleep(3)
    assert world.trigger() is None, "new pods were born with the key: nothing restarts"
    assert len(world.replica_sets()) == 1
    assert len(raw["status"]["agents"][0].get("restarts", [])) == 1
    world.idle(version=world.change())
    assert len(world.replica_sets()) == 2


def test_a_workload_deleted_in_the_middle_of_a_change_does_not_hang_the_binding(world: World) -> None:
    started(world, replicas=2, drain="3s", ready_after="3s")
    world.change()
    world.until("Reconciling", "True", "Rolling")
    workload = world.get("Deployment", "agent")
    assert workload is not None
    world.delete(workload, propagationPolicy="Background")
    world.until("AgentsCurrent", "False", "WorkloadMissing")
    world.wait("its pods ended", lambda: not world.pods())
    world.until("CallsDrained", "True")
    world.deploy(replicas=2)
    world.idle(version=2, seconds=90)


def test_an_agent_taken_out_in_the_middle_of_its_drain_is_not_forgotten(world: World) -> None:
    started(world, replicas=2, drain="12s")
    version = world.change()
    world.ready(version=version)
    assert condition_of(world.binding(), "CallsDrained")["status"] == "False"  # type: ignore[index]
    world.edit(agents=[])
    world.ready(version=version)
    drained = condition_of(world.binding(), "CallsDrained")
    assert any("deletionTimestamp" in pod["metadata"] for pod in world.pods()), "too slow to tell"
    assert drained is None or drained["status"] != "True", "its pods still hold the old key"


def test_deleting_and_making_the_binding_anew_restarts_nothing(world: World) -> None:
    started(world, replicas=2)
    world.idle(version=world.change())
    sets = len(world.replica_sets())
    world.delete(world.binding())
    world.wait("it is gone", lambda: not world.bindings())
    world.bind(agents=[objects.agent()])
    world.idle(version=2)
    time.sleep(4)
    assert len(world.replica_sets()) == sets
    world.idle(version=world.change())
    assert len(world.replica_sets()) == sets + 1


def test_a_key_changed_while_there_was_no_binding_restarts_once(world: World) -> None:
    started(world, replicas=2)
    sets = len(world.replica_sets())
    world.delete(world.binding())
    world.wait("it is gone", lambda: not world.bindings())
    world.put()
    world.bind(agents=[objects.agent()])
    world.wait("the new key", lambda: world.binding().get("status", {}).get("key", {}).get("version") == 2)
    world.wait("a restart", lambda: len(world.replica_sets()) == sets + 1)
    world.idle(version=2)
    time.sleep(3)
    assert len(world.replica_sets()) == sets + 1


def test_suspend_in_the_middle_of_a_rollout_goes_on_afterwards(world: World) -> None:
    started(world, replicas=2, binding={"rollout": {"propagation": "9s"}})
    version = world.change()
    world.until("Reconciling", "True", "Propagating")
    world.edit(suspend=True)
    raw = world.until("Suspended", "True")
    assert not is_true(raw, "Ready"), "the pods are on the old key"
    time.sleep(10)
    assert world.trigger() is None
    world.edit(suspend=False)
    world.idle(version=version)
    assert len(world.replica_sets()) == 2
