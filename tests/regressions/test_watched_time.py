"""Time in which nobody watched, and clocks that are set: no key is refused for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.regressions.small import Small


def served(small: Small) -> None:
    small.pass_by(5)
    small.controller()
    small.end("old")
    small.pass_by(10)
    assert small.is_true("Ready")
    assert small.secret() == "two"
    assert small.outcomes() == ["Completed"]


def test_a_control_plane_that_was_away_refuses_no_key(small: Small) -> None:
    small.put("two")
    small.pass_by(14)
    assert len(small.patches) == 1
    small.outage(900)
    small.pass_by(60)
    assert small.reason("AgentsCurrent") == "Rolling"
    small.workload["status"]["observedGeneration"] = small.workload["metadata"]["generation"]
    small.pass_by(60)
    small.pod("new")
    served(small)


def test_an_operator_that_was_away_begins_to_count_anew(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.outage(3600)
    small.pass_by(60)
    assert small.reason("AgentsCurrent") == "Rolling"
    small.pass_by(600, 10)
    assert small.secret() == "one", "it was watched for as long as a pod may take"
    assert small.annotations == {}


def test_a_rollout_whose_controller_is_away_for_long_is_not_late_when_it_returns(small: Small) -> None:
    small.put("two")
    small.pass_by(2000, 10)
    assert len(small.patches) == 1
    small.controller(updated=0, available=1)
    small.pass_by(300, 10)
    assert len(small.patches) == 1
    small.pod("new")
    served(small)


def test_a_clock_that_is_set_forward_refuses_no_key(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(5)
    small.clock.ahead = timedelta(minutes=15)
    small.pass_by(30)
    assert small.phase() == "Rolling"
    small.clock.ahead = timedelta()
    small.pass_by(30)
    assert small.phase() == "Rolling"
    small.restart_container("new")
    served(small)


def test_a_leader_whose_clock_was_ahead_holds_up_nothing(small: Small) -> None:
    small.clock.ahead = timedelta(hours=1)
    small.put("two")
    small.pass_by(3)
    small.clock.ahead = timedelta()
    small.pass_by(20)
    assert len(small.patches) == 1
