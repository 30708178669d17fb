"""Who owns which field of a workload, as ``metadata.managedFields`` says it, and how to own less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from voicekeys.api.names import FIELD_MANAGER, TRIGGER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Object = dict[str, Any]

_WAY: Final = ("f:spec", "f:template", "f:metadata", "f:annotations")
"""Where the triggers are."""


def is_left(raw: Mapping[str, Any]) -> bool:
    """Whether we own more of a workload than its triggers: a crash came between arming it and giving that up."""
    return without_arming(raw["metadata"].get("managedFields") or ()) is not None


def without_arming(entries: Sequence[Mapping[str, Any]]) -> list[Object] | None:
    """Return ``managedFields`` in which we own the triggers alone; None where it is so already.

    Args:
        entries: of the workload as it was read.
    """
    kept: list[Object] = []
    for entry in entries:
        if entry.get("manager") != FIELD_MANAGER or entry.get("subresource"):
            kept.append(dict(entry))
        elif fields := _triggers(entry.get("fieldsV1") or {}):
            kept.append({**entry, "fieldsV1": fields})
    if kept == list(entries):
        return None
    return kept or [{}]  # an empty list would be taken for one that was left out


def _triggers(fields: Mapping[str, Any], way: Sequence[str] = _WAY) -> Object:
    """Return of a field set what is a trigger, with the steps that lead there; empty where there is none."""
    if not way:
        ours = {key: value for key, value in fields.items() if key.startswith(f"f:{TRIGGER_PREFIX}")}
    else:
        below = _triggers(fields.get(way[0]) or {}, way[1:])
        ours = {way[0]: below} if below else {}
    return ours | ({".": fields["."]} if ours and "." in fields else {})
