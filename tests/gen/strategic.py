"""A strategic merge patch, as far as pod templates need it: what ``kubectl patch`` has the API server do."""

from __future__ import annotations

import copy
from typing import Any

_BY_NAME = frozenset({"containers", "initContainers", "env"})
"""Lists whose items are merged by name (``patchMergeKey`` in core/v1); every other one is replaced."""


def apply(obj: Any, patch: Any) -> Any:
    """Return an object after a strategic merge patch; null takes a field off, a new item comes last in its list."""
    if not (isinstance(obj, dict) and isinstance(patch, dict)):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(obj)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key in _BY_NAME:
            changes = {one["name"]: one for one in value}
            there = merged.get(key) or []
            kept = [apply(one, changes.get(one["name"], {})) for one in there]
            merged[key] = kept + [one for one in value if all(one["name"] != other["name"] for other in there)]
        else:
            merged[key] = apply(merged.get(key), value)
    return merged
