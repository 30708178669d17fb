"""How numbers and moments are written in what people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


NAMED = 3
"""As many pods are named in a message; the others are in ``status.agents``."""


def listed(names: Sequence[str]) -> str:
    """The first few names, and whether there are more."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there is more than one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def do(number: int, verb: str) -> str:
    """A verb in the present tense, for one or for many."""
    if number != 1:
        return verb
    return {"have": "has", "finish": "finishes"}.get(verb, f"{verb}s")


def clock_time(moment: datetime) -> str:
    """A moment of the day, in UTC."""
    return f"{moment:%H:%M:%S} UTC"
