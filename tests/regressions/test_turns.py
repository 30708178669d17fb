"""How many workloads are restarted at once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.small import NS, Small
from voicekeys.model.identity import Name, WorkloadId

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = WorkloadId("Deployment", NS, "agent"), WorkloadId("Deployment", NS, "other")


@pytest.fixture
def small() -> Iterator[Small]:
    """Two bindings with an agent each, one key, and one turn."""
    made = Small()
    made.limit = 1
    with made as small:
        small.deploy("b", "c")
        other = copy.deepcopy(small.workload)
        other["metadata"] |= {"name": "other", "uid": "w2"}
        other["spec"]["selector"] = {"matchLabels": {"app": "other"}}
        small.cluster.workloads[TWO] = other
        small.bind("b")
        small.bind("c", agents=[{"kind": "Deployment", "name": "other"}])
        small.pod("old")
        small.pass_by(20)
        yield small


def triggered(small: Small) -> list[WorkloadId]:
    metadata = {one: raw["spec"]["template"]["metadata"] for one, raw in small.cluster.workloads.items()}
    return [one for one, found in metadata.items() if found.get("annotations")]


def finish(small: Small, workload: WorkloadId) -> None:
    raw: dict[str, Any] = small.cluster.workloads[workload]
    raw["status"]["observedGeneration"] = raw["metadata"]["generation"]


def waiting(small: Small) -> str:
    return next(name for name in ("b", "c") if small.reason("AgentsCurrent", name) == "WaitingForTurn")


def test_the_second_workload_waits_until_the_first_one_s_old_pods_have_ended(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    assert len(triggered(small)) == 1
    late = waiting(small)
    assert "at most 1" in small.message("AgentsCurrent", late)
    assert not small.is_true("Stalled", late)
    small.pod("new")
    finish(small, triggered(small)[0])
    small.pass_by(20)
    if late == "c":  # the agent with a pod is first: its calls still hold the turn
        assert len(triggered(small)) == 1
        small.terminate("old")
        small.pass_by(20)
        assert len(triggered(small)) == 1
        small.end("old")
    small.pass_by(20)
    assert len(triggered(small)) == 2
    assert Name(NS, late) in small.woken


def test_a_restarted_operator_knows_who_has_a_turn(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    first = triggered(small)
    small.boot()
    small.pass_by(20)
    assert triggered(small) == first
    waiting(small)


def test_a_newer_key_does_not_wait_for_its_own_restart(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    patches = len(small.patches)
    small.put("three")
    small.pass_by(20)
    assert len(small.patches) == patches + 1
    assert len(triggered(small)) == 1


def test_a_binding_that_is_deleted_gives_its_turn_back(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    late = waiting(small)
    small.unbind("b" if late == "c" else "c")
    small.pass_by(20)
    assert len(triggered(small)) == 2


def test_the_limit_of_the_store_is_named(small: Small) -> None:
    small.limit = 0
    small.store(rollout={"maxWorkloads": 1})
    small.boot()
    small.pass_by(5)
    small.put("two")
    small.pass_by(20)
    assert len(triggered(small)) == 1
    assert "spec.rollout.maxWorkloads of" in small.message("AgentsCurrent", waiting(small))


def test_without_a_limit_all_restart(small: Small) -> None:
    small.limit = 0
    small.boot()
    small.put("two")
    small.pass_by(20)
    assert len(triggered(small)) == 2
