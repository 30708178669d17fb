"""What the operator is made to forget (a fingerprint key, an agent, a binding) is not taken for current."""

from __future__ import annotations

from tests.regressions.small import NS, Small
from voicekeys.model.errors import ApiUnreachable
from voicekeys.model.identity import Name

NOTE = "voicekeys.dev/key.b"


def held(small: Small) -> None:
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(20)
    assert small.reason("Stalled") == "QuotaExceeded"


def rolled(small: Small, name: str, before: str) -> None:
    """Let the controller finish a restart."""
    small.pod(name)
    small.controller()
    small.end(before)
    small.pass_by(10)
    assert small.is_true("Ready")


def test_a_lost_fingerprint_key_forgets_no_restart_that_is_held(small: Small) -> None:
    held(small)
    small.boot(b"g" * 32)
    small.pass_by(20)
    assert not small.is_true("Ready")
    assert "Completed" not in small.outcomes()
    small.quota(hard=2, used=1)
    small.pass_by(70, 5)
    assert small.patches == [{NOTE: small.status()["secret"]["digest"]}]
    rolled(small, "new", "old")


def test_a_lost_fingerprint_key_restarts_nothing_else(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    rolled(small, "new", "old")
    small.boot(b"g" * 32)
    small.pass_by(60)
    assert small.is_true("Ready")
    assert len(small.patches) == 1


def test_a_lost_fingerprint_key_and_an_api_server_that_stutters_restart_nothing(small: Small) -> None:
    small.boot(b"g" * 32)
    get, answers = small.cluster.get_workload, iter([True, True])

    async def stutter(workload: object) -> object:
        if next(answers, False):
            raise ApiUnreachable("Unreachable", "it stutters")
        return await get(workload)  # type: ignore[arg-type]

    small.cluster.get_workload = stutter  # type: ignore[method-assign, assignment]
    small.pass_by(20)
    assert small.is_true("Ready")
    assert not small.patches


def test_a_refused_key_stays_refused_under_a_new_fingerprint_key(small: Small) -> None:
    small.put("bad")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(700, 5)
    small.end("new")
    small.controller()
    small.pass_by(20)
    assert small.outcomes() == ["RolledBack"]
    small.boot(b"g" * 32)
    small.pass_by(30)
    assert small.secret() == "one"
    assert small.reason("Stalled") == "NewKeyRefused"
    small.boot(b"g" * 32)
    small.pass_by(30)
    assert small.secret() == "one"
    assert len(small.patches) == 2
    small.put("good")
    small.pass_by(20)
    assert small.secret() == "good"


def test_an_agent_taken_out_while_its_restart_is_held_and_put_back_is_restarted(small: Small) -> None:
    held(small)
    small.bind(agents=[])
    small.pass_by(10)
    assert small.reason("CallsDrained") == "Draining"
    assert not small.outcomes(), "its pod is on the old key"
    small.bind()
    small.pass_by(20)
    assert small.reason("Stalled") == "QuotaExceeded"
    small.quota(hard=2, used=1)
    small.pass_by(70, 5)
    assert len(small.patches) == 1


def test_an_agent_taken_out_while_its_restart_is_held_is_followed_to_its_end(small: Small) -> None:
    held(small)
    small.bind(agents=[])
    small.pass_by(10)
    small.end("old")
    small.pod("remade")
    small.pass_by(10)
    assert small.reason("CallsDrained") == "", "there are no agents, and no pods on the old key"
    assert small.outcomes() == ["Completed"]
    assert small.status().get("agents", []) == []
    small.bind()
    small.pass_by(20)
    assert small.is_true("Ready")
    assert not small.patches, "what was remade has read the new key"


def test_an_agent_named_after_a_change_whose_pods_are_older_is_restarted(small: Small) -> None:
    small.bind(agents=[])
    small.pass_by(5)
    small.put("two")
    small.pass_by(20)
    small.bind()
    small.pass_by(20)
    assert len(small.patches) == 1
    rolled(small, "new", "old")


def test_a_binding_made_again_after_the_key_changed_restarts_its_agents_once(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    rolled(small, "new", "old")
    small.unbind(prune=True)
    small.put("three")
    small.bind()
    small.pass_by(30)
    assert len(small.patches) == 2
    assert not small.is_true("Ready")
    rolled(small, "newer", "new")
    small.pass_by(100, 5)
    assert len(small.patches) == 2


def test_a_binding_made_again_over_an_unchanged_key_restarts_nothing(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    rolled(small, "new", "old")
    small.unbind(prune=True)
    small.bind()
    small.pass_by(30)
    assert len(small.patches) == 1
    assert small.is_true("Ready")


def test_a_binding_made_again_under_another_fingerprint_key_restarts_nothing(small: Small) -> None:
    """As where a cluster is restored, Secrets and workloads but not the operator's key."""
    small.put("two")
    small.pass_by(20)
    rolled(small, "new", "old")
    small.unbind()
    assert Name(NS, "b") in small.cluster.secrets
    small.boot(b"g" * 32)
    small.bind()
    small.pass_by(30)
    assert len(small.patches) == 1
    assert small.is_true("Ready")
