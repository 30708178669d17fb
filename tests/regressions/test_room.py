"""Room for old and new pods side by side: every old one may still have a call when all new ones run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.regressions.calls import bound, change, hook
from tests.regressions.small import Small

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def three() -> Iterator[Small]:
    """An agent of three armed pods with a call each."""
    with Small() as made:
        made.deploy(replicas=3)
        for name in ("a", "b", "c"):
            made.pod(name)
            hook(made, name)
            made.agents.serve(name, calls=1)
        bound(made)
        made.pass_by(5)
        yield made


def test_a_quota_below_twice_the_pods_holds_the_restart(three: Small) -> None:
    three.quota(hard=5, used=3)
    change(three)
    assert three.patches == []
    assert three.reason("Stalled") == "QuotaExceeded"
    assert "3 of pods, but ResourceQuota q has only 2 of 5 left: raise it to 6" in three.message("Stalled")


def test_a_quota_of_twice_the_pods_lets_it_begin(three: Small) -> None:
    three.quota(hard=5, used=3)
    change(three)
    three.quota(hard=6, used=3)
    three.pass_by(120)
    assert len(three.patches) == 1


def test_without_a_drain_the_surge_alone_counts(three: Small) -> None:
    three.bind(agents=[{"kind": "Deployment", "name": "agent"}])
    three.quota(hard=4, used=3)
    change(three)
    assert len(three.patches) == 1


def test_a_second_change_needs_room_beside_the_pods_that_drain(three: Small) -> None:
    three.quota(hard=8, used=3)
    change(three)
    assert len(three.patches) == 1
    for name in ("d", "e", "f"):
        three.pod(name)
        hook(three, name)
        three.agents.serve(name)
    three.controller(updated=3, available=3)
    for name in ("a", "b", "c"):
        three.terminate(name)
    three.quota(hard=8, used=6)
    three.pass_by(20)
    three.put("three")
    three.pass_by(60)
    assert len(three.patches) == 1
    assert "only 2 of 8 left: raise it to 9" in three.message("Stalled")


def test_the_gauge_that_its_pods_will_have_needs_room(three: Small) -> None:
    bound(three, mode="Gauge", port=8080, gauge={"metric": "calls"})
    status = {"hard": {"requests.cpu": "250m"}, "used": {"requests.cpu": "0"}}
    three.cluster.quotas = [{"metadata": {"name": "q"}, "spec": {}, "status": status}]
    change(three)
    assert "0.3 of requests.cpu" in three.message("Stalled")
