"""When a pod is worth a look whether its hook has failed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests import gen
from voicekeys.policies.points import SOON, At, Point, at

if TYPE_CHECKING:
    from voicekeys.model.workload import Pod

# Deleted at second 0, killed at second 60.
DELETED = gen.terminating(gen.at(60))
CASES: dict[str, tuple[Pod | None, float, At]] = {
    "serves": (gen.pod("a"), 100, At(Point.SERVES)),
    "was deleted just now": (gen.pod("a", DELETED), 1, At(Point.SERVES, timedelta(seconds=2))),
    "drains": (gen.pod("a", DELETED), 3, At(Point.DRAINS)),
    "drains past its deadline": (gen.pod("a", DELETED), 90, At(Point.DRAINS)),
    "by a clock that is behind": (gen.pod("a", DELETED), -600, At(Point.SERVES, SOON)),
    "its containers have ended": (gen.pod("a", DELETED, gen.containers({"terminated": {}})), 1, At(Point.ENDED)),
    "is gone": (None, 1, At(Point.ENDED)),
}


@pytest.mark.parametrize(("pod", "now", "where"), CASES.values(), ids=CASES)
def test_how_far_a_pod_has_come(pod: Pod | None, now: float, where: At) -> None:
    assert at(pod, gen.at(now)) == where
