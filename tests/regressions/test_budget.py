"""The restart budget is the workload's: whichever binding restarted it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.regressions.small import Small

if TYPE_CHECKING:
    from collections.abc import Iterator

TWO_AN_HOUR = {"maxRestartsPerHour": 2}
APART = 120  # seconds: no two of these changes make one restart


@pytest.fixture
def small() -> Iterator[Small]:
    """One agent with two bindings, each with a key of its own."""
    with Small() as made:
        made.put("one", path="voice/c")
        made.deploy("b", "c", replicas=0)
        made.bind("b", rollout=TWO_AN_HOUR)
        made.bind("c", source={"path": "voice/c"}, rollout=TWO_AN_HOUR)
        made.pass_by(5)
        yield made


def change(small: Small, path: str) -> None:
    """Put a key, and let the rollout that it makes come to its end."""
    small.put(f"{len(small.patches) + 2}", path=path)
    small.pass_by(APART / 2)
    small.controller(updated=0, available=0)
    small.pass_by(APART / 2)


def test_restarts_of_another_binding_are_counted(small: Small) -> None:
    for path in ("voice/a", "voice/c"):
        change(small, path)
    assert len(small.patches) == 2
    assert small.outcomes("b") == small.outcomes("c") == ["Completed"]
    change(small, "voice/a")
    assert small.reason("Stalled", "b") == "RestartBudgetSpent"
    assert "was restarted 2 times within an hour" in small.message("Stalled", "b")
    assert len(small.patches) == 2
    assert small.secret("b") == "4", "the Secret always syncs"
    assert not small.is_true("Stalled", "c")
    small.pass_by(3600, 10)
    assert len(small.patches) == 3, "it goes on by itself"
    small.controller(updated=0, available=0)
    small.pass_by(60)
    assert small.is_true("Ready", "b")
