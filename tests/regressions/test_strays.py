"""Pods that leave their workload without ending: a watch by selector shows them as deleted, and they hold a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.small import Small

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small() -> Iterator[Small]:
    with Small() as made:
        made.deploy(replicas=2)
        made.pod("old-1")
        made.pod("old-2")
        made.bind()
        made.pass_by(5)
        made.put("two")
        made.pass_by(12)
        made.pod("new-1")
        made.pod("new-2")
        made.controller(updated=2, available=2)
        made.end("old-1")
        yield made


def old_pods(small: Small) -> list[dict[str, Any]]:
    return small.agent().get("oldPods") or []


DEBUG = {"labels": {"app": "agent-debug"}, "ownerReferences": []}
ORPHANED: dict[str, Any] = {"ownerReferences": []}


@pytest.mark.parametrize("change", [DEBUG, ORPHANED], ids=["relabelled", "let go by its owner"])
def test_a_pod_that_left_its_workload_is_followed_to_its_end(small: Small, change: dict[str, Any]) -> None:
    small.relabel("old-2", **change)
    small.pass_by(900, 5)
    assert small.is_true("Ready"), "it takes no new calls"
    assert small.secret() == "two"
    (held,) = old_pods(small)
    assert held["name"] == "old-2"
    assert "vanishedTime" not in held
    assert small.reason("CallsDrained") == "Draining"
    assert not small.outcomes()
    small.end("old-2")
    small.pass_by(5)
    assert small.outcomes() == ["Completed"]
    assert small.status()["history"][-1]["unwitnessed"] == 0


def test_one_that_left_while_the_operator_was_down_is_found_again(small: Small) -> None:
    small.relabel("old-2", **DEBUG)
    small.outage(300)
    small.pass_by(900, 5)
    assert small.is_true("Ready")
    assert [pod["name"] for pod in old_pods(small)] == ["old-2"]
    assert not small.outcomes()


def test_one_that_is_gone_indeed_is_unknown_then_counted(small: Small) -> None:
    small.outage(60)
    small.cluster.pods.pop("old-2")
    small.boot()
    small.pass_by(5)
    assert small.reason("CallsDrained") == "Unwitnessed"
    small.pass_by(120, 5)
    assert small.status()["history"][-1]["unwitnessed"] > 0


def test_one_that_was_relabelled_before_it_had_a_node_may_run_later(small: Small) -> None:
    small.pod("stray", annotations={})
    small.cluster.pods["stray"]["spec"].pop("nodeName")
    small.relabel("stray")
    small.pass_by(3)
    small.relabel("stray", **DEBUG)
    small.end("old-2")
    small.pass_by(10)
    assert [pod["name"] for pod in old_pods(small)] == ["stray"]
    assert not small.outcomes()


def test_one_that_was_deleted_before_it_had_a_node_never_ran(small: Small) -> None:
    small.pod("stray", annotations={})
    small.cluster.pods["stray"]["spec"].pop("nodeName")
    small.relabel("stray")
    small.pass_by(3)
    small.cluster.tell("DELETED", small.cluster.pods.pop("stray"))
    small.end("old-2")
    small.pass_by(10)
    assert small.outcomes() == ["Completed"]
    assert small.status()["history"][-1]["unwitnessed"] == 0
