"""How old a key may become."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests import gen
from voicekeys.api.binding import Rotation
from voicekeys.model.verdict import Verdict
from voicekeys.policies import freshness

DAY = 86_400.0
NINETY = Rotation(max_age=timedelta(days=90))
WARNING = Rotation(max_age=timedelta(days=90), warn_before=timedelta(days=14))
DUE = "2026-05-30"  # 90 days after NOW
EXPIRED = Verdict(
    "KeyExpired", f"the key was to be changed by {DUE}: make a new one at the provider, put it into Vault"
)
SOON = Verdict(
    "KeyExpiresSoon", f"the key is to be changed by {DUE}: make a new one at the provider, put it into Vault"
)

AGES = {
    "no limit": (Rotation(), 10_000 * DAY, None, None),
    "young, no warning asked for": (NINETY, 89 * DAY, None, DAY + 1),
    "young": (WARNING, 1 * DAY, None, 75 * DAY + 1),
    "one second before the warning": (WARNING, 76 * DAY - 1, None, 2),
    "at the warning": (WARNING, 76 * DAY, SOON, 14 * DAY + 1),
    "one second before its end": (WARNING, 90 * DAY - 1, SOON, 2),
    "at its end": (WARNING, 90 * DAY, EXPIRED, None),
    "long after": (NINETY, 900 * DAY, EXPIRED, None),
}


@pytest.mark.parametrize(("rotation", "age", "verdict", "wait"), AGES.values(), ids=AGES)
def test_staleness_and_the_next_look(
    rotation: Rotation, age: float, verdict: Verdict | None, wait: float | None
) -> None:
    assert freshness.staleness(rotation, gen.NOW, gen.at(age)) == verdict
    assert freshness.next_look(rotation, gen.NOW, gen.at(age)) == wait


def test_the_next_look_sees_another_answer() -> None:
    """At the moment that `next_look` gives, and not before, `staleness` says something else."""
    for age in (0.0, 75.5 * DAY, 76 * DAY, 89.9 * DAY):
        wait = freshness.next_look(WARNING, gen.NOW, gen.at(age))
        assert wait is not None
        present = freshness.staleness(WARNING, gen.NOW, gen.at(age))
        assert freshness.staleness(WARNING, gen.NOW, gen.at(age + wait - 2)) == present
        assert freshness.staleness(WARNING, gen.NOW, gen.at(age + wait)) != present


def test_rotate_by() -> None:
    assert freshness.rotate_by(Rotation(), gen.NOW) is None
    assert freshness.rotate_by(NINETY, gen.NOW) == gen.at(90 * DAY)
