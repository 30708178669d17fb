"""An agent that was never made for it: see proxies.py. Its calls outlive the change of its key all the same."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import eventually
from tests.nodes import proxies
from tests.nodes.operators import process_of
from tests.nodes.proxies import Connection, Proxies
from tests.nodes.scenes import HOLD
from tests.nodes.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.nodes import RealNodes
    from tests.nodes.witness import Witness

pytestmark = [
    pytest.mark.usefixtures("operator"),
    pytest.mark.skipif(proxies.missing() is not None, reason=str(proxies.missing())),
]


@pytest.fixture(scope="module")
def haproxy(nodes: RealNodes, witness: Witness, tmp_path_factory: pytest.TempPathFactory) -> Proxies:
    """HAProxy as an agent."""
    folder: Path = tmp_path_factory.mktemp("haproxy")
    nodes.load(proxies.image(folder))
    return Proxies(Stage(nodes, witness, nodes.lab.make_namespace("foreign")), replicas=1, drain=proxies.drain())


def test_its_calls_outlive_the_change_of_its_key(haproxy: Proxies) -> None:
    (pod,) = haproxy.pods
    call = Connection(haproxy.address(pod))
    haproxy.change()
    haproxy.draining(pod)
    told = haproxy.until("CallsDrained", "False", "Draining")
    assert "1 call" in told["message"]
    time.sleep(HOLD)
    assert call.lives
    call.close()
    entry = haproxy.finished()
    assert "forced" not in entry, entry
    assert entry["unwitnessed"] == 0


def test_without_a_hook_they_are_cut_at_once(haproxy: Proxies) -> None:
    """So that the test above tests something: the same pod, and nothing that holds it."""
    (pod,) = haproxy.fresh()
    call = Connection(haproxy.address(pod))
    assert call.lives
    os.kill(process_of(pod, proxies.NAME_VARIABLE), signal.SIGTERM)
    eventually(lambda: not call.lives, "the call is cut", 5)
