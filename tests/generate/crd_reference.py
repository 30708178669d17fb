"""Writes ``crds/REFERENCE.md`` from the schemas, and ``operator/CONDITIONS.md`` from the table of conditions."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from tests.crds.schemas import BINDINGS, STORES, load, schema_of, walk
from voicekeys.api.conditions import BINDING_CONDITIONS, STORE_CONDITIONS, ConditionDoc, Polarity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.crds.schemas import Node, Schema

REFERENCE_PAGE = "crds/REFERENCE.md"
CONDITIONS_PAGE = "operator/CONDITIONS.md"
_WIDTH = 120

_REFERENCE_HEAD = """\
# The API, field by field

Generated from the schemas in this folder by `hatch run generate`. `kubectl explain vkb.spec` and `kubectl explain
vks.spec` show the same in a terminal. Condition types are in [CONDITIONS.md](../operator/CONDITIONS.md).

A field in **bold** is required. `[]` is an item of a list, `{}` a value of a map. A duration is written in whole
numbers with d, h, m and s, the largest first: `90d`, `36h`, `1h30m`, `45s`.
"""

_CONDITIONS_HEAD = """\
# Conditions

Generated from `operator/voicekeys/api/conditions.py` by `hatch run generate`.

A *normal-true* condition is good when True and is there on every reconciled object. An *abnormal-true* one is worth a
look when True and left out while there is nothing to say. Ready, Reconciling and Stalled are those of kstatus, which
Flux and other tools read: Ready is never True beside a True Reconciling or Stalled. A condition that does not feed
Ready never makes an object un-ready, so that a key that cannot be read just now, or calls that take their time to
finish, fail no deployment. Every message says what to do next.
"""


def render() -> dict[str, str]:
    """Return the text of both pages by path below the repository's root."""
    reference = "\n".join([_REFERENCE_HEAD, *_kind(BINDINGS), *_kind(STORES)])
    conditions = "\n".join(
        [
            _CONDITIONS_HEAD,
            *_conditions("VoiceKeyBinding", BINDING_CONDITIONS),
            *_conditions("VoiceKeyStore", STORE_CONDITIONS),
        ]
    )
    return {REFERENCE_PAGE: reference, CONDITIONS_PAGE: conditions}


def _kind(plural: str) -> Iterator[str]:
    """Yield the lines on one kind."""
    spec = load(plural)["spec"]
    names, (version,) = spec["names"], spec["versions"]
    schema = schema_of(plural)
    scope = "in a namespace" if spec["scope"] == "Namespaced" else "in the whole cluster"
    yield f"## {names['kind']}"
    yield ""
    yield f"`{spec['group']}/{version['name']}`, {scope}, `kubectl get {names['shortNames'][0]}`."
    yield ""
    for paragraph in schema["description"].split("\n\n"):
        yield textwrap.fill(paragraph, _WIDTH)
        yield ""
    yield from _rules([schema])
    yield "| column of `kubectl get` | shows |"
    yield "|---|---|"
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        shows = f"{_cell(column.get('description', ''))} `{_cell(column['jsonPath'])}`".strip()
        yield f"| {column['name']}{wide} | {shows} |"
    yield ""
    for top in ("spec", "status"):
        yield f"### {names['kind']}: {top}"
        yield ""
        yield from _fields(schema["properties"][top], top)


def _fields(schema: Schema, top: str) -> Iterator[str]:
    """Yield the table of all fields of ``spec`` or ``status``."""
    yield textwrap.fill(schema["description"], _WIDTH)
    yield ""
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for node in walk(schema, top):
        if node.path != top and not node.path.endswith(("[]", "{}")):
            yield f"| {_name(node, top)} | {_type(node.schema)} | {_meaning(node.schema)} |"
    yield ""


def _name(node: Node, top: str) -> str:
    """Return a field's path below ``top``, bold where it is required."""
    name = f"`{node.path.removeprefix(f'{top}.')}`"
    return f"**{name}**" if node.required else name


def _type(schema: Schema) -> str:
    """Return what a field holds, in the words of a person."""
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}s"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}s"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    return "time" if schema.get("format") == "date-time" else str(schema["type"])


def _meaning(schema: Schema) -> str:
    """Return a field's documentation with its default, limits and rules."""
    parts = [_cell(schema["description"])]
    if schema.get("default") not in (None, {}):
        parts.append(f"Default: `{json.dumps(schema['default'])}`.")
    parts += _limits(schema)
    parts += [f"{why}: *{_cell(message)}.*" for why, message in _messages(_own_and_items(schema))]
    return "<br>".join(parts)


def _limits(schema: Schema) -> list[str]:
    """Return a field's bounds, at most one sentence."""
    items, item = schema.get("maxItems", schema.get("maxProperties")), schema.get("items", {})
    said = []
    if "minimum" in schema or "maximum" in schema:
        said.append(_between(schema.get("minimum"), schema.get("maximum"), ""))
    if schema.get("minItems") or items:
        said.append(_between(schema.get("minItems"), items, " entries"))
    if schema.get("minLength") or schema.get("maxLength"):
        said.append(_between(schema.get("minLength"), schema.get("maxLength"), " characters"))
    if item.get("maxLength"):
        said.append(f"each at most {item['maxLength']} characters")
    if keys := schema.get("x-kubernetes-list-map-keys"):
        said.append(f"unique by {' and '.join(keys)}")
    return [f"Limits: {', '.join(said)}."] if said else []


def _between(least: Any, most: Any, unit: str) -> str:
    """Return bounds in words; either may be missing."""
    if least is None:
        return f"at most {most}{unit}"
    if most is None:
        return f"at least {least}{unit}"
    return f"{least} to {most}{unit}"


def _own_and_items(schema: Schema) -> list[Schema]:
    """Return the schemas whose rules belong in a field's row: its own and that of its items or values.

    Items that are objects carry their rules too: they have no row of their own.
    """
    return [schema, *(schema[part] for part in ("items", "additionalProperties") if part in schema)]


def _messages(schemas: Iterable[Schema]) -> Iterator[tuple[str, str]]:
    """Yield each CEL rule's place (``Refused`` or ``Refused at .x``) and message."""
    for schema in schemas:
        for rule in schema.get("x-kubernetes-validations", ()):
            at = rule.get("fieldPath")
            yield (f"Refused at `{at}`" if at else "Refused"), rule["message"]


def _rules(schemas: Iterable[Schema]) -> Iterator[str]:
    """Yield the rules of a whole object as a list."""
    said = list(_messages(schemas))
    yield from (f"- {why}: *{message}.*" for why, message in said)
    if said:
        yield ""


def _conditions(kind: str, rows: Iterable[ConditionDoc]) -> Iterator[str]:
    """Yield the table of one kind's conditions."""
    yield f"## {kind}"
    yield ""
    yield "| condition | polarity | feeds Ready | set by | True means |"
    yield "|---|---|---|---|---|"
    for row in rows:
        good = "normal-true" if row.polarity is Polarity.NORMAL_TRUE else "abnormal-true"
        feeds = "yes" if row.feeds_ready else "no"
        yield f"| `{row.type}` | {good} | {feeds} | `{row.owner}` | {_cell(row.meaning)} |"
    yield ""


def _cell(text: str) -> str:
    """Return ``text`` fit for a cell of a Markdown table: one line, nothing that Markdown would take for its own."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
