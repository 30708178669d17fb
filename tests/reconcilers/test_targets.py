"""Whose a Secret is, and every way in which a key cannot be made into one: the last good Secret stays."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.reconcilers import objects
from tests.reconcilers.world import condition_of, is_true, message_of

if TYPE_CHECKING:
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes


def foreign(world: World, labels: dict[str, str] | None = None, **data: str) -> objects.Object:
    """Apply a Secret `voice` that somebody else made."""
    metadata = {"name": "voice", "namespace": world.namespace, "labels": labels or {}}
    return world.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})[0]


ADOPTABLE = {"voicekeys.dev/adopt": "voice"}


def test_a_foreign_secret_is_not_adopted(world: World) -> None:
    theirs = foreign(world, api_key="theirs")
    world.put(api_key="k-0001")
    world.bind()
    raw = world.until("Stalled", "True", "SecretExists")
    assert "target.adopt" in message_of(raw, "Ready")
    assert world.data() == {"api_key": b"theirs"}
    world.delete(theirs)
    world.sync_now()
    world.ready(version=1)


def test_adopting_the_same_value_restarts_nothing(world: World) -> None:
    foreign(world, ADOPTABLE, api_key="k-0001")
    world.deploy()
    world.put(api_key="k-0001")
    world.bind(target={"adopt": True}, agents=[objects.agent()])
    raw = world.idle(version=1)
    time.sleep(3)
    assert len(world.replica_sets()) == 1
    assert not raw["status"].get("history")
    secret = world.get("Secret", "voice")
    assert secret is not None
    assert secret["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "voicekeys"


def test_adopting_another_value_restarts_the_agents_exactly_once(world: World) -> None:
    foreign(world, ADOPTABLE, api_key="the old value")
    world.deploy()
    world.put(api_key="k-0001")
    world.bind(target={"adopt": True}, agents=[objects.agent()])
    world.wait("the Secret adopted", lambda: world.data() == {"api_key": b"k-0001"})
    world.wait("a new template", world.trigger)
    raw = world.idle(version=1)
    time.sleep(3)
    assert len(world.replica_sets()) == 2
    assert len(raw["status"]["history"]) == 1


def test_adoption_without_the_label_says_which_one(world: World) -> None:
    foreign(world, api_key="theirs")
    world.put(api_key="k-0001")
    world.bind(target={"adopt": True})
    raw = world.until("Stalled", "True", "SecretForbidden")
    assert "voicekeys.dev/adopt=voice" in message_of(raw, "Stalled")
    assert world.data() == {"api_key": b"theirs"}


def test_of_two_bindings_of_one_secret_the_older_owns_it(world: World) -> None:
    world.put("first", api_key="first")
    world.put("second", api_key="second")
    world.bind("elder", "first", target={"secretName": "shared"})
    world.ready("elder")
    time.sleep(1.1)  # creation times have whole seconds
    world.bind("younger", "second", target={"secretName": "shared"})
    raw = world.until("Stalled", "True", "TargetConflict", name="younger")
    assert "elder" in message_of(raw, "Stalled")
    assert world.data("shared") == {"api_key": b"first"}
    assert is_true(world.binding("elder"), "Ready")
    world.delete(world.binding("elder"))
    world.ready("younger", seconds=15)
    assert world.data("shared") == {"api_key": b"second"}


def test_binary_values_come_as_base64_and_leave_as_bytes(world: World) -> None:
    raw = os.urandom(64)
    text = base64.b64encode(raw).decode()
    world.put(certificate=text, plain=text)
    world.bind(target={"data": {"cert.der": "certificate", "cert.b64": "plain"}, "base64Decode": ["cert.der"]})
    world.ready(version=1)
    assert world.data() == {"cert.der": raw, "cert.b64": text.encode()}


def refused(world: World, reason: str, bad: dict[str, Any], **target: Any) -> objects.Object:
    """Sync a good key, put a bad one, and hold that it is refused with the Secret and Ready's reason as said."""
    world.put(api_key="good-0001")
    world.bind(target=target)
    world.ready(version=1)
    good = world.data()
    world.change(**bad)
    raw = world.until("Stalled", "True", reason)
    assert condition_of(raw, "SecretSynced")["reason"] == reason  # type: ignore[index]
    assert world.data() == good
    world.change(api_key="good-0002")
    world.ready(version=3)
    return raw


