"""SIGTERM, from a real kernel to real servers: held, handed on once, in time."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.agent.support import PROGRAMS, Pod, Program, eventually, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARDED = PROGRAMS / "guarded.py"


def start(server: str, when: str, **environment: str) -> Iterator[Program]:
    with running(GUARDED, server, when, **environment) as program:
        program.hear("ready")
        yield program


@pytest.fixture(params=["plain before", "plain startup", "loop before", "loop startup"])
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    """A program with a handler of its own, and a guard that came before or after it."""
    server, when = request.param.split()
    yield from start(server, when)


@pytest.fixture
def plain() -> Iterator[Program]:
    yield from start("plain", "before")


def begin(program: Program) -> None:
    program.tell("begin")
    program.hear("begun")


def end(program: Program) -> None:
    program.tell("end")
    program.hear("ended")


def is_held(program: Program, seconds: float = 0.3) -> bool:
    time.sleep(seconds)
    return program.is_running and "stopping" not in program.said()


def stopped(program: Program) -> int:
    """How often the server's own handler ran."""
    assert program.end() == 0, program.said()
    return program.said().count("stopping")


def test_sigterm_waits_for_the_last_call_and_comes_once(program: Program) -> None:
    begin(program)
    begin(program)
    for _ in range(3):
        program.signal()
        assert is_held(program, 0.1)
    end(program)
    assert is_held(program)
    end(program)
    assert stopped(program) == 1


def test_an_idle_program_ends_at_once(program: Program) -> None:
    program.signal()
    assert stopped(program) == 1


@pytest.mark.parametrize("server", ["plain", "loop"])
def test_sigint_is_not_held(server: str) -> None:
    for program in start(server, "before"):
        begin(program)
        program.signal(signal.SIGINT)
        program.hear("interrupted")
        assert program.end() == 0


def test_late_calls_are_taken_while_sigterm_settles() -> None:
    for program in start("plain", "before", SETTLE="0.6"):
        program.signal()
        begin(program)
        assert is_held(program, 0.8)
        end(program)
        assert stopped(program) == 1


def test_without_a_handler_the_signal_kills_as_it_always_did() -> None:
    for program in start("default", "before"):
        begin(program)
        program.signal()
        time.sleep(0.2)
        assert program.is_running
        program.tell("end")
        assert program.end() == -signal.SIGTERM


def test_shortly_before_the_grace_ends_the_server_may_close_what_is_left() -> None:
    for program in start("plain", "before", VOICEKEYS_GRACE_SECONDS="1.6"):
        begin(program)
        program.signal()
        assert is_held(program, 0.2)
        assert stopped(program) == 1
        assert "the grace ends with 1 live call(s)" in program.said()


def test_after_the_hook_has_drained_sigterm_is_handed_on_at_once() -> None:
    port = free_port()
    for program in start("plain", "before", DRAIN_PORT=str(port)):
        pod = Pod(port)
        begin(program)
        hook = pod.hook()
        assert hook.is_silent(0.1)
        end(program)
        assert hook.reply().json["state"] == "idle"
        sent = time.monotonic()
        program.signal()
        program.hear("stopping")
        took = time.monotonic() - sent
        print(f"SIGTERM to the server's own handler: {1000 * took:.1f} ms")
        assert took < 0.25
        assert program.end() == 0


def test_sigterm_alone_is_a_drain_for_everybody_to_see() -> None:
    port = free_port()
    for program in start("plain", "before", DRAIN_PORT=str(port)):
        pod = Pod(port)
        begin(program)
        program.signal()
        eventually(lambda pod=pod: pod.calls()["state"] == "refusing")  # type: ignore[misc]
        hook = pod.hook()
        assert hook.is_silent(0.1)
        end(program)
        assert hook.reply().json["state"] == "idle"
        assert stopped(program) == 1


def test_a_release_hands_sigterm_on() -> None:
    port = free_port()
    for program in start("plain", "before", DRAIN_PORT=str(port)):
        pod = Pod(port)
        begin(program)
        program.signal()
        eventually(lambda pod=pod: pod.calls()["state"] == "refusing")  # type: ignore[misc]
        assert pod.post("release").json["forced"] == 1
        assert stopped(program) == 1


def test_a_second_worker_s_end_is_its_own() -> None:
    """One worker of a pool is told to end: it drains itself, and the pod goes on."""
    port = str(free_port())
    with contextlib.ExitStack() as stack:
        leader = stack.enter_context(running(GUARDED, "plain", "before", DRAIN_PORT=port))
        leader.hear("ready")  # before the other one starts: it is to have the port
        worker = stack.enter_context(running(GUARDED, "plain", "before", DRAIN_PORT=port))
        worker.hear("ready")
        pod = Pod(int(port))
        eventually(lambda: pod.calls()["processes"] == 2)
        begin(worker)
        worker.signal()
        assert is_held(worker)
        assert pod.calls()["state"] == "serving"
        begin(leader)
        end(worker)
        assert stopped(worker) == 1
        eventually(lambda: pod.calls()["processes"] == 1)
        eventually(lambda: pod.calls()["active"] == 1)
