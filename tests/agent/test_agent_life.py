"""One process with its server, beyond the drain: deadlines, reloads, starting and closing."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.agent.support import BASE, Pod, eventually, free_port
from voicekeys.agent import Agent, Call, Key, PortTaken, ServeError, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def strangers_port() -> Iterator[int]:
    """A port that is in use, though by no agent."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield int(sock.getsockname()[1])


# ---- the deadline


async def test_before_the_deadline_each_live_call_hears_of_it_on_its_own_loop(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(grace=60.0)
    told: list[tuple[str, object]] = []

    async def goodbye(call: Call) -> None:
        await asyncio.sleep(0)
        told.append((call.call_id, asyncio.get_running_loop()))

    pod.agent.on_deadline(goodbye, before=59.8)
    with pod.agent.call("ends before"):
        pass
    async with pod.agent.call("one"), pod.agent.call("two"):
        hook = await asyncio.to_thread(pod.hook)
        await asyncio.to_thread(eventually, lambda: len(told) == 2)
        loop = asyncio.get_running_loop()
        assert sorted(told) == [("one", loop), ("two", loop)]
        assert await asyncio.to_thread(hook.is_silent, 0.1)
    assert len(told) == 2


def test_calls_of_threads_hear_of_it_in_a_thread_and_a_failing_callback_harms_nobody(
    make_pod: Callable[..., Pod], caplog: pytest.LogCaptureFixture
) -> None:
    pod = make_pod(grace=60.0)
    told: list[str] = []

    async def transfer(call: Call) -> None:
        told.append(f"{call.call_id} in {threading.current_thread().name}")

    def fails(_call: Call) -> None:
        raise ValueError("key-material")

    pod.agent.on_deadline(fails, before=60.0)
    pod.agent.on_deadline(transfer, before=60.0)
    with pod.agent.call("one"):
        hook = pod.hook()
        eventually(lambda: told)
        eventually(lambda: "a farewell failed: ValueError" in caplog.text)
    assert hook.reply().status == 200
    assert told == ["one in voicekeys-farewell"]
    assert "key-material" not in caplog.text


def test_without_a_grace_nobody_hears_of_a_deadline(pod: Pod) -> None:
    told: list[Call] = []
    pod.agent.on_deadline(told.append, before=1e9)
    with pod.agent.call():
        pod.hook()
        eventually(lambda: pod.calls()["state"] == "refusing")
        assert pod.calls()["drain"]["deadlineTime"] is None
    assert told == []


# ---- reload


def test_a_reload_changes_the_key_of_new_calls(make_pod: Callable[..., Pod], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("first")
    (tmp_path / "version").write_text("6")
    key = Key(tmp_path / "key", version_file=tmp_path / "version", check=3600)
    pod = make_pod(key=key)
    old = pod.agent.call(key=key).begin()
    assert pod.calls()["keyVersion"] == "6"
    (tmp_path / "key").write_text("second")
    (tmp_path / "version").write_text("7")
    reply = pod.post("reload")
    assert (reply.status, reply.json["keyVersion"]) == (200, "7")
    with pod.agent.call(key=key):
        assert pod.calls()["activeByKeyVersion"] == {"6": 1, "7": 1}
        assert key.value() == "second"
    old.end()


def test_nothing_to_reload(pod: Pod) -> None:
    assert pod.post("reload").status == 501


def test_a_reload_that_fails_says_so_and_no_more(
    make_pod: Callable[..., Pod], caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ValueError("key-material")

    pod = make_pod(on_reload=fails)
    reply = pod.post("reload")
    assert (reply.status, reply.json["error"]) == (500, "reload failed")
    assert "reload failed: ValueError" in caplog.text
    assert "key-material" not in caplog.text + reply.body.decode()


def test_a_slow_reload_does_not_hold_up_the_drain(make_pod: Callable[..., Pod]) -> None:
    free = threading.Event()
    pod = make_pod(on_reload=free.wait)
    reload = pod.open().ask(BASE + "reload", "POST")
    assert pod.hook().reply().status == 200
    free.set()
    assert reload.reply().status == 200


# ---- starting


def test_serving_twice_is_serving_once(pod: Pod) -> None:
    assert pod.agent.serve(settings=Settings(port=free_port())) == pod.port


def test_a_taken_port_is_named_and_so_is_who_has_it(make_pod: Callable[..., Pod]) -> None:
    with strangers_port() as port, pytest.raises(PortTaken) as caught:
        make_pod(port=port, join=0.1)
    assert f"port {port} is in use by process {os.getpid()} (" in str(caught.value)
    assert "serve(port=" in str(caught.value)


def test_an_address_that_is_not_here_is_named(make_pod: Callable[..., Pod]) -> None:
    with pytest.raises(ServeError, match="cannot be served"):
        make_pod(host="192.0.2.1", join=0.1)


def test_after_a_failed_start_another_port_can_be_tried() -> None:
    agent = Agent()
    try:
        with strangers_port() as port, pytest.raises(PortTaken):
            agent.serve(settings=Settings(port=port, join=0.05))
        assert Pod(agent.serve(settings=Settings(port=0, token="t")), agent).serves()
    finally:
        agent.close()


@pytest.mark.parametrize(("name", "value"), [("VOICEKEYS_DRAIN_PORT", "http"), ("VOICEKEYS_GRACE_SECONDS", "30m")])
def test_a_variable_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ServeError, match=name):
        Agent().serve()


def test_the_environment_says_what_the_code_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("VOICEKEYS_DRAIN_PORT", str(port))
    monkeypatch.setenv("VOICEKEYS_DRAIN_TOKEN", "from-the-environment")
    monkeypatch.setenv("VOICEKEYS_GRACE_SECONDS", "600")
    agent = Agent()
    try:
        assert agent.serve(settle=0.0) == port
        pod = Pod(port, agent)
        assert pod.ask("cordon", "POST", token="wrong").status == 401
        with agent.call():
            pod.open().ask(BASE + "drain", token="from-the-environment")
            assert eventually(lambda: pod.calls()["drain"]["deadlineTime"])
    finally:
        agent.close()


def test_a_closed_agent_serves_no_more_and_gives_its_port_back() -> None:
    agent, port = Agent(), free_port()
    agent.serve(settings=Settings(port=port))
    agent.close()
    assert not Pod(port).serves()
    again = Agent()
    try:
        again.serve(settings=Settings(port=port))
        assert Pod(port).serves()
    finally:
        again.close()
