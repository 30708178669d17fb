"""A node is lost while a pod of it drains: its calls are unknown until it is seen again, neither none nor cut."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import eventually
from tests.nodes.operators import leader
from tests.nodes.scenes import change_with_a_call, end_well

if TYPE_CHECKING:
    from tests.lab.nodes import RealNodes
    from tests.nodes.lines import Lines
    from tests.nodes.scenes import Scene

pytestmark = pytest.mark.usefixtures("operator")
NODE = "worker-1"
LOST_SECONDS = 20


def stays_open(lines: Lines, nodes: RealNodes) -> None:
    """For a while after the node counts as lost, nobody says that its calls have ended."""
    nodes.await_ready(NODE, state=False)
    end = time.monotonic() + LOST_SECONDS
    while time.monotonic() < end:
        assert lines.condition("CallsDrained")["status"] != "True"
        assert not lines.status().get("history") or lines.status()["history"][-1]["toVersion"] != lines.version
        time.sleep(0.5)


def test_a_node_that_is_cut_off_and_comes_back(scene: Scene, nodes: RealNodes) -> None:
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    lines.until("CallsDrained", "False", "Draining")
    nodes.cut(NODE)
    try:
        stays_open(lines, nodes)
    finally:
        nodes.mend(NODE)
    nodes.await_ready(NODE)
    eventually(lambda: leader(nodes), "a leader", 90)
    lines.until("CallsDrained", "False", "Draining", 90)
    end_well(lines, pod)


def test_a_node_that_loses_its_power_has_cut_its_calls(scene: Scene, nodes: RealNodes) -> None:
    """No hook outlives its node; what counts is that it is told."""
    lines = scene(replicas=1)
    change_with_a_call(lines)
    lines.until("CallsDrained", "False", "Draining")
    nodes.kill(NODE)
    try:
        stays_open(lines, nodes)
    finally:
        nodes.boot(NODE)
    nodes.await_ready(NODE)
    lines.finished(240)
    told = [*lines.events("CallsForced"), *lines.events("CallsMayBeCut")]
    assert any("cut" in text for text in told), told
