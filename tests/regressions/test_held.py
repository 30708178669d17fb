"""A restart that something holds up: what the pods have by then is neither guessed nor forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.regressions.small import Small


def fails_on_the_new_key(small: Small) -> None:
    """The surge pod of a bad key takes the room that the quota had left, and does not start."""
    small.quota(hard=2, used=1)
    small.put("bad")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.quota(hard=2, used=2)
    small.controller(updated=1, available=1)


def test_the_way_back_needs_no_room_in_a_quota(small: Small) -> None:
    fails_on_the_new_key(small)
    small.pass_by(700, 5)
    assert small.secret() == "one"
    assert small.annotations == {}
    assert len(small.patches) == 2


def test_a_mended_key_takes_the_room_of_the_pod_that_it_replaces(small: Small) -> None:
    fails_on_the_new_key(small)
    small.pass_by(100, 5)
    small.put("good")
    small.pass_by(60, 5)
    assert small.secret() == "good"
    assert len(small.patches) == 2
    assert small.reason("AgentsCurrent") == "Rolling"


def test_what_stops_the_way_back_is_said_beside_the_refusal(small: Small) -> None:
    fails_on_the_new_key(small)
    small.workload["spec"]["strategy"] = {"type": "Recreate"}
    small.pass_by(700, 5)
    assert small.reason("Stalled") == "NewKeyRefused"
    assert "Version 1 is kept in place of version 2" in small.message("Stalled")
    assert "strategy Recreate" in small.message("Stalled")


def test_the_pods_of_a_workload_deleted_while_its_restart_was_held_count_until_they_ended(small: Small) -> None:
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(20)
    assert small.reason("Stalled") == "QuotaExceeded"
    small.cluster.workloads.clear()
    small.terminate("old")
    small.sync_now("look")
    small.pass_by(10)
    assert [pod["name"] for pod in small.agent()["oldPods"]] == ["old"]
    assert not small.is_true("CallsDrained")
    small.end("old")
    small.pass_by(10)
    assert "oldPods" not in small.agent()
    assert small.reason("AgentsCurrent") == "WorkloadMissing"
