"""Deletion costs: which pods a ReplicaSet ends first is said before it is told to end any, and once (facts K11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.calls import agent_with_a_call, change, hook
from voicekeys.api.names import DELETION_COST_ANNOTATION
from voicekeys.model.errors import ApiForbidden

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.regressions.small import Small

TEMPLATE = "the template"


@pytest.fixture
def small() -> Iterator[Small]:
    """An agent with three pods: `old` has a call, `idle` none, `busy` seven."""
    with agent_with_a_call(armed=True) as made:
        made.workload["spec"]["replicas"] = 3
        made.controller(updated=3, available=3)
        for name, calls in {"idle": 0, "busy": 7}.items():
            serve(made, name, calls)
        made.pass_by(5)
        yield made


def serve(small: Small, name: str, calls: int) -> None:
    small.pod(name)
    hook(small, name)
    small.agents.serve(name, calls=calls)


@pytest.fixture
def writes(small: Small) -> list[str]:
    """What is written from now on, in order: a pod's name and its cost, or `TEMPLATE`."""
    seen: list[str] = []
    pod, template = small.cluster.annotate_pod, small.cluster.annotate_template

    async def annotate_pod(namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> None:
        assert list(annotations) == [DELETION_COST_ANNOTATION]
        seen.append(f"{name} {annotations[DELETION_COST_ANNOTATION]}")
        await pod(namespace, name, uid, annotations)

    async def annotate_template(*arguments: Any) -> Any:
        seen.append(TEMPLATE)
        return await template(*arguments)

    small.cluster.annotate_pod = annotate_pod  # type: ignore[method-assign]
    small.cluster.annotate_template = annotate_template  # type: ignore[method-assign,assignment]
    return seen


def costs(writes: list[str]) -> dict[str, int]:
    return {name: int(cost) for name, cost in (one.split() for one in writes if one != TEMPLATE)}


def test_every_cost_is_there_before_the_template_changes(small: Small, writes: list[str]) -> None:
    change(small)
    assert len(writes) == 4
    assert writes[-1] == TEMPLATE
    assert costs(writes) == {"idle": 0, "old": 1, "busy": 7}


def test_it_is_written_once_for_each_pod_and_change(small: Small, writes: list[str]) -> None:
    """Each write is one more for an API server that has a thousand pods to look after; and calls come and go."""
    change(small)
    for name in ("one", "two", "three"):
        serve(small, name, calls=2)
    small.controller(updated=3, available=3)
    small.agents.change("busy", calls=3, completed=4)
    small.pass_by(30)
    small.terminate("idle")
    small.pass_by(30)
    assert writes.count(TEMPLATE) == 1
    assert sorted(writes[:3]) == ["busy 7", "idle 0", "old 1"]
    assert writes[3:] == [TEMPLATE]


def test_the_next_change_has_the_calls_of_its_own_time(small: Small, writes: list[str]) -> None:
    change(small)
    for name, calls in {"one": 5, "two": 2, "three": 9}.items():
        serve(small, name, calls)
    small.controller(updated=3, available=3)
    for name in ("idle", "old", "busy"):
        small.agents.change(name, calls=0)
        small.end(name)
    small.pass_by(20)
    assert small.outcomes() == ["Completed"]
    first = len(writes)
    small.put("three")
    small.pass_by(20)
    assert costs(writes[first:]) == {"two": 2, "one": 5, "three": 9}
    assert writes[-1] == TEMPLATE


def test_while_the_restart_is_held_nothing_is_written(small: Small, writes: list[str]) -> None:
    """By a pod whose hook would not work: the costs would be those of another time."""
    small.agents.change("old", closed=True)
    change(small)
    small.pass_by(120)
    assert writes == []
    small.agents.change("old", closed=False)
    small.agents.change("idle", calls=4)
    small.pass_by(20)
    assert costs(writes) == {"old": 1, "idle": 4, "busy": 7}
    assert writes[-1] == TEMPLATE


def test_who_says_nothing_of_his_calls_ends_last(small: Small, writes: list[str]) -> None:
    del small.agents.pods["idle"]
    change(small)
    assert costs(writes) == {"old": 1, "busy": 7, "idle": 8}
    assert writes[-1] == TEMPLATE


def test_where_nobody_has_a_call_there_is_no_order_to_write(small: Small, writes: list[str]) -> None:
    for name in ("old", "idle", "busy"):
        small.agents.change(name, calls=0)
    change(small)
    assert writes == [TEMPLATE]


def test_a_cost_that_cannot_be_written_keeps_no_restart(small: Small, writes: list[str]) -> None:
    async def refuse(*_: object) -> None:
        raise ApiForbidden("Forbidden", "patch pods: check the operator's RBAC", status=403)

    small.cluster.annotate_pod = refuse  # type: ignore[method-assign,assignment]
    change(small)
    assert writes == [TEMPLATE]
