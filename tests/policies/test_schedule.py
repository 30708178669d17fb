"""When to read and when to try again: the bounds hold for every number and every die."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicekeys.policies.schedule import backoff, jittered, poll_interval

INTERVALS = {
    "a small installation notices in seconds": (3, 10, None, 5),
    "nothing to read": (0, 10, None, 5),
    "the budget decides": (1000, 10, None, 100),
    "five minutes at most": (10_000, 10, None, 300),
    "the user's own wins, also where it is slow": (3, 10, 600, 600),
}


@pytest.mark.parametrize(("paths", "budget", "fixed", "seconds"), INTERVALS.values(), ids=INTERVALS)
def test_poll_interval(paths: int, budget: float, fixed: float | None, seconds: float) -> None:
    assert poll_interval(paths, budget, fixed) == seconds


@given(paths=st.integers(0, 100_000), budget=st.integers(1, 1000))
def test_the_interval_is_bounded_and_keeps_the_budget_between_the_bounds(paths: int, budget: int) -> None:
    seconds = poll_interval(paths, budget, None)
    assert 5 <= seconds <= 300
    assert seconds == 300 or paths / seconds <= budget * (1 + 1e-9)
    assert poll_interval(paths + 1, budget, None) >= seconds


@given(seconds=st.floats(0.1, 1e6), seed=st.integers())
def test_jitter_moves_by_a_tenth_at_most(seconds: float, seed: int) -> None:
    assert 0.9 * seconds * (1 - 1e-9) <= jittered(seconds, Random(seed)) <= 1.1 * seconds * (1 + 1e-9)


def test_jitter_goes_both_ways() -> None:
    random = Random(1)
    moved = [jittered(100, random) for _ in range(200)]
    assert min(moved) < 92
    assert max(moved) > 108


@given(attempt=st.integers(1, 10**6), seed=st.integers(), base=st.floats(0.01, 10), cap=st.floats(10, 1000))
def test_backoff_stays_between_half_its_ceiling_and_its_ceiling(
    attempt: int, seed: int, base: float, cap: float
) -> None:
    ceiling = min(cap, base * 2 ** min(attempt - 1, 16))
    assert ceiling / 2 <= backoff(attempt, Random(seed), base=base, cap=cap) <= ceiling


def test_backoff_doubles_until_its_cap() -> None:
    class Highest(Random):
        def random(self) -> float:
            return 1.0

    assert [backoff(attempt, Highest()) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_many_that_fail_together_come_back_apart() -> None:
    random = Random(1)
    assert len({round(backoff(6, random), 3) for _ in range(100)}) > 90
