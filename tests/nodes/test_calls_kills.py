"""No call is cut when the operator is killed, whatever it was about to do: SIGKILL, and the other replica goes on."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import eventually
from tests.nodes.lines import KEY, NAME
from tests.nodes.operators import kill_leader, leader
from tests.nodes.scenes import change_with_a_call, end_well

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.nodes import RealNodes
    from tests.nodes.lines import Lines
    from tests.nodes.scenes import Scene

pytestmark = pytest.mark.usefixtures("operator")
FAILOVER_SECONDS = 90
"""A Lease that expires, a replica that takes over, and a machine that has much else to do."""


def at_once(_lines: Lines) -> None:
    """The new key is being read."""


def written(lines: Lines) -> None:
    """The Secret has the new key."""
    path = f"/api/v1/namespaces/{lines.stage.namespace}/secrets/{KEY}"

    def so() -> bool:
        return base64.b64decode(lines.lab.api("GET", path)["data"]["API_KEY"]) == b"second"

    eventually(so, "the Secret with the new key", 60, pause=0.02)


def propagating(lines: Lines) -> None:
    """The status says that nodes are waited for."""
    lines.until("AgentsCurrent", "False", "Propagating")


def patched(lines: Lines) -> None:
    """The pod template has its trigger."""

    def so() -> bool:
        marks = lines.stage.deployment(NAME)["spec"]["template"]["metadata"].get("annotations") or {}
        return f"voicekeys.dev/key.{KEY}" in marks

    eventually(so, "the template's trigger", 60, pause=0.02)


def draining(lines: Lines) -> None:
    """The old pod is told to drain."""
    lines.draining(lines.pods[0])


def counted(lines: Lines) -> None:
    """The status tells of its call."""
    lines.until("CallsDrained", "False", "Draining")


@pytest.mark.parametrize("moment", [at_once, written, propagating, patched, draining, counted])
def test_the_operator_killed_when(moment: Callable[[Lines], None], scene: Scene, nodes: RealNodes) -> None:
    """The other replica goes on with what the status says, and sees the call's end."""
    lines = scene(replicas=1)
    pod = lines.pods[0]
    lines.begin(pod)
    lines.change()
    moment(lines)
    kill_leader(nodes)
    lines.draining(pod, seconds=FAILOVER_SECONDS)
    assert lines.cut(pod) == []
    eventually(lambda: leader(nodes), "another leader", FAILOVER_SECONDS)
    lines.until("CallsDrained", "False", "Draining", FAILOVER_SECONDS)
    end_well(lines, pod)


def test_the_operator_killed_when_the_last_call_ends(scene: Scene, nodes: RealNodes) -> None:
    """Nobody may have seen the pod's end: then that is said, and not that all went well."""
    lines = scene(replicas=1)
    pod = change_with_a_call(lines)
    lines.until("CallsDrained", "False", "Draining")
    lines.end(pod)
    kill_leader(nodes)
    lines.await_end(pod)
    assert lines.cut(pod) == []
    eventually(lambda: leader(nodes), "another leader", FAILOVER_SECONDS)

    def told() -> bool:
        found = lines.condition("CallsDrained")
        return (found.get("status"), found.get("reason")) in {("True", "Drained"), ("Unknown", "Unwitnessed")}

    eventually(told, "a seen end, or one that nobody saw", FAILOVER_SECONDS)
    assert not lines.events("CallsForced")
