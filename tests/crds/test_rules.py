"""Each rule of the CRDs refuses its mutation, at the right field, in exactly its words, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.crds import binding_cases, store_cases
from tests.crds.objects import GONE, Object, at, base, binding, changed, store
from tests.crds.refusals import PATHS, Case, causes, create, refusal
from tests.crds.schemas import BINDINGS, STORES, Node, part, rules, schema_of
from tests.lab.http import ApiError

if TYPE_CHECKING:
    from tests.lab import Lab

_PLURALS = {"binding": BINDINGS, "store": STORES}
_CASES = [("binding", case) for case in binding_cases.CASES] + [("store", case) for case in store_cases.CASES]
_ACCEPTED = [("binding", *each) for each in binding_cases.ACCEPTED.items()] + [
    ("store", *each) for each in store_cases.ACCEPTED.items()
]

_TYPE_CHANGE = (
    "the type of a Secret cannot change: set target.secretName to a new name in the same edit, or keep the type"
)
_OWN_RULES = ("enum", "pattern", "minimum", "maximum", "minItems", "minLength", "minProperties")
"""Keywords that need a mutation of their own; ``maxLength`` and the like are tried all alike."""


def test_the_valid_objects_are_accepted(api: Lab) -> None:
    for made in (binding(), store(), store("jwt"), store("appRole"), store("token"), store(ca_config_map=True)):
        create(api, made)


@pytest.mark.parametrize(("kind", "case"), _CASES, ids=[f"{kind}: {case.why}" for kind, case in _CASES])
def test_a_mutation_is_refused_in_words_for_people(api: Lab, kind: str, case: Case) -> None:
    made = changed(base(f"{kind}:"), case.changes)
    expected = [(case.field, case.message)]
    assert refusal(api, made).causes == expected


@pytest.mark.parametrize(("kind", "why", "changes"), _ACCEPTED, ids=[f"{kind}: {why}" for kind, why, _ in _ACCEPTED])
def test_what_lies_just_inside_the_rules_is_accepted(api: Lab, kind: str, why: str, changes: dict[str, Any]) -> None:
    assert refusal(api, changed(base(f"{kind}:"), changes)).causes == [], why


def _hit(kind: str, place: Node, message: str | None = None) -> bool:
    """Whether a case is refused at ``place`` (with ``message``, if one is given)."""
    return any(
        each == kind
        and (place.covers(case.field) or not (place.path or case.field))
        and message in {None, case.message}
        for each, case in _CASES
    )


@pytest.mark.parametrize("kind", _PLURALS)
def test_every_cel_rule_has_a_mutation(kind: str) -> None:
    nodes = [Node("", schema_of(_PLURALS[kind])), *part(_PLURALS[kind], "spec")]
    everything = [(place.path, message) for node in nodes for place, message in rules(node)]
    bare = [
        (path, message)
        for path, message in everything
        if message != _TYPE_CHANGE and not _hit(kind, Node(path, {}), message)
    ]
    assert everything
    assert bare == []


@pytest.mark.parametrize("kind", _PLURALS)
def test_every_enum_pattern_and_bound_of_the_spec_has_a_mutation(kind: str) -> None:
    bounds = {
        "enum": "Unsupported value",
        "pattern": "should match",
        "minimum": "greater than or equal",
        "maximum": "less than or equal",
        "minItems": "at least",
        "minLength": "at least",
        "minProperties": "at least",
    }
    assert set(bounds) == set(_OWN_RULES)
    tried = {
        (case.field, word) for each, case in _CASES if each == kind for word in bounds.values() if word in case.message
    }
    bare = [
        (node.path, keyword)
        for node in part(_PLURALS[kind], "spec")
        for keyword, word in bounds.items()
        if keyword in node.schema and not any(node.covers(field) and word == said for field, said in tried)
    ]
    assert bare == []


def _places(keyword: str) -> list[str]:
    """Return ``kind:path`` of every place of both specs whose schema has ``keyword``."""
    return [
        f"{kind}:{node.path}"
        for kind, plural in _PLURALS.items()
        for node in part(plural, "spec")
        if keyword in node.schema and "{}" not in node.path
    ]


def _node(place: str) -> Node:
    """Return the node at ``kind:path``."""
    kind, _, path = place.partition(":")
    return next(node for node in part(_PLURALS[kind], "spec") if node.path == path)


@pytest.mark.parametrize("place", _places("maxLength"))
def test_one_character_too_many_is_refused(api: Lab, place: str) -> None:
    limit = _node(place).schema["maxLength"]
    field = place.partition(":")[2].replace("[]", "[0]")
    made = changed(base(place), {field: "1" * (limit + 1)})
    assert (field, f"Too long: may not be more than {limit} bytes") in refusal(api, made).causes


@pytest.mark.parametrize("place", _places("maxItems") + _places("maxProperties"))
def test_one_entry_too_many_is_refused(api: Lab, place: str) -> None:
    schema = _node(place).schema
    field = place.partition(":")[2].replace("[]", "[0]")
    limit = schema.get("maxItems") or schema["maxProperties"]
    names = [f"n{number}" for number in range(limit + 1)]
    many: Any = names
    if "additionalProperties" in schema:
        many = dict.fromkeys(names, "v")
    elif schema["items"]["type"] == "object":
        named = "name" if "name" in schema["items"]["properties"] else "key"
        many = [at(base(place), f"{field}[0]") | {named: name} for name in names]
    found = refusal(api, changed(base(place), {field: many})).causes
    assert (field, f"Too many: {limit + 1}: must have at most {limit} items") in found


_REQUIRED = [
    f"{kind}:{node.path}"
    for kind, plural in _PLURALS.items()
    for node in part(plural, "spec")
    if node.required and node.path != "spec"
]


@pytest.mark.parametrize("place", _REQUIRED)
def test_a_required_field_is_missed(api: Lab, place: str) -> None:
    field = place.partition(":")[2].replace("[]", "[0]")
    assert (field, "Required value") in refusal(api, changed(base(place), {field: GONE})).causes


@pytest.mark.parametrize("kind", _PLURALS)
def test_a_spec_is_required(api: Lab, kind: str) -> None:
    assert refusal(api, changed(base(f"{kind}:"), {"spec": GONE})).causes[0] == ("spec", "Required value")


@pytest.mark.parametrize("kind", _PLURALS)
def test_a_misspelt_field_is_named(api: Lab, kind: str) -> None:
    with pytest.raises(ApiError, match=r'unknown field "spec\.suspended"'):
        create(api, changed(base(f"{kind}:"), {"spec.suspended": True}))


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ({}, {"spec.target.type": "kubernetes.io/tls"}, True),
        ({}, {"spec.target.type": "kubernetes.io/tls", "spec.target.secretName": "other"}, False),
        ({}, {"spec.target.secretName": "other"}, False),
        (
            {"spec.target.secretName": GONE},
            {"spec.target.type": "kubernetes.io/tls", "spec.target.secretName": "typed"},
            True,
        ),
        ({"spec.target.secretName": "typed"}, {"spec.target.type": "t", "spec.target.secretName": GONE}, True),
    ],
    ids=["type alone", "type and name", "name alone", "the default name written out", "the default name left out"],
)
def test_a_secrets_type_stays_while_its_name_does(
    api: Lab, before: dict[str, Any], after: dict[str, Any], *, refused: bool
) -> None:
    path = f"{PATHS['VoiceKeyBinding']}/typed"
    first: Object = changed(binding(), {"metadata.name": "typed"} | before)
    created = api.api("POST", PATHS["VoiceKeyBinding"], first)
    second = changed(first, after | {"metadata.resourceVersion": created["metadata"]["resourceVersion"]})
    try:
        if refused:
            with pytest.raises(ApiError) as caught:
                api.api("PUT", path, second)
            assert causes(caught.value).causes == [("spec.target.type", _TYPE_CHANGE)]
        else:
            api.api("PUT", path, second)
    finally:
        api.api("DELETE", path)
