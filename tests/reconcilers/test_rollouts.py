"""From the Secret to running pods: every way in which a restart goes well."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.http import ApiError
from tests.reconcilers import objects
from tests.reconcilers.world import condition_of, is_true, message_of

if TYPE_CHECKING:
    from tests.reconcilers.objects import Object
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes


def started(world: World, **more: Any) -> None:
    """A synced binding whose Deployment runs on version 1."""
    world.put()
    world.bind(agents=[objects.agent()], **more)
    world.deploy(drain="5s")
    world.idle(version=1)


def old_counts(world: World, name: str = "voice") -> list[int]:
    """How many pods were on the old key, in every status that came by while a restart went on."""
    seen = [raw["status"].get("rotation", {}).get("podsOnOldKey") for raw in world.statuses.of(world.namespace, name)]
    return [count for count in seen if count is not None]


def test_a_key_change_walks_the_whole_way(world: World) -> None:
    started(world)
    assert world.trigger() is None, "adoption writes nothing on the workload"
    version = world.change()
    raw = world.ready(version=version)
    assert condition_of(raw, "CallsDrained")["status"] == "False", "old pods drain for 5 s"  # type: ignore[index]
    assert raw["status"]["rotation"]["phase"] == "Draining"
    assert raw["status"]["rotation"]["podsOnOldKey"] > 0
    assert (world.operator.metric("voicekeys_pods_on_old_key", namespace=world.namespace) or 0) > 0
    raw = world.idle(version=version)
    assert is_true(raw, "CallsDrained")
    counts = old_counts(world)
    assert counts[0] == 3
    assert counts == sorted(counts, reverse=True), "pods on the old key only become fewer"
    (entry,) = raw["status"]["history"]
    assert (entry["fromVersion"], entry["toVersion"], entry["outcome"]) == (1, 2, "Completed")
    assert (entry["pods"], entry["unwitnessed"]) == (3, 0)
    assert world.trigger() == raw["status"]["secret"]["digest"]
    assert world.operator.metric("voicekeys_rotation_phase", namespace=world.namespace, phase="Idle") == 1
    assert world.wait("an event", lambda: world.events("RolloutStarted"))
    assert world.wait("an event", lambda: world.events("KeyChanged"))
    assert len(world.replica_sets()) == 2
    pods = [pod for pod in world.pods() if "deletionTimestamp" not in pod["metadata"]]
    assert len(pods) == 3


def test_the_secret_comes_before_the_template(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent()], rollout={"propagation": "5s"})
    world.deploy()
    world.idle(version=1)
    version = world.change()
    world.wait(
        "the Secret",
        lambda: (
            (world.get("Secret", "voice") or {})["metadata"]["annotations"].get("voicekeys.dev/key-version")
            == str(version)
        ),
    )
    raw = world.until("Reconciling", "True", "Propagating")
    assert world.trigger() is None
    assert condition_of(raw, "CallsDrained")["reason"] == "NotRestarted"  # type: ignore[index]
    world.idle(version=version)
    written = raw["status"]["secret"]["writtenTime"]
    patched = next(
        seen["status"]["agents"][0]["patchedTime"]
        for seen in world.statuses.of(world.namespace)
        if seen["status"].get("agents", [{}])[0].get("patchedTime")
    )
    assert _seconds(patched) - _seconds(written) >= 5


def _seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def test_two_bindings_of_one_workload_make_one_rollout(world: World) -> None:
    world.put("one")
    world.put("two")
    for name in ("one", "two"):
        world.bind(name, name, agents=[objects.agent()], rollout={"propagation": "3s"})
    world.deploy(secrets=("one", "two"))
    world.idle("one")
    world.idle("two")
    world.put("one")
    world.put("two")
    world.notify("one")
    time.sleep(1)
    world.notify("two")
    world.idle("one", 2)
    world.idle("two", 2)
    assert len(world.replica_sets()) == 2, "one new template for both"
    assert world.trigger(binding="one")
    assert world.trigger(binding="two")
    for name in ("one", "two"):
        history = world.binding(name)["status"]["history"]
        assert [entry["outcome"] for entry in history] == ["Completed"]
        assert history[0]["pods"] == 3


def test_many_bindings_of_one_workload_make_one_rollout(world: World) -> None:
    names = [f"key-{number}" for number in range(8)]
    for name in names:
        world.put(name)
        world.bind(name, name, agents=[objects.agent()], rollout={"propagation": "3s"})
    world.deploy(secrets=names)
    for name in names:
        world.idle(name)
    for name in names:
        world.put(name)
    for name in names:
        world.notify(name)
    for name in names:
        world.idle(name, 2, seconds=60)
    assert len(world.replica_sets()) == 2
    assert all(world.trigger(binding=name) for name in names)


def test_a_change_of_one_key_leaves_the_other_bindings_trigger(world: World) -> None:
    for name in ("one", "two"):
        world.put(name)
        world.bind(name, name, agents=[objects.agent()])
    world.deploy(secrets=("one", "two"))
    world.idle("one")
    world.idle("two")
    for turn, name in enumerate(("one", "two", "one")):
        world.idle(name, world.change(name))
        assert len(world.replica_sets()) == turn + 2
    assert world.trigger(binding="one")
    assert world.trigger(binding="two")


def test_a_second_change_in_the_middle_supersedes_the_first(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent()])
    world.deploy(drain="3s", ready_after="3s")
    world.idle(version=1)
    world.change()
    world.until("Reconciling", "True", "Rolling")
    third = world.change()
    raw = world.idle(version=third, seconds=60)
    assert [entry["outcome"] for entry in raw["status"]["history"]] == ["Superseded", "Completed"]
    assert raw["status"]["history"][-1]["toVersion"] == 3
    assert len(world.replica_sets()) == 3
    assert raw["status"]["history"][-1]["pods"] >= 3


def test_a_change_back_in_the_middle_returns_to_the_first_template(world: World) -> None:
    world.put(api_key="value-a")
    world.bind(agents=[objects.agent()])
    world.deploy(drain="2s", ready_after="3s")
    world.idle(version=1)
    world.change(api_key="value-b")
    world.until("Reconciling", "True", "Rolling")
    world.change(api_key="value-a")
    world.idle(version=3, seconds=60)
    assert world.data() == {"api_key": b"value-a"}
    live = [one for one in world.replica_sets() if one["status"]["replicas"]]
    assert len(live) == 1


def test_a_paused_workload_waits_for_its_resume(world: World) -> None:
    started(world, rollout={"timeout": "15s"})
    workload = world.get("Deployment", "agent")
    assert workload is not None
    world.patch(workload, {"spec": {"paused": True}})
    version = world.change()
    raw = world.until("Reconciling", "True", "WaitingForResume")
    assert "kubectl rollout resume" in message_of(raw, "Reconciling")
    assert world.trigger() is not None, "the template is patched at once"
    time.sleep(17)
    assert condition_of(world.binding(), "Ready")["reason"] == "WaitingForResume", "the timeout waits, too"  # type: ignore[index]
    world.patch(workload, {"spec": {"paused": False}})
    raw = world.idle(version=version)
    assert raw["status"]["history"][-1]["outcome"] == "Completed"


def test_a_workload_may_come_after_its_binding(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent()])
    raw = world.until("AgentsCurrent", "False", "WorkloadMissing")
    assert world.data() is not None, "the Secret is kept in step meanwhile"
    assert "create it" in message_of(raw, "Ready")
    world.change()
    world.wait("the new key", lambda: world.binding()["status"]["key"]["version"] == 2)
    world.deploy()
    world.idle(version=2)
    assert len(world.replica_sets()) == 1, "it was born with the key"


def test_a_workload_that_does_not_read_the_secret_is_not_restarted(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent()])
    world.deploy(secrets=())
    raw = world.until("Stalled", "True", "SecretNotUsed")
    assert "secretKeyRef" in message_of(raw, "Stalled")
    world.change()
    world.wait("the new key", lambda: world.binding()["status"]["key"]["version"] == 2)
    time.sleep(3)
    assert world.trigger() is None
    assert len(world.replica_sets()) == 1
    world.deploy(secrets=("voice",))
    world.idle(version=2)
    assert is_true(world.binding(), "Ready")


@pytest.mark.parametrize("how", ["env", "volume", "projected"])
def test_every_way_of_reading_the_secret_counts(world: World, how: str) -> None:
    pod: Object = {}
    if how == "env":
        reference = {"secretKeyRef": {"name": "voice", "key": "api_key"}}
        container = {"name": "agent", "image": "example.com/agent:1", "env": [{"name": "K", "valueFrom": reference}]}
        pod = {"containers": [container]}
    if how == "volume":
        pod = {"volumes": [{"name": "keys", "secret": {"secretName": "voice"}}]}
    if how == "projected":
        pod = {"volumes": [{"name": "keys", "projected": {"sources": [{"secret": {"name": "voice"}}]}}]}
    world.put()
    world.bind(agents=[objects.agent()])
    world.deploy(secrets=(), pod=pod)
    world.idle(version=1)
    world.idle(version=world.change())
    assert len(world.replica_sets()) == 2


def test_a_rename_in_the_secret_restarts_once(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind(agents=[objects.agent()], target={"data": {"OLD": "api_key"}})
    world.deploy()
    world.idle(version=1)
    world.edit(target={"data": {"OLD": None, "NEW": "api_key"}})
    world.wait("renamed", lambda: world.data() == {"NEW": b"k-0001"})
    world.wait("a new template", world.trigger)
    world.idle(version=1)
    time.sleep(3)
    assert len(world.replica_sets()) == 2


def test_a_statefulset_restarts_pod_by_pod(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent(kind="StatefulSet")])
    world.deploy(kind="StatefulSet", drain="1s")
    raw = world.idle(version=1)
    assert condition_of(raw, "CapacityAtRisk")["reason"] == "NoSurge"  # type: ignore[index]
    before = {pod["metadata"]["uid"] for pod in world.pods()}
    raw = world.idle(version=world.change(), seconds=90)
    assert raw["status"]["history"][-1]["pods"] == 3
    assert not before & {pod["metadata"]["uid"] for pod in world.pods()}


def test_a_statefulset_with_ondelete_waits_for_its_user(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent(kind="StatefulSet")])
    world.deploy(kind="StatefulSet", strategy={"type": "OnDelete"}, replicas=2)
    raw = world.idle(version=1)
    assert condition_of(raw, "CapacityAtRisk")["reason"] == "OnDelete"  # type: ignore[index]
    version = world.change()
    raw = world.until("Reconciling", "True", "WaitingForDelete")
    assert "delete its old pods" in message_of(raw, "Ready")
    for pod in world.pods():
        world.lab.api("DELETE", world.path("Pod", pod["metadata"]["name"]))
    world.idle(version=version, seconds=60)


def test_a_daemonset_restarts_node_by_node(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent(kind="DaemonSet")])
    world.deploy(kind="DaemonSet")
    raw = world.idle(version=1)
    assert condition_of(raw, "CapacityAtRisk")["reason"] == "UnavailableDuringRollout"  # type: ignore[index]
    raw = world.idle(version=world.change(), seconds=60)
    assert raw["status"]["history"][-1]["pods"] == 3


def test_two_workloads_of_one_binding_both_restart(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent("north"), objects.agent("south")])
    world.deploy("north", replicas=2)
    world.deploy("south", replicas=1)
    world.idle(version=1)
    raw = world.idle(version=world.change())
    assert raw["status"]["history"][-1]["pods"] == 3
    assert world.trigger("north") == world.trigger("south") != None  # noqa: E711


def test_an_agent_added_later_is_adopted_and_one_taken_out_is_left_alone(world: World) -> None:
    started(world)
    version = world.change()
    world.idle(version=version)
    world.deploy("second", replicas=1)
    world.edit(agents=[objects.agent(), objects.agent("second")])
    world.wait("adopted", lambda: len(world.binding()["status"]["agents"]) == 2)
    world.idle()
    assert world.trigger("second") is None
    world.edit(agents=[objects.agent("second")])
    world.wait("taken out", lambda: len(world.binding()["status"]["agents"]) == 1)
    world.idle(version=world.change())
    assert len([one for one in world.replica_sets() if one["metadata"]["name"].startswith("agent-")]) == 2


def test_a_workload_whose_status_never_rests_is_patched_at_once(world: World) -> None:
    started(world)
    workload = world.get("Deployment", "agent")
    assert workload is not None
    ended = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if ended.wait(0.1):  # more often than any controller writes
                return
            with contextlib.suppress(ApiError):
                world.patch(workload, {"metadata": {"annotations": {"example.com/seen": str(number)}}})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        version = world.change()
        # Only until the patch is through: the Deployment's own controller loses such races for far longer.
        world.wait("the new key is on the template", world.trigger)
    finally:
        ended.set()
        writer.join()
    raw = world.idle(version=version)
    assert not world.events("Conflict"), "the lost races are nobody's concern"
    assert len(raw["status"]["agents"][0]["restarts"]) == 1
    assert len(world.replica_sets()) == 2
