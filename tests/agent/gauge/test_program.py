"""``python -m voicekeys.agent.gauge`` as a native sidecar runs it: a process, its environment, its signals, its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.agent.gauge.shapes import SYSTEMS
from tests.agent.gauge.support import StandIn, standin
from tests.agent.support import TOKEN, Pod, Program, eventually, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = Path("-m")


@contextmanager
def sidecar(agent: StandIn | None, **environment: str) -> Iterator[tuple[Program, Pod]]:
    """Run the sidecar as arming starts it."""
    port = free_port()
    settings = {"VOICEKEYS_DRAIN_PORT": str(port), "VOICEKEYS_SETTLE_SECONDS": "0.1"}
    if agent is not None:
        settings["VOICEKEYS_GAUGE_URL"] = agent.url
        shape = agent.shape
        if shape.metric is not None:
            settings["VOICEKEYS_GAUGE_METRIC"] = shape.metric
        else:
            settings["VOICEKEYS_GAUGE_JSON_POINTER"] = shape.pointer or ""
        if shape.witness is not None:
            settings["VOICEKEYS_GAUGE_ZERO_IF_PRESENT"] = shape.witness
        if shape.authorization is not None:
            settings["VOICEKEYS_GAUGE_AUTHORIZATION"] = shape.authorization
    with running(MODULE, "voicekeys.agent.gauge", **{**settings, **environment}) as program:
        pod = Pod(port)
        if program.is_running:
            eventually(lambda: pod.serves() or not program.is_running)
        yield program, pod


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_drain_beside_each_system(system: str) -> None:
    with standin(system, calls=2) as agent, sidecar(agent) as (program, pod):
        assert pod.calls()["active"] == 2
        hook = pod.hook()
        eventually(lambda: pod.calls()["state"] == "refusing")
        assert hook.is_silent(0.3)
        agent.calls(0)
        ended = time.monotonic()
        assert hook.reply().json == {"contract": 1, "state": "idle", "active": 0, "forced": 0}
        assert time.monotonic() - ended >= 1.0, "zero has to last a second"
        program.signal()
        assert program.end() == 0
        said = program.said()
    assert "Traceback" not in said
    for secret in (TOKEN, agent.shape.path, agent.shape.authorization or TOKEN):
        assert secret not in said


@pytest.mark.parametrize("system", [name for name, shape in SYSTEMS.items() if shape.authorization])
def test_a_wrong_password_is_unknown_and_in_no_log(system: str) -> None:
    wrong = "Basic d3Jvbmc6c2VjcmV0"
    with standin(system) as agent, sidecar(agent, VOICEKEYS_GAUGE_AUTHORIZATION=wrong) as (program, pod):
        calls = pod.calls()
        assert (calls["complete"], calls["gauge"]["error"]) == (False, "unauthorized")
        hook = pod.hook()
        assert hook.is_silent(2.0)
        assert "not known (unauthorized)" in program.said()
        assert wrong not in program.said()


def test_without_a_witness_what_is_left_out_at_zero_is_unknown() -> None:
    """LiveKit agents leave the number out: a wrong path would look the same."""
    with standin("livekit-agents") as agent, sidecar(agent, VOICEKEYS_GAUGE_ZERO_IF_PRESENT="") as (_, pod):
        calls = pod.calls()
        assert (calls["complete"], calls["gauge"]["error"]) == (False, "absent")
        assert pod.hook().is_silent(1.5)


def test_sigterm_ends_it_at_once_also_while_a_hook_is_held() -> None:
    """K6: it comes when the containers have ended."""
    with standin(calls=2) as agent, sidecar(agent) as (program, pod):
        hook = pod.hook()
        eventually(lambda: pod.calls()["state"] == "refusing")
        begun = time.monotonic()
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        assert time.monotonic() - begun < 2
        assert hook.is_closed()
        assert "ended with 2 live call(s)" in program.said()


def test_what_the_grace_cuts_is_logged() -> None:
    with standin(calls=2) as agent, sidecar(agent, VOICEKEYS_GRACE_SECONDS="2") as (program, pod):
        hook = pod.hook()
        program.hear("")
        eventually(lambda: "the grace ends: 2 live call(s) will be cut" in program.said())
        assert hook.is_silent(0.5)


def test_wrong_settings_serve_a_drain_that_waits() -> None:
    """A native sidecar that crashes would keep its pod from starting."""
    with sidecar(None, VOICEKEYS_GAUGE_URL="nonsense") as (program, pod):
        calls = pod.calls()
        assert (calls["complete"], calls["gauge"]["error"]) == (False, "settings")
        hook = pod.hook()
        assert hook.is_silent(1.5)
        assert pod.post("release").status == 200
        assert hook.reply().json["state"] == "released"
        assert "ERROR the settings are wrong" in program.said()
        assert "nonsense" not in program.said()


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with running(MODULE, "voicekeys.agent.gauge", VOICEKEYS_DRAIN_PORT=str(port)) as program:
            assert program.end() == 1
            assert f"port {port} cannot be served" in program.said()


def test_without_a_token_it_says_so() -> None:
    with standin() as agent, sidecar(agent, VOICEKEYS_DRAIN_TOKEN="") as (program, pod):
        assert pod.calls()["token"] is False
        assert "no VOICEKEYS_DRAIN_TOKEN" in program.said()


def test_it_needs_nothing_but_the_standard_library() -> None:
    """The image has more; a user may run it in any image with Python."""
    code = (
        "import sys; before = set(sys.modules); import voicekeys.agent.gauge.__main__;"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(roots - set(sys.stdlib_module_names)))"
    )
    root = str(Path(__file__).parents[3] / "operator")
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "['voicekeys']"


def test_it_is_small() -> None:
    """There is one beside each pod of the agent: 25 MiB when this was written, most of it Python and asyncio."""
    with standin("asterisk", calls=2) as agent, sidecar(agent) as (program, pod):
        assert pod.calls()["active"] == 2
        status = Path(f"/proc/{program.process.pid}/status").read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 40 * 1024
