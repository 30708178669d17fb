"""The models and the CRDs say the same: fields, types, enums, what is required, defaults, patterns, numeric bounds.

Not compared: lengths of texts and lists (limits for people and for CEL, which the API server holds) and CEL rules (a
model never meets an object that broke one).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Le
from pydantic import AwareDatetime, TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from tests.crds.schemas import BINDINGS, STORES, Schema, schema_of
from voicekeys.api.binding import BindingSpec
from voicekeys.api.durations import format_duration
from voicekeys.api.status import BindingStatus, StoreStatus
from voicekeys.api.store import StoreSpec

_PAIRS = [
    (BindingSpec, BINDINGS, "spec"),
    (BindingStatus, BINDINGS, "status"),
    (StoreSpec, STORES, "spec"),
    (StoreStatus, STORES, "status"),
]
_SCALARS = {str: {"type": "string"}, int: {"type": "integer"}, bool: {"type": "boolean"}}
_KEPT = ("type", "enum", "pattern", "minimum", "maximum")
Facts = dict[str, Any]


def _of_model(model: Any, at: str) -> dict[str, Facts]:
    """Return the facts of every place below a model, by path."""
    found: dict[str, Facts] = {at: {"type": "object"}}
    hints = typing.get_type_hints(model, include_extras=True)
    for field in dataclasses.fields(model):
        path = f"{at}.{to_camel(field.name)}"
        default = None if field.default is dataclasses.MISSING else field.default
        required = field.default is dataclasses.MISSING
        below = _of_type(hints[field.name], path)
        below[path] |= {"required": required} | ({} if default in (None, ()) else {"default": _written(default)})
        found |= below
    return found


def _of_type(hint: Any, at: str) -> dict[str, Facts]:
    """Return the facts of a field's type, and of everything below it, by path."""
    extras: list[Any] = []
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = [each for each in typing.get_args(hint) if each is not type(None)]
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _of_model(hint, at)
    if typing.get_origin(hint) is tuple:
        return {at: {"type": "array"}} | _of_type(typing.get_args(hint)[0], at + "[]")
    if typing.get_origin(hint) is Mapping:
        return {at: {"type": "object"}} | _of_type(typing.get_args(hint)[1], at + "{}")
    return {at: _scalar(hint) | _constraints(extras)}


def _scalar(hint: Any) -> Facts:
    """Return the facts of a type without parts."""
    if hint is timedelta:
        return {"type": "string"}
    if hint in {datetime, AwareDatetime}:
        return {"type": "string", "format": "date-time"}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "string", "enum": sorted(hint)}
    return dict(_SCALARS[hint])


def _constraints(extras: list[Any]) -> Facts:
    """Return the bounds and the pattern that ``Field(…)`` put on a type."""
    found: Facts = {}
    for each in (item for extra in extras if isinstance(extra, FieldInfo) for item in extra.metadata):
        if isinstance(each, Ge):
            found["minimum"] = each.ge
        elif isinstance(each, Le):
            found["maximum"] = each.le
        elif pattern := getattr(each, "pattern", None):
            found["pattern"] = pattern
    return found


def _written(default: Any) -> Any:
    """Return a default as YAML has it, with the defaults inside it."""
    if isinstance(default, timedelta):
        return format_duration(default)
    if dataclasses.is_dataclass(default):
        dumped = TypeAdapter(type(default)).dump_python(default, mode="json", by_alias=True, exclude_none=True)
        return {name: value for name, value in dumped.items() if value != []}
    return default


def _of_schema(schema: Schema, at: str) -> dict[str, Facts]:
    """Return the facts of every place below a schema, by path."""
    facts = {keyword: schema[keyword] for keyword in _KEPT if keyword in schema}
    if schema.get("format") == "date-time":
        facts["format"] = "date-time"
    if "enum" in facts:
        facts["enum"] = sorted(facts["enum"])
    found: dict[str, Facts] = {at: facts}
    for name, child in schema.get("properties", {}).items():
        path = f"{at}.{name}"
        below = _of_schema(child, path)
        default = {"default": _filled(child)} if "default" in child else {}
        below[path] |= {"required": name in schema.get("required", ())} | default
        found |= below
    if "items" in schema:
        found |= _of_schema(schema["items"], at + "[]")
    if "additionalProperties" in schema:
        found |= _of_schema(schema["additionalProperties"], at + "{}")
    return found


def _filled(schema: Schema) -> Any:
    """Return a schema's default as the API server leaves it: with the defaults of what is below."""
    default = schema["default"]
    if not isinstance(default, dict):
        return default
    below = {name: _filled(child) for name, child in schema["properties"].items() if "default" in child}
    return below | default


def _differences(model: dict[str, Facts], crd: dict[str, Facts]) -> list[str]:
    """Return where the two do not say the same, one line each."""
    return [
        f"{path}: model {model.get(path)}, CRD {crd.get(path)}"
        for path in sorted(model.keys() | crd.keys())
        if model.get(path) != crd.get(path)
    ]


@pytest.mark.parametrize(("model", "plural", "top"), _PAIRS, ids=[pair[0].__name__ for pair in _PAIRS])
def test_the_model_and_the_crd_say_the_same(model: Any, plural: str, top: str) -> None:
    of_crd = _of_schema(schema_of(plural)["properties"][top], top)
    of_model = _of_model(model, top)
    if top == "status":
        # The default of a status as a whole says what the model's default for this field says.
        of_model[f"{top}.observedGeneration"].pop("default")
        assert schema_of(plural)["properties"][top]["default"] == {"observedGeneration": model().observed_generation}
    assert _differences(of_model, of_crd) == []


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("spec.suspend", {"default": True}),
        ("spec.source.path", {"required": False}),
        ("spec.agents[].kind", {"enum": ["Deployment"]}),
        ("spec.source.version", {"minimum": 0}),
        ("spec.target.data{}", {"type": "integer"}),
        ("spec.rollout", {"default": {}}),
        ("spec.rollout.timeout", {"default": "11m"}),
    ],
)
def test_the_comparison_sees_each_kind_of_difference(path: str, change: Facts) -> None:
    of_crd = _of_schema(schema_of(BINDINGS)["properties"]["spec"], "spec")
    assert path in of_crd
    of_crd[path] = of_crd[path] | change
    (found,) = _differences(_of_model(BindingSpec, "spec"), of_crd)
    assert found.startswith(f"{path}: ")


def test_the_comparison_sees_a_field_that_one_side_lacks() -> None:
    of_crd = _of_schema(schema_of(BINDINGS)["properties"]["spec"], "spec")
    of_model = _of_model(BindingSpec, "spec")
    del of_crd["spec.rollout.timeout"]
    del of_model["spec.target.adopt"]
    assert [line.partition(":")[0] for line in _differences(of_model, of_crd)] == [
        "spec.rollout.timeout",
        "spec.target.adopt",
    ]
