"""An agent whose hook only its manifest may bring (`drain.inject: Off`): what is shown arms its pods, whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.gen import strategic
from tests.regressions.calls import DRAIN, agent_with_a_call, bound
from tests.regressions.small import AGENTS, NS, Small
from voicekeys.policies.conditions import MAX_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

GAUGE = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}


@pytest.fixture
def unarmed() -> Iterator[Small]:
    """An agent whose pod was made before it could be armed."""
    with agent_with_a_call(armed=False) as made:
        yield made


def containers(small: Small, *names: str) -> None:
    (first,) = small.workload["spec"]["template"]["spec"]["containers"]
    small.workload["spec"]["template"]["spec"]["containers"] = [{**first, "name": name} for name in names]
    small.workload["metadata"]["resourceVersion"] = small.cluster.version()


def commit(small: Small, text: str) -> None:
    """Apply a patch to the Deployment, as `kubectl patch` does, and have it rolled out."""
    small.workload["spec"] = strategic.apply(small.workload, json.loads(text))["spec"]
    small.workload["metadata"]["resourceVersion"] = small.cluster.version()
    small.end("old")
    small.pod("new")
    small.cluster.pods["new"]["spec"] |= small.workload["spec"]["template"]["spec"]
    small.cluster.pods["new"]["status"]["podIP"] = "10.0.0.2"
    small.agents.serve("new")
    small.controller()
    small.pass_by(130)


def drain_events(small: Small) -> list[str]:
    return [message for reason, message in small.events if reason == "ManifestNeedsHook"]


SHAPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one container": (DRAIN, ["c"]),
    "three containers": (DRAIN, ["a", "b", "c"]),
    "a gauge": (GAUGE, ["c"]),
    "a gauge and three containers": (GAUGE, ["a", "b", "c"]),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_the_status_shows_arms_the_pods_when_it_is_committed(
    unarmed: Small, shape: tuple[dict[str, Any], list[str]]
) -> None:
    drain, names = shape
    containers(unarmed, *names)
    bound(unarmed, inject="Off", **drain)
    unarmed.pass_by(130)
    assert unarmed.reason("DrainArmed") == "ManifestNeedsHook"
    commit(unarmed, unarmed.agent()["hookPatch"])
    assert unarmed.is_true("DrainArmed")
    assert unarmed.agent()["unarmed"] == 0
    assert "hookPatch" not in unarmed.agent()


def test_condition_and_event_name_the_command_that_prints_it(unarmed: Small) -> None:
    containers(unarmed, "a", "b", "c")
    bound(unarmed, inject="Off", **GAUGE)
    unarmed.pass_by(130)
    command = f"kubectl get vkb b -n {NS} -o jsonpath='{{.status.agents[?(@.name==\"agent\")].hookPatch}}'"
    (event,) = drain_events(unarmed)
    assert unarmed.message("DrainArmed").endswith(command)
    assert event.endswith(command)
    assert len(event.encode()) <= MAX_MESSAGE


def test_a_patch_that_changes_is_told_again_and_one_that_does_not_is_not(unarmed: Small) -> None:
    bound(unarmed, inject="Off")
    unarmed.pass_by(300)
    assert len(drain_events(unarmed)) == 1
    before = unarmed.agent()["hookPatch"]
    bound(unarmed, inject="Off", maxCallDuration="45m")
    unarmed.pass_by(300)
    assert unarmed.agent()["hookPatch"] != before
    assert len(drain_events(unarmed)) == 2


def test_a_status_with_a_patch_is_written_once(unarmed: Small) -> None:
    bound(unarmed, inject="Off", **GAUGE)
    unarmed.pass_by(130)
    writes: list[Any] = []
    unarmed.before_status = writes.append  # type: ignore[method-assign, assignment]
    unarmed.pass_by(600)
    assert writes == []


@pytest.mark.parametrize(
    "agents",
    [
        [{"kind": "Deployment", "name": "agent", "drain": DRAIN}],
        [{"kind": "Deployment", "name": "agent", "drain": {**DRAIN, "inject": "Template"}}],
        AGENTS,
        [],
    ],
    ids=["the API server arms it", "the operator arms it", "it needs no drain", "it is named no more"],
)
def test_it_goes_when_nobody_has_to_commit_it(unarmed: Small, agents: Any) -> None:
    bound(unarmed, inject="Off")
    unarmed.pass_by(130)
    assert "hookPatch" in unarmed.agent()
    unarmed.bind(agents=agents)
    unarmed.pass_by(5)
    assert "hookPatch" not in str(unarmed.status())


def test_it_goes_with_its_workload(unarmed: Small) -> None:
    bound(unarmed, inject="Off")
    unarmed.pass_by(130)
    unarmed.cluster.workloads.clear()
    unarmed.pass_by(5)
    assert "hookPatch" not in str(unarmed.status())
