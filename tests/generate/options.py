"""Writes ``operator/docs/options.md`` from the fields of the operator's settings."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from voicekeys.settings import Settings

if TYPE_CHECKING:
    from annotated_types import BaseMetadata
    from pydantic.fields import FieldInfo

PAGE = "operator/docs/options.md"

_HEAD = """\
# Options

Generated from `operator/voicekeys/settings.py` by `hatch run generate`.

The operator is set up by environment variables alone: `env` of the container in
`deploy/base/operator/deployment.yaml`, by a patch in your overlay. The defaults are right for an installation of the
whole cluster. What concerns Vault is in the [VoiceKeyStore](../../crds/REFERENCE.md#voicekeystore), what concerns one
key in the [VoiceKeyBinding](../../crds/REFERENCE.md#voicekeybinding). A wrong value ends the start with exit code 2 and
a line that names the variable.

| variable | type | default | meaning |
|---|---|---|---|
"""
_WORDS = {str: "text", bool: "`true` or `false`", int: "whole number", float: "number", Path: "folder"}
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def render() -> dict[str, str]:
    """Give the generated file's text by its path below the repository's root."""
    prefix = Settings.model_config["env_prefix"]
    rows = (_row(f"{prefix}{name.upper()}", field) for name, field in Settings.model_fields.items())
    return {PAGE: _HEAD + "".join(rows)}


def _row(variable: str, field: FieldInfo) -> str:
    said = [_type(field.annotation), *(_bound(each) for each in field.metadata)]
    kind = ", ".join(each for each in said if each)
    return f"| `{variable}` | {kind} | {_default(field.default)} | {field.description} |\n"


def _type(annotation: Any) -> str:
    """Return a field's type in a person's words; raises KeyError for one that has none yet."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in inner)
    if origin in {Union, types.UnionType}:
        return " or ".join(_type(each) for each in inner if each is not type(None))
    if origin is tuple:
        return "list, separated by commas"
    return _WORDS[annotation]


def _bound(metadata: BaseMetadata) -> str:
    """Return a limit such as `at least 0`, empty for metadata that is none."""
    found = (text.format(f"{getattr(metadata, name):g}") for name, text in _BOUNDS.items() if hasattr(metadata, name))
    return ", ".join(found)


def _default(value: object) -> str:
    if value is None or value in ("", ()):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
