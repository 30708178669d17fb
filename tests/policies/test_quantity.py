"""Kubernetes quantities and int-or-percent fields as numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicekeys.policies.quantity import parse_quantity, scaled

QUANTITIES = {
    "0": 0, "1": 1, "1.5": "1.5", ".5": "0.5", "-2": -2, "+2": 2, "500m": "0.5", "100u": "0.0001", "7n": "7e-9",
    "2k": 2000, "3M": 3_000_000, "1G": 10**9, "1T": 10**12, "1P": 10**15, "1E": 10**18,
    "1Ki": 1024, "1.5Mi": 1_572_864, "2Gi": 2**31, "1Ti": 2**40, "1Pi": 2**50, "1Ei": 2**60,
    "1e3": 1000, "1E3": 1000, "12e-3": "0.012", "1e3Ki": 1_024_000,
}  # fmt: skip


@pytest.mark.parametrize(("text", "number"), QUANTITIES.items())
def test_a_quantity(text: str, number: float | str) -> None:
    assert parse_quantity(text) == Decimal(number)


def test_json_may_hold_a_quantity_as_a_number() -> None:
    assert parse_quantity(3) == 3
    assert parse_quantity(0.5) == Decimal("0.5")


@pytest.mark.parametrize("text", ["", "m", "Gi", "many", "1Zi", "1 Gi x", "NaN", "Infinity", "-inf"])
def test_what_is_no_quantity_counts_as_nothing(text: str) -> None:
    assert parse_quantity(text) == 0


SCALED = {
    "a number is itself": (2, 10, True, 2),
    "a number over the total": (12, 10, False, 12),
    "a share, up": ("25%", 10, True, 3),
    "a share, down": ("25%", 10, False, 2),
    "no pods": ("25%", 0, True, 0),
    "nothing": ("0%", 10, True, 0),
    "all": ("100%", 7, False, 7),
}


@pytest.mark.parametrize(("value", "total", "up", "pods"), SCALED.values(), ids=SCALED)
def test_int_or_percent(value: int | str, total: int, up: bool, pods: int) -> None:  # noqa: FBT001
    assert scaled(value, total, up=up) == pods


@given(percent=st.integers(0, 100), total=st.integers(0, 5000))
def test_shares_round_up_or_down_by_less_than_one(percent: int, total: int) -> None:
    up, down = (scaled(f"{percent}%", total, up=way) for way in (True, False))
    assert down <= percent * total / 100 <= up <= down + 1
