"""The status schema: what the operator's models write is accepted as it is; what they could not mean is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.api.samples import BINDING_STATUS, STORE_STATUS
from tests.crds.objects import binding, changed, store
from tests.crds.refusals import PATHS, causes
from tests.crds.schemas import BINDINGS, STORES, part
from tests.lab.http import ApiError
from voicekeys.api.status import (
    MAX_HISTORY,
    MAX_RESTARTS,
    BindingStatus,
    StoreStatus,
    dump_status,
    parse_binding_status,
    parse_store_status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

_KINDS = {"VoiceKeyBinding": BINDINGS, "VoiceKeyStore": STORES}


@pytest.fixture(scope="module")
def objects(api: Lab) -> Iterator[Lab]:
    """Make a binding and a store called ``reported`` in the lab."""
    made = [changed(each, {"metadata.name": "reported"}) for each in (binding(), store())]
    for each in made:
        api.api("POST", PATHS[each["kind"]], each)
    yield api
    for each in made:
        api.api("DELETE", f"{PATHS[each['kind']]}/reported")


def _apply(lab: Lab, kind: str, status: dict[str, Any]) -> Any:
    """Server-side apply ``status`` as the operator does, with strict field validation; return what the server has."""
    path = f"{PATHS[kind]}/reported/status?fieldManager=voicekeys&force=true&fieldValidation=Strict"
    body = {"apiVersion": "voicekeys.dev/v1alpha1", "kind": kind, "metadata": {"name": "reported"}, "status": status}
    return lab.api("PATCH", path, body, content_type="application/apply-patch+yaml")["status"]


@pytest.mark.parametrize("status", [BINDING_STATUS, BindingStatus(observed_generation=1), BindingStatus()])
def test_a_binding_status_is_applied_whole_and_read_back(objects: Lab, status: BindingStatus) -> None:
    dumped = dump_status(status)
    applied = _apply(objects, "VoiceKeyBinding", dumped)
    assert applied == dumped
    assert parse_binding_status(orjson.dumps(applied)) == status


@pytest.mark.parametrize("status", [STORE_STATUS, StoreStatus(observed_generation=1)])
def test_a_store_status_is_applied_whole_and_read_back(objects: Lab, status: StoreStatus) -> None:
    dumped = dump_status(status)
    applied = _apply(objects, "VoiceKeyStore", dumped)
    assert applied == dumped
    assert parse_store_status(orjson.dumps(applied)) == status


def test_the_same_status_again_writes_nothing(objects: Lab) -> None:
    _apply(objects, "VoiceKeyBinding", dump_status(BINDING_STATUS))
    path = f"{PATHS['VoiceKeyBinding']}/reported"
    before = objects.api("GET", path)["metadata"]["resourceVersion"]
    _apply(objects, "VoiceKeyBinding", dump_status(BINDING_STATUS))
    assert objects.api("GET", path)["metadata"]["resourceVersion"] == before


_ENUMS = {
    "status.conditions[0].status": "Maybe",
    "status.rotation.phase": "Thinking",
    "status.agents[0].kind": "Job",
    "status.history[0].outcome": "Fine",
}
_REASON = r"in body should match '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'"
_MUTATIONS = [
    *(("VoiceKeyBinding", field, value, "Unsupported value: ") for field, value in _ENUMS.items()),
    ("VoiceKeyStore", "status.conditions[0].status", "Maybe", "Unsupported value: "),
    *((kind, "status.conditions[0].reason", "two words", _REASON) for kind in _KINDS),
    ("VoiceKeyBinding", "status.agents[0].restarts", ["2026-01-01T00:00:00Z"] * (MAX_RESTARTS + 1), "Too many: 61"),
    (
        "VoiceKeyBinding",
        "status.history",
        [dump_status(BINDING_STATUS)["history"][0]] * (MAX_HISTORY + 1),
        "Too many: 6",
    ),
]


@pytest.mark.parametrize(("kind", "field", "value", "words"), _MUTATIONS, ids=[f"{m[0]} {m[1]}" for m in _MUTATIONS])
def test_a_status_that_no_operator_means_is_refused(
    objects: Lab, kind: str, field: str, value: Any, words: str
) -> None:
    good = dump_status(BINDING_STATUS if kind == "VoiceKeyBinding" else STORE_STATUS)
    with pytest.raises(ApiError) as caught:
        _apply(objects, kind, changed({"status": good}, {field: value})["status"])
    assert any(at == field and words in said for at, said in causes(caught.value).causes), caught.value


def _paths(value: Any, at: str) -> set[str]:
    """Return every place that ``value`` has, in the words of ``schemas.walk``."""
    if isinstance(value, dict):
        return {at}.union(*(_paths(child, f"{at}.{name}") for name, child in value.items()))
    if isinstance(value, list):
        return {at}.union(*(_paths(child, f"{at}[]") for child in value))
    return {at}


def test_the_samples_set_every_field_of_the_statuses() -> None:
    for plural, sample in ((BINDINGS, BINDING_STATUS), (STORES, STORE_STATUS)):
        assert _paths(dump_status(sample), "status") == {node.path for node in part(plural, "status")}


def test_every_enum_and_pattern_of_the_statuses_has_a_mutation() -> None:
    bare = [
        (kind, node.path)
        for kind, plural in _KINDS.items()
        for node in part(plural, "status")
        if {"enum", "pattern", "maxItems"} & set(node.schema)
        and not any(kind == each[0] and node.covers(each[1]) for each in _MUTATIONS)
    ]
    assert bare == []
