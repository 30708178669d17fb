"""What a person sees of our kinds with kubectl: columns, short names, categories, defaults, explain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.crds.objects import Object, binding, changed, store
from tests.crds.refusals import PATHS, create
from tests.crds.schemas import BINDINGS, CRDS, STORES, part, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

_LONG_AGO = "2020-01-02T03:04:05Z"


@pytest.fixture
def both(api: Lab) -> Iterator[tuple[Object, Object]]:
    """One object of each kind, with a status as the operator writes it."""
    objects = changed(binding(), {"metadata.name": "shown"}), changed(store(), {"metadata.name": "shown"})
    for made, status in zip(objects, (_BINDING_STATUS, _STORE_STATUS), strict=True):
        path = PATHS[made["kind"]]
        api.api("POST", path, made)
        api.api("PATCH", f"{path}/shown/status", {"status": status})
    yield objects
    for made in objects:
        api.api("DELETE", f"{PATHS[made['kind']]}/shown")


def _ready(reason: str, message: str) -> dict[str, Any]:
    """Return a Ready condition."""
    return {
        "type": "Ready",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": _LONG_AGO,
        "observedGeneration": 1,
    }


_BINDING_STATUS = {
    "observedGeneration": 1,
    "conditions": [_ready("Current", "the key is everywhere")],
    "key": {"version": 7, "createdTime": _LONG_AGO, "fingerprint": "f"},
    "secret": {"name": "frejun-api-key", "digest": "d"},
    "rotation": {
        "id": "r",
        "phase": "Draining",
        "fromVersion": 6,
        "toVersion": 7,
        "startedTime": _LONG_AGO,
        "podsOnOldKey": 2,
    },
}
_STORE_STATUS = {
    "observedGeneration": 1,
    "conditions": [_ready("Answering", "Vault answers"), _ready("Answering", "Vault answers") | {"type": "Reachable"}],
    "bindings": 12,
    "lastError": "none yet",
}


def _table(text: str) -> list[list[str]]:
    """Split kubectl's table into its cells, which stand at least two spaces apart."""
    return [re.split(r" {2,}", line.strip()) for line in text.strip().splitlines()]


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("name", ["vkb", "voicekeybinding", "voicekeybindings"])
def test_bindings_are_listed_with_what_people_ask_for(api: Lab, name: str) -> None:
    head, row = _table(api.kubectl("get", name, "shown"))
    assert head == ["NAME", "READY", "PHASE", "VERSION", "CREATED", "OLD PODS", "REASON", "AGE"]
    assert row[:4] == ["shown", "True", "Draining", "7"]
    assert re.fullmatch(r"\d+y\w*", row[4]), "the key was created years ago"
    assert row[5:7] == ["2", "Current"]


@pytest.mark.usefixtures("both")
def test_wide_bindings_show_environment_secret_and_message(api: Lab) -> None:
    head, row = _table(api.kubectl("get", "vkb", "shown", "-o", "wide"))
    assert head[-3:] == ["ENVIRONMENT", "SECRET", "MESSAGE"]
    assert row[-3:] == ["production", "frejun-api-key", "the key is everywhere"]


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("name", ["vks", "voicekeystore", "voicekeystores"])
def test_stores_are_listed_with_what_people_ask_for(api: Lab, name: str) -> None:
    head, row = _table(api.kubectl("get", name, "shown"))
    assert head == ["NAME", "READY", "REACHABLE", "BINDINGS", "ADDRESS", "AGE"]
    assert row[:5] == ["shown", "True", "True", "12", "https://vault.example.com:8200"]


@pytest.mark.usefixtures("both")
def test_wide_stores_show_reason_and_last_error(api: Lab) -> None:
    head, row = _table(api.kubectl("get", "vks", "shown", "-o", "wide"))
    assert head[-2:] == ["REASON", "LAST ERROR"]
    assert row[-2:] == ["Answering", "none yet"]


@pytest.mark.usefixtures("both")
def test_the_category_lists_both_kinds(api: Lab) -> None:
    listed = api.kubectl("get", "voicekeys", "-o", "name").split()
    assert {"voicekeybinding.voicekeys.dev/shown", "voicekeystore.voicekeys.dev/shown"} <= set(listed)


