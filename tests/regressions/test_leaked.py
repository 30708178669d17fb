"""A key that has leaked: the next one goes out whatever calls that cuts, and says so before; there is no way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reconcilers.check import check_binding
from tests.regressions.calls import agent_with_a_call, bound, change, hook, order, rolled
from tests.regressions.small import NS, Small
from voicekeys.api import names
from voicekeys.model.identity import Name

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small() -> Iterator[Small]:
    """An agent whose pod is armed and has a call."""
    with agent_with_a_call(armed=True) as made:
        yield made
        check_binding(made.binding())


@pytest.fixture
def unarmed() -> Iterator[Small]:
    """The same, but its pod was made before it could be armed."""
    with agent_with_a_call(armed=False) as made:
        yield made
        check_binding(made.binding())


def leaked(small: Small, value: str = "once") -> None:
    order(small, names.LEAKED_ANNOTATION, value)


def told(small: Small, reason: str = "LeakEmergency") -> list[str]:
    return [message for found, message in small.events if found == reason]


def done(small: Small, old: str = "old", new: str = "new") -> None:
    """The new pod serves, and the old one has ended, with its calls."""
    small.pod(new)
    hook(small, new)
    small.agents.serve(new)
    small.controller()
    small.agents.change(old, calls=0, completed=1)
    small.end(old)
    small.pass_by(20)


def frozen(small: Small) -> None:
    """A call is cut by a key change, so that no other begins."""
    change(small)
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert small.phase() == "Frozen"


# ---- it goes ahead


def test_a_change_that_unarmed_pods_hold_up_goes_on_at_once(unarmed: Small) -> None:
    change(unarmed)
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsHaveCalls"
    leaked(unarmed)
    unarmed.pass_by(5)
    assert len(unarmed.patches) == 1
    assert unarmed.status()["emergency"]["version"] == 1
    done(unarmed)
    assert "emergency" not in unarmed.status()
    assert unarmed.outcomes() == ["Completed"]
    assert "version 1" in told(unarmed, "LeakEmergencyOver")[0]
    assert not unarmed.is_true("KeyLeaked")


def test_a_leak_that_is_said_first_counts_for_the_next_key(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.pass_by(120)
    assert unarmed.patches == []
    assert unarmed.is_true("Ready"), "the key is where it should be, and waits for the next"
    assert unarmed.reason("KeyLeaked") == "NewKeyAwaited"
    assert "put a new one into Vault at voice/a" in unarmed.message("KeyLeaked")
    assert "1 pod without a drain hook" in unarmed.message("KeyLeaked")
    change(unarmed)
    assert len(unarmed.patches) == 1
    assert unarmed.reason("KeyLeaked") == "NewKeyOnItsWay"
    done(unarmed)
    assert unarmed.status()["handled"]["leaked"] == "once"
    assert "emergency" not in unarmed.status()


def test_the_key_is_read_at_once(unarmed: Small) -> None:
    unarmed.pass_by(5)
    unarmed.keys["voice/a"][2] = {"api_key": b"key-two-0123456789"}
    began = unarmed.loop.time()
    leaked(unarmed)
    unarmed.pass_by(1, 0.1)
    assert any(began <= moment < began + 0.5 for moment in unarmed.vault.times)
    assert unarmed.secret() == "two"


def test_a_leak_is_remembered_over_a_restart_of_the_operator(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.pass_by(5)
    unarmed.boot()
    unarmed.pass_by(5)
    unarmed.put("two")
    unarmed.pass_by(3)
    unarmed.boot()
    unarmed.pass_by(20)
    assert len(unarmed.patches) == 1
    unarmed.boot()
    unarmed.pass_by(5)
    assert unarmed.reason("KeyLeaked") == "NewKeyOnItsWay"
    done(unarmed)
    unarmed.boot()
    unarmed.pass_by(20)
    assert "emergency" not in unarmed.status(), "acted on once"


def test_it_is_not_held_by_a_freeze_and_does_not_thaw_it(small: Small) -> None:
    frozen(small)
    small.put("three")
    small.pass_by(20)
    assert small.reason("Stalled") == "Frozen"
    leaked(small)
    small.pass_by(20)
    assert len(small.patches) == 2
    done(small, "new", "newer")
    assert "emergency" not in small.status()
    assert small.is_true("CallsForced")
    small.put("four")
    small.pass_by(20)
    assert small.reason("Stalled") == "Frozen"


def test_it_is_not_held_by_a_hook_that_does_not_work(small: Small) -> None:
    small.agents.change("old", closed=True)
    change(small)
    assert small.patches == []
    leaked(small)
    small.pass_by(5)
    assert len(small.patches) == 1
    assert "refuses connections" in told(small)[0]


def test_it_waits_for_no_restart_budget(small: Small) -> None:
    small.bind(agents=small.binding()["spec"]["agents"], rollout={"maxRestartsPerHour": 1})
    change(small)
    done(small)
    small.put("three")
    small.pass_by(20)
    assert small.reason("Stalled") == "RestartBudgetSpent"
    leaked(small)
    small.pass_by(5)
    assert len(small.patches) == 2


def test_an_agent_without_a_drain_is_told_as_well() -> None:
    with Small() as small:
        small.deploy()
        small.pod("old")
        small.bind()
        small.pass_by(5)
        leaked(small)
        small.pass_by(5)
        assert "Deployment n/agent, which has no drain" in small.message("KeyLeaked")
        small.put("two")
        small.pass_by(20)
        assert "1 pod of it has no drain hook: how many old has is not known" in told(small)[0]


# ---- it says what it may cut


def test_what_it_may_cut_is_told_before_the_restart(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.put("two")
    unarmed.pass_by(3)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "Propagating"
    assert "1 pod of it has no drain hook: they have 1 live call" in unarmed.message("KeyLeaked")
    unarmed.agents.change("old", calls=2)
    unarmed.pass_by(20)
    assert len(unarmed.patches) == 1
    reasons = [reason for reason, _ in unarmed.events]
    assert reasons.index("LeakEmergency") < reasons.index("RolloutStarted")
    (message,) = told(unarmed)
    assert message.startswith("Deployment n/agent restarts because of the leak whatever calls that cuts")
    assert "they have 2 live calls" in message


def test_unknown_is_told_as_such(unarmed: Small) -> None:
    unarmed.agents.pods.clear()
    leaked(unarmed)
    change(unarmed)
    assert len(unarmed.patches) == 1
    assert "how many old has is not known" in told(unarmed)[0]


def test_armed_pods_drain_as_always(small: Small) -> None:
    leaked(small)
    change(small)
    assert "each of its pods finishes its calls before it ends" in told(small)[0]
    rolled(small)
    assert small.reason("CallsDrained") == "Draining"
    assert small.status()["emergency"], "until the last of them has ended"
    small.agents.change("old", calls=0, completed=1)
    small.end("old")
    small.pass_by(20)
    assert "emergency" not in small.status()
    assert "frozen" not in small.status()


def test_calls_that_it_cut_are_counted(unarmed: Small) -> None:
    leaked(unarmed)
    change(unarmed)
    rolled(unarmed)
    unarmed.end("old")
    unarmed.pass_by(20)
    assert unarmed.status()["history"][-1]["forced"] == 1
    assert "1 call was cut" in told(unarmed, "LeakEmergencyOver")[0]


# ---- what holds it up all the same


def test_a_paused_workload_is_still_its_owners(small: Small) -> None:
    small.workload["spec"]["paused"] = True
    leaked(small)
    change(small)
    assert small.reason("AgentsCurrent") == "WaitingForResume"
    assert small.status()["emergency"]


def test_room_in_a_quota_is_still_needed(unarmed: Small) -> None:
    unarmed.quota(hard=1, used=1)
    leaked(unarmed)
    change(unarmed)
    assert unarmed.patches == []
    assert unarmed.reason("Stalled") == "QuotaExceeded"
    assert "they have 1 live call" in unarmed.message("KeyLeaked")


def test_a_suspended_binding_acts_on_it_later(small: Small) -> None:
    agents = small.binding()["spec"]["agents"]
    small.bind(agents=agents, suspend=True)
    leaked(small)
    small.pass_by(5)
    assert "emergency" not in small.status()
    assert f"{names.LEAKED_ANNOTATION} is acted on then" in small.message("Suspended")
    small.bind(agents=agents)
    small.pass_by(5)
    assert small.status()["emergency"]["version"] == 1


def test_a_change_of_something_else_is_no_emergency(unarmed: Small) -> None:
    """The Secret gets another field's name, with the leaked key in it."""
    leaked(unarmed)
    unarmed.pass_by(5)
    unarmed.bind(agents=unarmed.binding()["spec"]["agents"], target={"data": {"OTHER": "api_key"}})
    unarmed.pass_by(60)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "UnarmedPodsHaveCalls"
    assert unarmed.reason("KeyLeaked") == "NewKeyAwaited"


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


def test_a_status_that_could_not_be_written_loses_no_leak(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.pass_by(2)
    raw = unarmed.cluster.bindings[Name(NS, "b")]
    assert raw["status"]["handled"]["leaked"] == "once"
    assert raw["status"]["emergency"]["version"] == 1, "both in one write"


def test_where_agents_are_bound_anew_the_leak_stays(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.pass_by(5)
    bound(unarmed, maxCallDuration="10m")
    unarmed.pass_by(5)
    assert unarmed.is_true("KeyLeaked")
