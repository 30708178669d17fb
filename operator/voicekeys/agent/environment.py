"""Numbers from the environment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, overload

from voicekeys.agent.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import Mapping


@overload
def number(environment: Mapping[str, str], name: str, default: float) -> float: ...
@overload
def number(environment: Mapping[str, str], name: str, default: None) -> float | None: ...
def number(environment: Mapping[str, str], name: str, default: float | None) -> float | None:
    """A number from the environment.

    Args:
        environment: usually `os.environ`.
        name: of the variable.
        default: for one that is missing or empty.

    Raises:
        ServeError: for anything else.
    """
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        message = f"{name} is no number of seconds"
        raise ServeError(message)
    return value
