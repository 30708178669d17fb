"""What a policy answers: nothing, when all is well, or one reason and one message."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """A policy's finding, ready to become a condition.

    Args:
        reason: one CamelCase word, named for the fault.
        message: what is wrong and which field to change; never a key's value.
    """

    reason: str
    message: str