def test_a_binding_of_three_lines_gets_its_defaults(api: Lab) -> None:
    made = changed(binding(), {"spec": {"environment": "staging", "source": {"path": "voice/frejun"}}})
    created = create(api, made)
    assert created["spec"] == {
        "suspend": False,
        "environment": "staging",
        "source": {
            "storeRef": {"name": "default"},
            "path": "voice/frejun",
            "serviceAccountName": "voicekeys-reader",
        },
        "target": {"type": "Opaque", "adopt": False, "deletionPolicy": "Retain"},
        "rollout": {"timeout": "10m", "propagation": "5s", "maxRestartsPerHour": 6},
        "rotation": {},
    }


@pytest.mark.parametrize(
    ("auth", "full"),
    [
        ({"kubernetes": {"role": "r"}}, {"mountPath": "kubernetes", "role": "r", "audience": "vault"}),
        ({"jwt": {"role": "r"}}, {"mountPath": "jwt", "role": "r", "audience": "vault"}),
        (
            {"appRole": {"roleId": "r", "secretRef": {"name": "s"}}},
            {"mountPath": "approle", "roleId": "r", "secretRef": {"name": "s", "key": "secret-id"}},
        ),
        ({"token": {"secretRef": {"name": "s"}}}, {"secretRef": {"name": "s", "key": "token"}}),
    ],
    ids=["kubernetes", "jwt", "appRole", "token"],
)
def test_a_short_store_gets_its_defaults(api: Lab, auth: dict[str, Any], full: dict[str, Any]) -> None:
    rule = {"name": "all", "namespaceSelector": {}, "pathPrefixes": ["voice"], "environment": "staging"}
    spec = {
        "vault": {"address": "https://vault", "caConfigMapRef": {"name": "ca"}},
        "auth": auth,
        "rules": [rule],
    }
    created = create(api, changed(store(), {"spec": spec}))
    (method,) = auth
    assert created["spec"] == {
        "suspend": False,
        "vault": {
            "address": "https://vault",
            "mount": "secret",
            "caConfigMapRef": {"name": "ca", "key": "ca.crt"},
            "insecure": False,
            "timeout": "10s",
        },
        "auth": {method: full},
        "poll": {"readsPerSecond": 10},
        "rules": [rule],
    }


def test_an_object_that_no_operator_saw_is_not_current_for_kstatus(api: Lab) -> None:
    for made in (binding(), store()):
        assert create(api, made)["status"] == {"observedGeneration": -1}


def test_nothing_inside_a_list_has_a_default() -> None:
    for plural in (BINDINGS, STORES):
        assert [node.path for node in part(plural, "spec") if "[]" in node.path and "default" in node.schema] == []


def test_both_are_installed_by_one_kustomization(api: Lab) -> None:
    shown = api.kubectl("kustomize", CRDS)
    assert {f"name: {plural}.voicekeys.dev" for plural in (BINDINGS, STORES)} <= {
        line.strip() for line in shown.splitlines()
    }


def test_every_field_is_documented() -> None:
    for plural in (BINDINGS, STORES):
        bare = [
            node.path
            for top in ("spec", "status")
            for node in part(plural, top)
            if not node.path.endswith(("[]", "{}")) and not node.schema.get("description")
        ]
        assert bare == []
        assert schema_of(plural)["description"]


@pytest.mark.parametrize(
    ("field", "lesson"),
    [
        ("vkb", "without cutting a call"),
        ("vkb.spec.agents.drain", "terminationGracePeriodSeconds"),
        ("vkb.spec.agents.drain.mode", "Signal: the agent drains itself on SIGTERM"),
        ("vkb.spec.target.data", "{FREJUN_API_KEY: api_key}"),
        ("vkb.spec.rollout.timeout", "the previous key back"),
        ("vks.spec.rules.pathPrefixes", "matched by whole segments"),
        ("vks.spec.auth", "keeps tenants apart"),
        ("vks.spec.vault.caBundle", "no switch that turns verification off"),
    ],
)
def test_explain_teaches(api: Lab, field: str, lesson: str) -> None:
    assert lesson in " ".join(api.kubectl("explain", field).split())
