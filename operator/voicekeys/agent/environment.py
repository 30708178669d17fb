"""Numbers from the environment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from voicekeys.agent.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import Mapping


def number(environment: Mapping[str, str], name: str) -> float | None:
    """A number from the environment; None for a variable that is missing or empty.

    Args:
        environment: usually `os.environ`.
        name: of the variable.

    Raises:
        ServeError: for anything else.
    """
    text = environment.get(name, "")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        message = f"{name} is no number of seconds"
        raise ServeError(message)
    return value
