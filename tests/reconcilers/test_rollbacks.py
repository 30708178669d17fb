"""New pods that do not start: the old key comes back, whole, and the refused one is not tried again by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.reconcilers import objects
from tests.reconcilers.objects import LAB
from tests.reconcilers.world import condition_of, is_true, message_of

if TYPE_CHECKING:
    from tests.reconcilers.objects import Object
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes


def break_new_pods(world: World) -> None:
    """Let pods that are made from now on never get ready, as a wrong key does, without a new template.

    The template stays as it is: a mutating policy puts the lab's annotation on new pods of this namespace.
    """
    patch = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {
            "expression": 'Object{metadata: Object.metadata{annotations: {"lab.voicekeys.dev/ready": "never", '
            '"lab.voicekeys.dev/waiting": "CrashLoopBackOff"}}}'
        },
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    api = "admissionregistration.k8s.io/v1"
    made = f"break-{world.namespace}"
    # Only pods that carry a trigger are broken: those of the old template have none, and start as ever.
    condition = {
        "name": "new",
        "expression": "object.metadata.annotations.exists(k, k.startsWith('voicekeys.dev/key.'))",
    }
    spec = {
        "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
        "matchConditions": [condition],
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "mutations": [patch],
    }
    world.lab.apply({"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": made}, "spec": spec})
    bound = {"policyName": made}
    world.lab.apply(
        {"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": made}, "spec": bound}
    )
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": world.namespace, "annotations": {"voicekeys.dev/key.probe": "x"}},
        "spec": {"containers": [{"name": "c", "image": "example.com/c:1"}]},
    }

    def broken() -> bool:
        path = f"/api/v1/namespaces/{world.namespace}/pods?dryRun=All"
        answer: Object = world.lab.api("POST", path, probe)
        return bool(answer["metadata"]["annotations"].get(LAB + "ready") == "never")

    world.wait("the policy in force", broken)


def mend(world: World) -> None:
    """Let new pods start again."""
    for kind in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        world.lab.api("DELETE", f"/apis/admissionregistration.k8s.io/v1/{kind}/break-{world.namespace}")
    # The API server takes a moment to forget a policy.
    time.sleep(3)


def refused(world: World, **rollout: str) -> Object:
    """Bring a binding to where its new key was refused and the old one is back, and return it."""
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent()], rollout={"timeout": "6s", **rollout})
    world.deploy()
    world.idle(version=1)
    world.aged()
    break_new_pods(world)
    world.change(api_key="bad-0002")
    raw: Object = world.wait(
        "rolled back",
        lambda: one if (one := world.binding())["status"].get("history") else None,
        60,
    )
    return raw


def settled_on_the_old_key(world: World) -> Object:
    """Hold that the previous key is in place again, everywhere, and said so."""
    raw = world.until("Stalled", "True", "NewKeyRefused")
    assert raw["status"]["history"][-1]["outcome"] == "RolledBack"
    assert world.data() == {"api_key": b"good-0001"}
    assert raw["status"]["key"]["version"] == 1
    assert world.trigger() is None
    assert not is_true(raw, "Ready")
    return raw


def test_pods_that_never_start_bring_the_old_key_back(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent()], rollout={"timeout": "6s"})
    world.deploy()
    world.idle(version=1)
    world.aged()
    before = {pod["metadata"]["uid"] for pod in world.pods()}
    (first,) = world.replica_sets()
    break_new_pods(world)
    world.change(api_key="bad-0002")
    world.wait("rolled back", lambda: world.binding()["status"].get("history"))
    raw = settled_on_the_old_key(world)
    message = message_of(raw, "Stalled")
    assert "CrashLoopBackOff" in message, "the pods' own reason"
    assert "Version 1 is kept in place of version 2" in message
    assert "voicekeys.dev/sync-now" in message
    world.wait("the new ReplicaSet emptied", lambda: sum(one["spec"]["replicas"] for one in world.replica_sets()) == 3)
    (live,) = [one for one in world.replica_sets() if one["spec"]["replicas"]]
    assert live["metadata"]["uid"] == first["metadata"]["uid"], "the old ReplicaSet is taken up again"
    now = {pod["metadata"]["uid"] for pod in world.pods() if "deletionTimestamp" not in pod["metadata"]}
    assert before == now, "no pod that served was restarted"
    assert world.wait("an event", lambda: world.events("RolledBack"), 10)
    mend(world)


def test_a_refused_key_is_not_rolled_forward_by_polls(world: World) -> None:
    refused(world)
    settled_on_the_old_key(world)
    sets = len(world.replica_sets())
    for _ in range(3):
        world.notify()
        time.sleep(2)
    world.edit(rollout={"timeout": "7s"})  # an edit of something else is no reason to try again, either
    time.sleep(4)
    settled_on_the_old_key(world)
    assert len(world.replica_sets()) == sets
    assert len(world.binding()["status"]["history"]) == 1
    mend(world)


def test_a_newer_key_rolls_forward_after_a_refusal(world: World) -> None:
    refused(world)
    settled_on_the_old_key(world)
    mend(world)
    world.change(api_key="good-0003")
    raw = world.idle(version=3)
    assert world.data() == {"api_key": b"good-0003"}
    assert [entry["outcome"] for entry in raw["status"]["history"]] == ["RolledBack", "Completed"]
    assert raw["status"]["history"][-1]["fromVersion"] == 1
    assert "refusedDigest" not in raw["status"]["rotation"]


def test_sync_now_tries_a_refused_key_again(world: World) -> None:
    refused(world)
    settled_on_the_old_key(world)
    mend(world)
    world.sync_now()
    raw = world.idle(version=2)
    assert world.data() == {"api_key": b"bad-0002"}
    assert raw["status"]["history"][-1]["outcome"] == "Completed"


def test_putting_the_old_value_again_after_a_refusal_restarts_nothing(world: World) -> None:
    refused(world)
    settled_on_the_old_key(world)
    sets = len(world.replica_sets())
    world.change(api_key="good-0001")
    world.idle(version=3)
    time.sleep(2)
    assert len(world.replica_sets()) == sets
    assert world.trigger() is None
    mend(world)


def test_a_rollback_without_the_previous_version_says_so(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent()], rollout={"timeout": "8s"})
    world.deploy()
    world.idle(version=1)
    world.aged()
    break_new_pods(world)
    world.change(api_key="bad-0002")
    world.until("Reconciling", "True", "Rolling")
    world.vault("PUT", "secret/destroy/{}/key", {"versions": [1]})
    raw = world.until("Stalled", "True", "PreviousKeyLost")
    message = message_of(raw, "Stalled")
    assert "version 1" in message
    assert "Put a working key into Vault" in message
    mend(world)
    world.change(api_key="good-0003")
    world.idle(version=3)
    assert world.data() == {"api_key": b"good-0003"}


def test_a_third_key_in_the_middle_of_a_rollback_rolls_forward(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent()], rollout={"timeout": "6s"})
    world.deploy()
    world.idle(version=1)
    world.aged()
    break_new_pods(world)
    world.change(api_key="bad-0002")
    world.until("Stalled", "True", "NewKeyRefused")
    mend(world)
    world.change(api_key="good-0003")
    raw = world.idle(version=3)
    assert world.data() == {"api_key": b"good-0003"}
    assert world.trigger() == raw["status"]["secret"]["digest"]
    assert is_true(raw, "CallsDrained")


def test_two_workloads_of_which_one_refuses_both_go_back(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent("good"), objects.agent("bad")], rollout={"timeout": "6s"})
    world.deploy("good", replicas=2)
    world.deploy("bad", replicas=2)
    world.idle(version=1)
    world.aged()
    bad = world.get("Deployment", "bad")
    assert bad is not None
    # Never ready once restarted: the mark is on the template but its running pods are older than it.
    world.patch(bad, {"spec": {"paused": True, "template": {"metadata": {"annotations": {LAB + "ready": "never"}}}}})
    world.change(api_key="bad-0002")
    world.until("Reconciling", "True")
    world.patch(bad, {"spec": {"paused": False}})
    world.until("Stalled", "True", "NewKeyRefused")
    world.wait("the Secret back", lambda: world.data() == {"api_key": b"good-0001"})
    world.wait("bad is back", lambda: world.trigger("bad") is None)
    world.wait("good is back", lambda: _holds(world, "good", {None, world.binding()["status"]["secret"]["digest"]}))


def _holds(world: World, name: str, triggers: set[str | None]) -> bool:
    pods = [pod for pod in world.pods(name) if "deletionTimestamp" not in pod["metadata"]]
    return all((pod["metadata"].get("annotations") or {}).get("voicekeys.dev/key.voice") in triggers for pod in pods)


def test_a_workload_that_never_started_is_not_rolled_back_for_ever(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent()], rollout={"timeout": "5s"})
    world.deploy(wait=False, ready="never")
    world.ready(version=1)
    world.wait("its pods", lambda: len(world.pods()) == 3)
    time.sleep(3)  # a pod that starts while the key changes may have read either
    world.change(api_key="good-0002")
    world.until("Stalled", "True", "NewKeyRefused")
    time.sleep(12)
    raw = world.binding()
    assert len(raw["status"]["agents"][0]["restarts"]) == 1
    assert condition_of(raw, "Ready")["status"] == "False"  # type: ignore[index]
    assert len(world.replica_sets()) == 2
