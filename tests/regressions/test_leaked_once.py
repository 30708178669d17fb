"""A key that has leaked: it is not put back, each word of it counts once, and no operator that ends forgets it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.regressions.calls import change, done, leaked, order, rolled, told
from tests.regressions.small import Small
from voicekeys.api import names
from voicekeys.model.errors import ApiUnreachable


@pytest.fixture
def small(armed: Small) -> Small:
    """An agent whose pod is armed and has a call."""
    return armed


# ---- no way back


def test_the_leaked_key_is_not_put_back(small: Small) -> None:
    leaked(small)
    change(small)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(700, 5)
    assert small.secret() == "two"
    assert len(small.patches) == 1
    assert small.reason("Stalled") == "LeakedKeyNotPutBack"
    assert "put a working key into Vault" in small.message("Stalled")
    small.boot()
    small.pass_by(700, 5)
    assert small.secret() == "two"
    small.put("three")
    small.pass_by(20)
    assert small.secret() == "three"
    assert len(small.patches) == 2
    assert small.status()["emergency"]["version"] == 1


def test_a_way_back_that_is_being_taken_is_left(small: Small) -> None:
    change(small)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(630, 5)
    assert small.secret() == "one"
    leaked(small)
    small.pass_by(60, 5)
    assert small.secret() == "two"
    assert small.status()["emergency"]["version"] == 1
    small.controller()
    small.pass_by(700, 5)
    assert small.secret() == "two"
    assert small.reason("Stalled") == "LeakedKeyNotPutBack"


def test_a_way_back_is_left_as_soon_as_vault_gives_the_new_key_again(small: Small) -> None:
    """Until then the Secret, which holds the leaked key already, is all there is."""
    change(small)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(630, 5)
    assert small.secret() == "one"
    small.vault_down = True
    small.boot()
    leaked(small)
    small.pass_by(60, 5)
    assert small.status()["emergency"]["version"] == 1
    small.vault_down = False
    small.pass_by(120, 5)
    assert small.secret() == "two"
    assert small.reason("KeyLeaked") == "NewKeyOnItsWay"


def test_a_key_that_was_refused_before_the_leak_is_tried_again(small: Small) -> None:
    change(small)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(630, 5)
    small.end("new")
    small.controller()
    small.pass_by(30, 5)
    assert small.outcomes() == ["RolledBack"]
    leaked(small)
    small.pass_by(30, 5)
    assert small.secret() == "two"
    assert small.reason("KeyLeaked") == "NewKeyOnItsWay"


def test_after_the_emergency_there_is_a_way_back_again(small: Small) -> None:
    leaked(small)
    change(small)
    done(small)
    small.put("bad")
    small.pass_by(20)
    small.pod("worse", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(700, 5)
    assert small.secret() == "two"


# ---- once


def test_each_value_is_acted_on_once(unarmed: Small) -> None:
    leaked(unarmed)
    change(unarmed)
    done(unarmed)
    unarmed.cluster.pods["new"]["spec"]["containers"] = [{"name": "c"}]
    unarmed.cluster.tell("MODIFIED", unarmed.cluster.pods["new"])
    unarmed.agents.change("new", calls=1)
    unarmed.boot()
    unarmed.put("three")
    unarmed.pass_by(30)
    assert len(unarmed.patches) == 1
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsHaveCalls"
    leaked(unarmed, "twice")
    unarmed.pass_by(5)
    assert len(unarmed.patches) == 2
    assert unarmed.status()["emergency"]["version"] == 2


def test_it_is_told_once(unarmed: Small) -> None:
    leaked(unarmed)
    change(unarmed)
    unarmed.pass_by(120)
    assert len(told(unarmed)) == 1
    assert len(told(unarmed, "NewKeyOnItsWay")) == 1


def test_a_leak_that_is_said_while_calls_drain_is_that_of_the_key_which_they_use(small: Small) -> None:
    change(small)
    rolled(small)
    leaked(small)
    small.pass_by(5)
    assert small.status()["emergency"]["version"] == 1
    assert small.reason("KeyLeaked") == "NewKeyOnItsWay"
    small.agents.change("old", calls=0, completed=1)
    small.end("old")
    small.pass_by(20)
    assert "emergency" not in small.status()


def test_a_second_leak_while_calls_drain_is_that_of_the_new_key(small: Small) -> None:
    leaked(small)
    change(small)
    rolled(small)
    leaked(small, "twice")
    small.pass_by(5)
    assert small.status()["emergency"]["version"] == 2
    assert small.reason("KeyLeaked") == "NewKeyAwaited"
    small.agents.change("old", calls=0, completed=1)
    small.end("old")
    small.pass_by(20)
    assert small.status()["emergency"]["version"] == 2
    small.put("three")
    small.pass_by(20)
    done(small, "new", "newer")
    assert "emergency" not in small.status()


def test_a_newer_key_in_an_emergency_belongs_to_it(unarmed: Small) -> None:
    leaked(unarmed)
    change(unarmed)
    unarmed.put("three")
    unarmed.pass_by(20)
    assert len(unarmed.patches) == 2
    assert unarmed.outcomes() == ["Superseded"]
    assert unarmed.status()["emergency"]["version"] == 1
    done(unarmed)
    assert "emergency" not in unarmed.status()


def test_a_word_given_in_error_is_taken_back_with_its_annotation(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.pass_by(5)
    leaked(unarmed, "")
    unarmed.pass_by(5)
    assert "emergency" not in unarmed.status()
    assert len(told(unarmed, "LeakWithdrawn")) == 1
    change(unarmed)
    unarmed.pass_by(60)
    assert unarmed.patches == []
    leaked(unarmed)
    unarmed.pass_by(5)
    assert len(unarmed.patches) == 1, "the same word may be given again"


def test_once_the_new_key_is_on_its_way_nothing_takes_the_word_back(unarmed: Small) -> None:
    leaked(unarmed)
    change(unarmed)
    leaked(unarmed, "")
    unarmed.pass_by(5)
    assert unarmed.status()["emergency"]["version"] == 1
    done(unarmed)
    assert "emergency" not in unarmed.status()


def test_a_leak_said_of_a_binding_without_a_key_yet_counts_for_its_first() -> None:
    with Small() as small:
        small.deploy()
        small.pod("old")
        small.vault_down = True
        small.bind()
        leaked(small)
        small.pass_by(20)
        assert "emergency" not in small.status()
        small.vault_down = False
        small.pass_by(60)
        assert small.status()["emergency"]["version"] == 1
        assert small.patches == []


def test_a_leak_is_acted_on_though_the_status_could_not_be_written_at_first(unarmed: Small) -> None:
    failures = iter([True, True])

    def unavailable(status: Any) -> None:
        if "emergency" in status:
            assert status["handled"]["leaked"] == "once", "both in one write"
            if next(failures, False):
                raise ApiUnreachable("Unavailable", "the API server does not answer")

    unarmed.before_status = unavailable  # type: ignore[method-assign]
    change(unarmed)
    leaked(unarmed)
    unarmed.pass_by(1)
    assert unarmed.patches == []
    unarmed.pass_by(10)
    assert len(unarmed.patches) == 1
    assert unarmed.status()["emergency"]["version"] == 1


def test_the_way_back_is_not_taken_by_an_operator_that_comes_in_the_midst_of_it(small: Small) -> None:
    """And ends again, before the new pods are late."""
    change(small)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(570, 5)
    leaked(small)
    for _ in range(20):
        small.pass_by(30, 5)
        small.controller()
        small.boot()
        assert small.secret() == "two"
    assert small.outcomes() == []


def test_an_order_for_unarmed_pods_is_over_with_the_emergency(unarmed: Small) -> None:
    order(unarmed, names.ARM_ANNOTATION, "now")
    leaked(unarmed)
    change(unarmed)
    assert unarmed.status()["handled"] == {"arm": "now", "leaked": "once"}
