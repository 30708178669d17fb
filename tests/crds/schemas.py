"""Reads ``crds/`` and walks its schemas: what tests and the reference generator share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

CRDS: Final = Path(__file__).parents[2] / "crds"
BINDINGS: Final = "voicekeybindings"
STORES: Final = "voicekeystores"

Schema = dict[str, Any]


def load(plural: str) -> dict[str, Any]:
    """Return the CustomResourceDefinition of ``plural`` as it stands in ``crds/``."""
    found: dict[str, Any] = yaml.safe_load((CRDS / f"voicekeys.dev_{plural}.yaml").read_text(encoding="utf-8"))
    return found


def schema_of(plural: str) -> Schema:
    """Return the openAPIV3Schema of the only version of ``plural``."""
    (version,) = load(plural)["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


@dataclass(frozen=True)
class Node:
    """A place in a schema; in ``path`` (``spec.agents[].drain.port``) ``[]`` is a list's item, ``{}`` a map's value."""

    path: str
    schema: Schema
    required: bool = False

    def covers(self, field: str) -> bool:
        """Whether ``field``, as the API server names it (``spec.agents[0].name``), is this place."""
        pattern = re.escape(self.path).replace(r"\[\]", r"\[\d+\]").replace(r"\{\}", r"\.[^.]+")
        return re.fullmatch(pattern, field) is not None


def walk(schema: Schema, path: str = "", *, required: bool = False) -> Iterator[Node]:
    """Yield every place below ``schema``, depth first, itself included."""
    yield Node(path, schema, required)
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}" if path else name, required=name in schema.get("required", ()))
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], path + "{}")


def part(plural: str, top: str) -> Iterator[Node]:
    """Yield every place of ``spec`` or ``status`` (``top``) of ``plural``."""
    yield from walk(schema_of(plural)["properties"][top], top)


def rules(node: Node) -> list[tuple[Node, str]]:
    """Return the place that each CEL rule of ``node`` points at, with its message."""
    return [
        (Node(node.path + rule.get("fieldPath", ""), {}), rule["message"])
        for rule in node.schema.get("x-kubernetes-validations", ())
    ]
