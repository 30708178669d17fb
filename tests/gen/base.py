"""How objects are built: a valid one, and modifiers that each change one thing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Object = dict[str, Any]
Modifier = Callable[[Object], None]

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def build(base: Object, *modifiers: Modifier) -> Object:
    """Return a copy of ``base`` with every modifier applied in turn."""
    made = copy.deepcopy(base)
    for modify in modifiers:
        modify(made)
    return made


def put(path: str, value: Any) -> Modifier:
    """Set the field at a dotted path (``spec.strategy.type``), making the objects on the way."""

    def modify(obj: Object) -> None:
        *way, last = path.split(".")
        for step in way:
            obj = obj.setdefault(step, {})
        obj[last] = value

    return modify


def drop(path: str) -> Modifier:
    """Remove the field at a dotted path."""

    def modify(obj: Object) -> None:
        *way, last = path.split(".")
        for step in way:
            obj = obj[step]
        del obj[last]

    return modify


def at(seconds: float) -> datetime:
    """`NOW` and some seconds."""
    return NOW + timedelta(seconds=seconds)


def text(moment: datetime) -> str:
    """RFC 3339 as the API server writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
