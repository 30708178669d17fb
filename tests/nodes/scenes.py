"""What scenes with live calls have in common: a call, a change of the key under it, and a good end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.nodes.lines import REFUSED, Lines

if TYPE_CHECKING:
    from collections.abc import Callable

    Scene = Callable[..., Lines]

HOLD = 6
"""So many seconds a call goes on after its pod was told to drain: more than the settle window."""


def change_with_a_call(lines: Lines) -> str:
    """Begin a call and change the key; return the call's pod, which drains."""
    pod = lines.pods[0]
    assert lines.begin(pod) != REFUSED
    lines.change()
    lines.draining(pod)
    return pod


def end_well(lines: Lines, pod: str) -> dict[str, Any]:
    """End the call after a while: nothing was cut, and the change comes to its end."""
    time.sleep(HOLD)
    assert lines.cut(pod) == [], "the program was told to end under a live call"
    lines.end(pod)
    entry = lines.finished()
    assert lines.cut(pod) == []
    assert "forced" not in entry, entry
    assert entry["unwitnessed"] == 0
    return entry
