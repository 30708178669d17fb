"""The Secret held another key for a while: pods that started then have it, whatever their template says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.regressions.small import Small

NOTE = "voicekeys.dev/key.b"


def again(small: Small, word: str) -> None:
    """Put the data of a former version back, as a version of its own."""
    small.put(word)


def test_a_pod_made_while_a_restart_is_held_is_restarted_when_the_key_of_before_returns(small: Small) -> None:
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(60)
    assert small.secret() == "two"
    small.end("old")
    small.pod("remade")  # by a node drain, from the old template: it reads "two"
    small.pass_by(5)
    again(small, "one")
    small.pass_by(10)
    small.quota(hard=2, used=1)
    small.pass_by(70)
    assert small.secret() == "one"
    (patch,) = small.patches
    assert patch == {NOTE: small.status()["secret"]["digest"]}
    assert not small.is_true("Ready")
    small.pod("new")
    small.controller()
    small.end("remade")
    small.pass_by(10)
    assert small.is_true("Ready")
    assert small.outcomes() == ["Superseded", "Completed"]


def test_a_container_that_started_again_counts_like_a_pod(small: Small) -> None:
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(60)
    small.restart_container("old")
    again(small, "one")
    small.pass_by(20)
    assert small.reason("Stalled") == "QuotaExceeded"
    assert small.reason("CallsDrained") == "NotRestarted"
    small.quota(hard=2, used=1)
    small.pass_by(70, 5)
    assert len(small.patches) == 1


def test_pods_that_all_started_before_are_left_alone(small: Small) -> None:
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(60)
    again(small, "one")
    small.pass_by(3)
    assert not small.is_true("Ready"), "a kubelet may still serve the other key"
    small.pass_by(10)
    assert small.is_true("Ready")
    assert not small.patches
    assert "divergedTime" not in small.agent()
    small.restart_container("old")
    small.pass_by(10)
    assert not small.patches, "it has read what the Secret holds now"


def test_sync_now_on_the_way_back_restarts_pods_that_read_the_key_of_before(small: Small) -> None:
    small.put("bad")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    refused = small.annotations[NOTE]
    small.workload["spec"]["strategy"]["type"] = "Recreate"  # holds the way back
    small.pass_by(700, 5)
    assert small.secret() == "one"
    assert small.phase() == "RollingBack"
    small.restart_container("new")  # reads "one"
    small.workload["spec"]["strategy"]["type"] = "RollingUpdate"
    small.end("old")
    small.sync_now("again")
    small.pass_by(20)
    assert small.secret() == "bad"
    assert small.annotations == {NOTE: f"{refused}-1"}
    assert not small.is_true("Ready")
    small.pod("newer")
    small.controller()
    small.end("new")
    small.pass_by(10)
    assert small.is_true("Ready")
    assert small.outcomes()[-1] == "Completed"


def test_the_way_back_does_not_trust_a_pod_of_the_old_template_that_read_the_refused_key(small: Small) -> None:
    small.put("bad")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.restart_container("old")  # crashed, and read "bad"
    small.controller(updated=1, available=1)
    small.pass_by(700, 5)
    assert small.secret() == "one"
    assert small.annotations == {NOTE: small.status()["secret"]["digest"]}, "not the template of before"
    held = {pod["name"] for pod in small.agent()["oldPods"]}
    assert held == {"old", "new"}


def test_a_killed_operator_goes_on_with_the_very_trigger(small: Small) -> None:
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(60)
    small.restart_container("old")
    small.boot()
    again(small, "one")
    small.pass_by(20)
    small.boot()
    small.quota(hard=2, used=1)
    small.pass_by(70, 5)
    assert small.patches == [{NOTE: small.status()["secret"]["digest"]}]


def test_a_change_back_in_flight_counts_in_the_budget(small: Small) -> None:
    small.bind(rollout={"maxRestartsPerHour": 2})
    for word in ("two", "one", "two"):
        small.put(word)
        small.pass_by(20)
    assert len(small.patches) == 2
    assert small.reason("Stalled") == "RestartBudgetSpent"
