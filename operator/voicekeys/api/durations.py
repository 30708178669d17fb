"""Durations as people write them in our objects: ``90d``, ``36h``, ``30m``, ``45s`` and sums like ``1h30m``.

Not Go's durations: those know no days, and keys live for weeks. Units come at most once each, the largest first, so
that a duration reads the same to everyone.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile("".join(f"(?:(?P<{unit}>[0-9]{{1,6}}){unit})?" for unit in _UNITS))
_LONGEST: Final = timedelta(days=1_000_000)


def parse_duration(text: str) -> timedelta:
    """Return the length of time that ``text`` says.

    Raises ValueError, with a message for the person who wrote it, on anything but whole numbers (of 1 to 6 digits) with
    the units d, h, m, s, each at most once and the largest first.
    """
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        msg = f"{text!r} is not a duration: write whole numbers with d, h, m or s, the largest first, like 90d or 1h30m"
        raise ValueError(msg)
    return timedelta(seconds=sum(int(count or 0) * _UNITS[unit] for unit, count in found.groupdict().items()))


def format_duration(length: timedelta) -> str:
    """Return ``length`` in its shortest form (``1h30m``, never ``90m``), which ``parse_duration`` reads back.

    Raises ValueError on what the form cannot say: below zero, fractions of a second, a million days and more.
    """
    if length.microseconds or not timedelta() <= length < _LONGEST:
        msg = f"{length} is no duration of whole seconds from 0s to 999999d"
        raise ValueError(msg)
    seconds = length.days * _UNITS["d"] + length.seconds
    parts = []
    for unit, size in _UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
