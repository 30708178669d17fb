"""The list and watch of bindings are kopf's: what the operator's process does when they fail."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.actions import answer, cut_before, expired_watch, garbage
from tests.faults.proxy import Proxy
from tests.reconcilers.harness import Operator, install
from tests.reconcilers.world import World, is_true

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.own_control_plane


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answer(500), id="500"),
        pytest.param(answer(429, retry_after=1), id="429"),
        pytest.param(cut_before(), id="cut"),
        pytest.param(expired_watch(), id="410 in the stream"),
        pytest.param(answer(410), id="410"),
        pytest.param(answer(403), id="403"),
        pytest.param(garbage(), id="garbage"),
    ],
)
def test_the_process_lives_on_and_sees_bindings_again(lab: Lab, fault: Any) -> None:
    install(lab)
    with Proxy(lab.api_url, lab.ca_file) as api:
        operator = Operator(lab, "kopf", kubeconfig=api.kubeconfig(lab, "kopf"), log_level="INFO").start()
        world = World(lab, operator)
        world.put()
        world.bind()
        world.ready(version=1)
        with api.fault(fault, "GET", "/voicekeybindings[?]") as rule:
            api.cut_streams("/voicekeybindings[?]")
            assert rule.hit.wait(10), "kopf's watch did not come back"
            time.sleep(2)
            asked = rule.matched
        assert asked < 20, "a hot loop"
        assert operator.running, "the process ended"
        world.edit(suspend=True)
        world.wait("the edit is seen", lambda: is_true(world.binding(), "Suspended"), seconds=20)
        world.close()
        operator.kill()


def test_the_process_needs_no_name_of_its_user(lab: Lab, tmp_path: Path) -> None:
    """In the image it runs under a number that no `/etc/passwd` knows; kopf asks for a name unless it is given one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\n\ndef getpwuid(uid):\n    raise KeyError(f'getpwuid(): uid not found: {uid}')\n\n"
        "pwd.getpwuid = getpwuid\n"
    )
    install(lab)
    operator = Operator(lab, "nobody")
    operator.env |= dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
    operator.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), operator.env["PYTHONPATH"]])
    try:
        world = World(lab, operator.start())
        world.put()
        world.bind()
        world.ready(version=1)
        world.close()
    finally:
        operator.kill()
    assert not [line for line in operator.logs() if line["event"] == "the watch of bindings ended, starts again"]
