"""How numbers and moments are written in what people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


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
