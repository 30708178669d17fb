"""What the status says of calls: how they ended, since when the oldest lasts, and that a call writes no status."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.calls import agent_with_a_call, change, rolled
from voicekeys.model.calls import DrainState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.regressions.small import Small

KINDS = ("completed", "forced", "aborted")


@pytest.fixture
def small() -> Iterator[Small]:
    """An agent whose pod is armed and has a call."""
    with agent_with_a_call(armed=True) as made:
        yield made


def counted(entry: Any) -> dict[str, int]:
    return {kind: entry[kind] for kind in KINDS if kind in entry}


def test_how_the_calls_of_a_change_ended_is_in_the_history(small: Small) -> None:
    change(small)
    rolled(small)
    small.agents.change("old", calls=1, completed=4, aborted=2)
    small.pass_by(10)
    assert counted(small.agent()) == {}  # when the pod's end is recorded, not before
    small.agents.change("old", calls=0, completed=5, aborted=2)
    small.pass_by(10)
    small.end("old")
    small.pass_by(20)
    assert counted(small.status()["history"][-1]) == {"completed": 5, "aborted": 2}
    assert counted(small.agent()) == {}


def test_a_call_that_is_cut_is_beside_those_that_ended(small: Small) -> None:
    change(small)
    rolled(small)
    small.agents.change("old", calls=1, completed=3)
    small.pass_by(2)
    small.end("old")
    small.pass_by(20)
    assert counted(small.status()["history"][-1]) == {"completed": 3, "forced": 1}


def two_pods(small: Small) -> None:
    """One of two old pods ends, the other one has a call."""
    small.workload["spec"]["replicas"] = 2
    small.controller(updated=2, available=2)
    small.pod("busy")
    pod = small.cluster.pods["busy"]
    pod["spec"] |= small.cluster.pods["old"]["spec"]
    pod["status"]["podIP"] = "10.0.0.2"
    small.agents.serve("busy", calls=1)
    small.pass_by(5)
    change(small)
    rolled(small)
    small.pod("new2")
    small.controller(updated=2, available=2)
    small.agents.change("busy", state=DrainState.REFUSING)
    small.terminate("busy")
    small.agents.change("old", calls=0, completed=7)
    small.pass_by(10)
    small.end("old")
    small.pass_by(10)


def test_an_operator_that_starts_again_knows_how_calls_ended(small: Small) -> None:
    two_pods(small)
    assert counted(small.agent()) == {"completed": 7}
    small.boot()
    small.pass_by(10)
    small.agents.change("busy", calls=0, completed=1)
    small.pass_by(10)
    small.end("busy")
    small.pass_by(20)
    assert counted(small.status()["history"][-1]) == {"completed": 8}


def test_a_newer_key_takes_over_no_calls_of_the_change_before(small: Small) -> None:
    two_pods(small)
    small.put("three")
    small.pass_by(20)
    assert counted(small.status()["history"][-1]) == {"completed": 7}
    assert counted(small.agent()) == {}


def test_the_oldest_call_has_a_moment_that_stays(small: Small) -> None:
    assert "oldestCallTime" not in small.agent()
    small.agents.change("old", oldest_seconds=None)
    change(small)
    rolled(small)
    assert "oldestCallTime" not in small.agent()
    began = small.loop.time()

    async def lasts() -> None:
        for second in range(120):
            small.agents.change("old", oldest_seconds=300.0 + small.loop.time() - began)
            await small._pass_by(1, 1.0)
            if second == 20:
                writes.clear()

    writes: list[Any] = []
    small.before_status = writes.append  # type: ignore[method-assign, assignment]
    small.loop.run_until_complete(lasts())
    assert writes == []
    moment = small.agent()["oldestCallTime"]
    assert moment[:-4] in {small.stamp(-420)[:-4], small.stamp(-421)[:-4]}
    small.boot()
    small.pass_by(1)
    assert small.agent()["oldestCallTime"] == moment
    small.agents.change("old", calls=0, completed=1)
    small.pass_by(10)
    assert "oldestCallTime" not in small.agent()


def test_calls_that_come_and_go_write_no_status_each(small: Small) -> None:
    change(small)
    rolled(small)
    writes: list[Any] = []
    small.before_status = writes.append  # type: ignore[method-assign, assignment]

    async def busy() -> None:
        for number in range(600):
            small.agents.change("old", completed=number, oldest_seconds=30.0)
            await asyncio.sleep(0.1)

    small.loop.run_until_complete(busy())
    small.pass_by(1)
    assert len(writes) <= 1
