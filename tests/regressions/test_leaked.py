"""A key that has leaked: the next one goes out whatever calls that cuts, and says so before; there is no way back."""

from __future__ import annotations

import pytest

from tests.regressions.calls import change, done, leaked, rolled, told
from tests.regressions.small import Small
from voicekeys.api import names
from voicekeys.model.identity import Name, WorkloadId


@pytest.fixture
def small(armed: Small) -> Small:
    """An agent whose pod is armed and has a call."""
    return armed


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
        assert "1 pod of it has no drain hook, or no grace for it: how many old has is not known" in told(small)[0]


# ---- it says what it may cut


def test_what_it_may_cut_is_told_before_the_restart(unarmed: Small) -> None:
    leaked(unarmed)
    unarmed.put("two")
    unarmed.pass_by(3)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "Propagating"
    assert "1 pod of it has no drain hook, or no grace for it: they have 1 live call" in unarmed.message("KeyLeaked")
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


def test_a_hook_that_nobody_saw_work_is_told_as_such(small: Small) -> None:
    """A NetworkPolicy keeps the operator out."""
    small.agents.pods.clear()
    leaked(small)
    change(small)
    assert len(small.patches) == 1
    assert "whether the hook of old works, and how many calls wait for it, is not known" in told(small)[0]


def test_armed_pods_drain_as_always(small: Small) -> None:
    leaked(small)
    change(small)
    assert "each of its pods is to let its calls end before it does" in told(small)[0]
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


def test_a_turn_is_still_waited_for(unarmed: Small) -> None:
    unarmed.store(rollout={"maxWorkloads": 1})
    turns, other = unarmed.reconciler._rollouts._turns, WorkloadId("Deployment", "else", "other")
    assert turns.hold(Name("else", "x"), "default", other, 1, unarmed.clock.now()) is None
    leaked(unarmed)
    change(unarmed)
    assert unarmed.patches == []
    assert unarmed.reason("AgentsCurrent") == "WaitingForTurn"
    assert "they have 1 live call" in unarmed.message("KeyLeaked")
    turns.forget(Name("else", "x"))
    unarmed.pass_by(5)
    assert len(unarmed.patches) == 1


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
