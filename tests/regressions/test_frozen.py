"""A rollout in flight goes on, or back, while the key that should follow cannot be had; pods end, witnessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.regressions.small import Small

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small() -> Iterator[Small]:
    with Small() as made:
        made.deploy()
        made.pod("old")
        made.bind(target={"data": {"api_key": "api_key"}})
        made.pass_by(5)
        yield made


def rolling(small: Small, *, ready: bool) -> None:
    small.put("two")
    small.pass_by(20)
    small.pod("new", ready=ready)
    small.controller(updated=1, available=1)
    small.pass_by(5)


def test_a_key_that_cannot_be_rendered_lets_a_failing_rollout_go_back(small: Small) -> None:
    rolling(small, ready=False)
    small.put("typo", field="apikey")
    small.pass_by(1000, 5)
    assert small.secret() == "one"
    assert small.annotations == {}
    assert small.reason("Stalled") == "FieldMissing", "that is what a person has to mend now"
    assert small.reason("AgentsCurrent") == "NewKeyRefused"
    assert "Version 1 is kept in place of version 2" in small.message("AgentsCurrent")
    assert small.reason("SecretSynced") not in {"Synced", ""}
    small.end("new")
    small.controller()
    small.pass_by(30)
    assert small.outcomes() == ["RolledBack"]
    small.put("three")
    small.pass_by(20)
    assert small.secret() == "three"


def test_a_key_that_cannot_be_rendered_lets_calls_drain(small: Small) -> None:
    rolling(small, ready=True)
    small.terminate("old")
    small.pass_by(5)
    small.put("typo", field="apikey")
    small.pass_by(30)
    assert small.reason("CallsDrained") == "Draining"
    assert not small.is_true("Ready")
    small.end("old")
    small.pass_by(5)
    assert small.is_true("CallsDrained")
    assert small.outcomes() == ["Completed"]
    assert small.is_true("AgentsCurrent")


def test_a_store_that_lets_nobody_in_any_more_lets_calls_drain(small: Small) -> None:
    rolling(small, ready=True)
    small.terminate("old")
    small.pass_by(5)
    small.store(prefix="elsewhere")
    small.pass_by(30)
    assert small.secret() == "two"
    small.end("old")
    small.pass_by(5)
    assert small.outcomes() == ["Completed"]
    assert not small.is_true("Ready")


def test_a_version_that_cannot_be_read_lets_late_pods_serve_after_all(small: Small) -> None:
    rolling(small, ready=False)
    small.unreadable.add(1)
    small.pass_by(700, 5)
    assert small.phase() == "RollingBack"
    assert small.secret() == "two"
    small.boot()
    small.vault_down = True
    small.pass_by(30)
    small.restart_container("new")
    small.terminate("old")
    small.pass_by(30)
    assert small.phase() == "Draining"
    small.vault_down = False
    small.unreadable.clear()
    small.end("old")
    small.pass_by(60)
    assert small.secret() == "two"
    assert small.outcomes() == ["Completed"]
    assert "refusedDigest" not in small.status()["rotation"]
    assert small.is_true("Ready")


def test_a_lost_version_is_what_is_said_of_a_way_back_that_cannot_be_taken(small: Small) -> None:
    rolling(small, ready=False)
    small.lost.add(1)
    small.pass_by(700, 5)
    assert small.reason("Stalled") == "PreviousKeyLost"
    assert small.secret() == "two"


def test_a_suspended_binding_sees_its_pods_end(small: Small) -> None:
    rolling(small, ready=True)
    small.terminate("old")
    small.pass_by(5)
    small.bind(target={"data": {"api_key": "api_key"}}, suspend=True)
    small.boot()
    small.pass_by(20)
    small.put("three")
    small.end("old")
    small.pass_by(20)
    assert small.is_true("CallsDrained")
    assert "oldPods" not in small.agent()
    assert small.secret() == "two", "and does nothing else"
    assert len(small.patches) == 1
    small.outage(600)
    small.bind(target={"data": {"api_key": "api_key"}})
    small.pass_by(5)
    assert small.status()["history"][0]["unwitnessed"] == 0


def test_a_suspended_store_sees_its_bindings_pods_end(small: Small) -> None:
    rolling(small, ready=True)
    small.terminate("old")
    small.pass_by(5)
    small.store(suspend=True)
    small.pass_by(5)
    small.end("old")
    small.pass_by(5)
    assert small.is_true("CallsDrained")