def test_a_key_over_one_mebibyte_is_refused(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind()
    world.ready(version=1)
    # Vault takes up to 1 MiB a request by raft: two fields of half a MiB, one of which is used twice.
    half = "x" * (400 * 1024)
    world.change(api_key=half)
    world.ready(version=2)
    world.edit(target={"data": {"a": "api_key", "b": "api_key", "c": "api_key"}})
    raw = world.until("Stalled", "True", "SecretTooLarge")
    assert "1048576" in message_of(raw, "Stalled")
    assert set(world.data() or {}) == {"api_key"}
    world.edit(target={"data": None})
    world.ready()


def test_a_field_that_cannot_be_a_secret_key_is_refused(world: World) -> None:
    raw = refused(world, "InvalidSecretKey", {"api key": "bad-0001"})
    assert "'api key'" in message_of(raw, "Stalled")


def test_a_missing_field_is_refused(world: World) -> None:
    raw = refused(world, "FieldMissing", {"apikey": "bad-0001"}, data={"KEY": "api_key"})
    assert "no field api_key (it has: apikey)" in message_of(raw, "Stalled")


def test_an_empty_value_is_refused(world: World) -> None:
    raw = refused(world, "FieldEmpty", {"api_key": ""})
    assert "field api_key" in message_of(raw, "Stalled")


def test_a_value_that_is_not_base64_is_refused(world: World) -> None:
    world.put(api_key=base64.b64encode(b"good").decode())
    world.bind(target={"base64Decode": ["api_key"], "data": {"api_key": "api_key"}})
    world.ready(version=1)
    world.change(api_key="*** not base64 ***")
    raw = world.until("Stalled", "True", "InvalidBase64")
    assert "not base64 ***" not in str(raw["status"])
    assert world.data() == {"api_key": b"good"}


def test_a_key_without_fields_is_refused(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind()
    world.ready(version=1)
    world.vault("POST", "secret/data/{}/key", {"data": {}})
    world.notify()
    world.until("Stalled", "True", "KeyEmpty")
    assert world.data() == {"api_key": b"good-0001"}


def test_a_secret_of_another_type_is_not_touched(world: World) -> None:
    foreign(world, {**ADOPTABLE}, username="u", password="p")
    world.put(username="u-0001", password="p-0001")
    world.bind(target={"adopt": True, "type": "kubernetes.io/basic-auth"})
    raw = world.until("Stalled", "True", "SecretTypeDiffers")
    assert "Opaque" in message_of(raw, "Stalled")
    assert world.data() == {"username": b"u", "password": b"p"}


def test_a_bad_key_does_not_restart_agents_and_a_good_one_does(world: World) -> None:
    world.put(api_key="good-0001")
    world.bind(agents=[objects.agent()], target={"data": {"KEY": "api_key"}})
    world.deploy()
    world.idle(version=1)
    world.change(wrong="bad-0001")
    raw = world.until("Stalled", "True", "FieldMissing")
    assert is_true(raw, "AgentsCurrent")
    assert len(world.replica_sets()) == 1
    world.change(api_key="good-0002")
    world.idle(version=3)
    assert len(world.replica_sets()) == 2


def test_the_operators_own_secrets_are_no_target(world: World) -> None:
    world.put()
    world.bind(target={"secretName": "voicekeys-fingerprint-key"})
    raw = world.until("Stalled", "True", "SecretReserved")
    assert "spec.target.secretName" in message_of(raw, "Stalled")
    assert world.get("Secret", "voicekeys-fingerprint-key") is None


def test_a_secret_with_our_label_and_of_no_binding_is_not_taken_over(world: World) -> None:
    foreign(world, {"app.kubernetes.io/managed-by": "voicekeys"}, api_key="theirs")
    world.put()
    world.bind()
    world.until("Stalled", "True", "SecretExists")
    assert world.data() == {"api_key": b"theirs"}
