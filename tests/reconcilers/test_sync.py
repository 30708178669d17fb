"""From Vault to the Secret: first sync, which fields, metadata, type, and what becomes of it when the binding goes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests import gen
from tests.reconcilers import objects
from tests.reconcilers.together import StatusWatch
from tests.reconcilers.world import condition_of, is_true

if TYPE_CHECKING:
    from tests.lab import Lab
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes


def test_a_first_sync_makes_the_secret(world: World) -> None:
    world.put(api_key="first-value-0001")
    world.bind()
    raw = world.ready(version=1)
    assert world.data() == {"api_key": b"first-value-0001"}
    assert is_true(raw, "SourceReachable")
    assert is_true(raw, "SecretSynced")
    secret = world.get("Secret", "voice")
    assert secret is not None
    assert secret["type"] == "Opaque"
    assert secret["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "voicekeys"
    assert secret["metadata"]["annotations"]["voicekeys.dev/key-version"] == "1"
    assert "ownerReferences" not in secret["metadata"]
    managers = {entry["manager"] for entry in secret["metadata"]["managedFields"]}
    assert managers == {"voicekeys"}


def test_selected_fields_come_under_their_new_names(world: World) -> None:
    world.put(api_key="k-0001", account="a-0001", region="eu")
    world.bind(target={"data": {"VOICE_KEY": "api_key", "VOICE_ACCOUNT": "account"}})
    world.ready(version=1)
    assert world.data() == {"VOICE_KEY": b"k-0001", "VOICE_ACCOUNT": b"a-0001"}


def test_without_a_selection_all_fields_come(world: World) -> None:
    world.put(api_key="k-0001", account="a-0001", nested={"b": 1, "a": [True, None]}, number=5)
    world.bind()
    world.ready(version=1)
    data = world.data()
    assert data is not None
    assert set(data) == {"api_key", "account", "nested", "number"}
    assert data["number"] == b"5"


def test_type_labels_and_annotations_are_the_users(world: World) -> None:
    world.put(username="u-0001", password="p-0001")
    target = {
        "secretName": "login",
        "type": "kubernetes.io/basic-auth",
        "labels": {"team": "voice"},
        "annotations": {"example.com/owner": "voice team"},
    }
    world.bind(target=target)
    world.ready(version=1)
    secret = world.get("Secret", "login")
    assert secret is not None
    assert secret["type"] == "kubernetes.io/basic-auth"
    assert secret["metadata"]["labels"]["team"] == "voice"
    assert secret["metadata"]["annotations"]["example.com/owner"] == "voice team"
    world.edit(target={"labels": {"team": "calls"}, "annotations": None})
    world.ready()
    metadata = world.wait(
        "the label changed", lambda: meta if (meta := _meta(world))["labels"]["team"] == "calls" else None
    )
    assert "example.com/owner" not in metadata["annotations"]


def _meta(world: World) -> objects.Object:
    secret = world.get("Secret", "login")
    assert secret is not None
    meta: objects.Object = secret["metadata"]
    return meta


def test_a_deselected_field_leaves_the_secret(world: World) -> None:
    world.put(api_key="k-0001", account="a-0001")
    world.bind(target={"data": {"KEY": "api_key", "ACCOUNT": "account"}})
    world.ready(version=1)
    world.edit(target={"data": {"ACCOUNT": None}})
    world.wait("ACCOUNT gone", lambda: set(world.data() or {}) == {"KEY"}, 15)


def test_a_field_removed_in_vault_leaves_the_secret(world: World) -> None:
    world.put(api_key="k-0001", account="a-0001")
    world.bind()
    world.ready(version=1)
    world.change(api_key="k-0001")
    world.ready(version=2)
    world.wait("account gone", lambda: set(world.data() or {}) == {"api_key"}, 10)


def test_a_new_secret_name_makes_a_new_secret_and_leaves_the_old(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind()
    world.ready(version=1)
    world.edit(target={"secretName": "other"})
    world.wait("Secret other", lambda: world.data("other"))
    raw = world.ready()
    assert raw["status"]["secret"]["name"] == "other"
    assert world.data("voice") == {"api_key": b"k-0001"}


def test_retain_keeps_the_secret_and_restarts_nothing(world: World) -> None:
    world.put()
    world.deploy(wait=False)
    raw = world.bind(agents=[objects.agent()])
    world.ready(version=1)
    version = world.change()
    world.idle(version=version)
    world.wait("rolled out", world.rolled_out)
    before = _pod_names(world), len(world.replica_sets())
    world.delete(raw)
    world.wait("the binding gone", lambda: not world.bindings())
    time.sleep(3)
    assert (_pod_names(world), len(world.replica_sets())) == before
    assert world.data() is not None
    assert world.trigger() is not None


def _pod_names(world: World) -> set[str]:
    return {pod["metadata"]["name"] for pod in world.pods() if "deletionTimestamp" not in pod["metadata"]}


def test_delete_removes_the_secret_with_the_binding(world: World) -> None:
    world.put()
    # The garbage collector looks for new kinds each 30 s, and the CRD is younger than the lab.
    world.wait("the garbage collector to know bindings", lambda: collects(world), 90)
    raw = world.bind(target={"deletionPolicy": "Delete"})
    world.ready(version=1)
    secret = world.get("Secret", "voice")
    assert secret is not None
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [raw["metadata"]["uid"]]
    assert not secret["metadata"]["ownerReferences"][0].get("controller")
    world.delete(raw, propagationPolicy="Background")
    world.wait("the Secret collected", lambda: world.get("Secret", "voice") is None)


def collects(world: World) -> bool:
    """Whether the garbage collector takes away what a deleted binding owned."""
    owner = world.bind("probe", suspend=True)
    reference = {"apiVersion": objects.API, "kind": "VoiceKeyBinding", "name": "probe", "uid": owner["metadata"]["uid"]}
    metadata = {"name": "probe", "namespace": world.namespace, "ownerReferences": [reference]}
    owned = world.lab.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})[0]
    world.delete(owner, propagationPolicy="Background")
    time.sleep(2)
    if world.get("ConfigMap", "probe") is None:
        return True
    world.delete(owned)
    return False


def test_a_secret_that_goes_with_its_binding_takes_the_key_not_the_pods(world: World) -> None:
    world.deploy(replicas=2)
    world.put(api_key="k-0001")
    world.wait("the garbage collector to know bindings", lambda: collects(world), 90)
    raw = world.bind(agents=[objects.agent()], target={"deletionPolicy": "Delete"})
    world.ready(version=1)
    world.change(api_key="k-0002")
    world.idle(version=2)
    world.wait("the old pods gone", lambda: world.rolled_out() and len(world.pods("agent")) == 2)
    secret = world.get("Secret", "voice")
    assert secret is not None
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [raw["metadata"]["uid"]]
    workload, pods = world.get("Deployment", "agent"), sorted(pod["metadata"]["uid"] for pod in world.pods("agent"))
    assert workload is not None
    world.delete(raw, propagationPolicy="Background")
    world.wait("the Secret collected", lambda: world.get("Secret", "voice") is None)
    # The pods have their key already: they run on, and nothing touches the template.
    world.steady(lambda: sorted(pod["metadata"]["uid"] for pod in world.pods("agent")), 5, "the pods")
    assert sorted(pod["metadata"]["uid"] for pod in world.pods("agent")) == pods
    left = world.get("Deployment", "agent")
    assert left is not None
    assert left["metadata"]["generation"] == workload["metadata"]["generation"]
    assert world.get("Secret", "voice") is None, "nobody makes it again"


def test_the_deletion_policy_can_change_both_ways(world: World) -> None:
    world.put()
    world.bind(target={"deletionPolicy": "Delete"})
    world.ready(version=1)
    world.edit(target={"deletionPolicy": "Retain"})  # without this, pruning the binding would take the agents' Secret
    world.wait("no owner", lambda: "ownerReferences" not in (world.get("Secret", "voice") or {})["metadata"], 15)
    world.edit(target={"deletionPolicy": "Delete"})
    world.wait("an owner", lambda: (world.get("Secret", "voice") or {})["metadata"].get("ownerReferences"), 15)


def test_a_hand_edit_is_put_right_with_an_event(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind()
    world.ready(version=1)
    secret = world.get("Secret", "voice")
    assert secret is not None
    world.patch(secret, {"stringData": {"api_key": "edited by hand"}})
    world.wait("put right", lambda: world.data() == {"api_key": b"k-0001"}, 10)
    (event,) = world.wait("an event", lambda: world.events("PayloadDiffers"), 10)
    assert event["type"] == "Warning"
    assert "put right" in event["note"]


def test_a_deleted_secret_comes_back_with_an_event(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind()
    world.ready(version=1)
    secret = world.get("Secret", "voice")
    assert secret is not None
    world.delete(secret)
    world.wait("it is back", lambda: world.data() == {"api_key": b"k-0001"}, 10)
    assert world.wait("an event", lambda: world.events("SecretMissing"), 10)


def test_a_secret_that_lost_our_label_is_put_right(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind()
    world.ready(version=1)
    secret = world.get("Secret", "voice")
    assert secret is not None
    world.patch(secret, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})
    # It looks like a stranger's now, but its fields are ours still.
    world.wait(
        "put right",
        lambda: (
            "app.kubernetes.io/managed-by" in ((world.get("Secret", "voice") or {})["metadata"].get("labels") or {})
        ),
        15,
    )
    raw = world.ready(version=1)
    assert condition_of(raw, "Stalled") is None
    assert world.wait("an event", lambda: world.events("MetadataDiffers"), 10)


def test_keys_labels_and_annotations_of_others_stay(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind()
    world.ready(version=1)
    secret = world.get("Secret", "voice")
    assert secret is not None
    world.patch(secret, {"stringData": {"theirs": "x"}, "metadata": {"labels": {"their": "label"}}})
    world.change(api_key="k-0002")
    world.ready(version=2)
    assert world.data() == {"api_key": b"k-0002", "theirs": b"x"}
    again = world.get("Secret", "voice")
    assert again is not None
    assert again["metadata"]["labels"]["their"] == "label"


def test_the_same_value_put_again_changes_the_version_and_restarts_nothing(world: World) -> None:
    world.put(api_key="k-0001")
    world.bind(agents=[objects.agent()])
    world.deploy()
    world.idle(version=1)
    world.change(api_key="k-0001")
    raw = world.idle(version=2)
    time.sleep(3)
    assert len(world.replica_sets()) == 1
    assert world.trigger() is None
    assert not raw["status"].get("history")
    secret = world.get("Secret", "voice")
    assert secret is not None
    assert secret["metadata"]["annotations"]["voicekeys.dev/key-version"] == "2"


def test_key_freshness_is_told(world: World) -> None:
    world.put()
    world.bind(rotation={"maxAge": "90d", "warnBefore": "14d"})
    raw = world.ready(version=1)
    assert is_true(raw, "KeyFresh")
    assert raw["status"]["key"]["rotateBy"]
    world.edit(rotation={"maxAge": "90d", "warnBefore": "89d23h59m59s"})
    raw = world.until("KeyFresh", "False", "KeyExpiresSoon", seconds=15)
    assert is_true(raw, "Ready")
    world.edit(rotation={"maxAge": "1s", "warnBefore": None})
    raw = world.until("KeyFresh", "False", "KeyExpired", seconds=15)
    assert is_true(raw, "Ready")
    assert condition_of(raw, "KeyFresh")["message"].endswith("put it into Vault")  # type: ignore[index]


def test_a_law_that_fails_on_a_status_fails_the_test(cluster: Lab) -> None:
    watch = StatusWatch(cluster)
    watch.check("nobody")
    nonsense = {"metadata": {"name": "a", "namespace": "b"}, "status": {"observedGeneration": 1, "conditions": [{}]}}
    watch.take(json.dumps({"type": "ADDED", "object": nonsense}).encode())
    watch.close()
    with pytest.raises(AssertionError, match=r"a law failed on a status:\n(?s:.*)KeyError"):
        watch.check("nobody")


def test_a_status_of_a_store_that_breaks_a_law_fails_its_tenants_test(cluster: Lab) -> None:
    watch = StatusWatch(cluster)
    raw = gen.store()
    raw["status"] = {"observedGeneration": 1, "conditions": []}
    watch.take(json.dumps({"type": "MODIFIED", "object": raw}).encode())
    watch.close()
    with pytest.raises(AssertionError, match="one_summary_holds"):
        watch.check(raw["metadata"]["name"])
