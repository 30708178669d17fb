"""When to try again, and how often to read: pure arithmetic on seconds, randomness passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

MIN_POLL_SECONDS = 5.0
MAX_POLL_SECONDS = 300.0


def poll_interval(paths: int, reads_per_second: float, fixed: float | None) -> float:
    """Seconds between two reads of one path.

    Args:
        paths: distinct sources of the store.
        reads_per_second: the store's read budget.
        fixed: the user's own interval in seconds; it wins.
    """
    if fixed is not None:
        return fixed
    return min(MAX_POLL_SECONDS, max(MIN_POLL_SECONDS, paths / reads_per_second))


def jittered(seconds: float, random: Random, spread: float = 0.1) -> float:
    """Seconds, moved by up to ``spread`` of themselves either way, so that equal intervals drift apart."""
    return seconds * random.uniform(1 - spread, 1 + spread)


def backoff(attempt: int, random: Random, *, base: float = 1.0, cap: float = 60.0) -> float:
    """Seconds before try number ``attempt`` (from 1): doubling from ``base``, capped, with equal jitter.

    Half of the time is fixed and half is random (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    ceiling = min(cap, base * 2.0 ** min(attempt - 1, 16))
    return ceiling / 2 + random.uniform(0, ceiling / 2)
