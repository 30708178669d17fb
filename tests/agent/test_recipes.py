"""The recipes of `deploy/examples/agents/`, as they are: with hook and SIGTERM, while calls are live."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.agent.support import RECIPES, Pod, Program, eventually, free_port, running
from tests.agent.test_servers import talks

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLE = "0.1"
WEBSOCKETS = [
    ("uvicorn_websocket.py", "media"),
    ("fastapi_websocket.py", "media"),
    ("aiohttp_websocket.py", "media"),
    ("pipecat_bot.py", "ws"),
]


class Recipe:
    """A recipe that runs."""

    def __init__(self, program: Program, port: int, pod: Pod) -> None:
        self.program = program
        self.port = port
        self.pod = pod

    def counts(self, active: int, state: str = "serving") -> None:
        eventually(lambda: (self.pod.calls()["active"], self.pod.calls()["state"]) == (active, state), state)


def start(name: str, **environment: str) -> Iterator[Recipe]:
    port, drain = free_port(), free_port()
    environment = {
        "PORT": str(port),
        "VOICEKEYS_DRAIN_PORT": str(drain),
        "VOICEKEYS_SETTLE_SECONDS": SETTLE,
        **environment,
    }
    with running(RECIPES / name, **environment) as program:
        recipe = Recipe(program, port, Pod(drain))
        eventually(recipe.pod.serves)
        yield recipe
        assert "Traceback" not in program.said()


async def dial(recipe: Recipe, path: str) -> ClientConnection:
    for _ in range(2000):
        try:
            return await connect(f"ws://127.0.0.1:{recipe.port}/{path}")
        except OSError:
            await asyncio.sleep(0.01)
    raise AssertionError(f"nobody answers: {recipe.program.said()}")


@pytest.mark.parametrize(("name", "path"), WEBSOCKETS)
async def test_a_websocket_agent_drains_as_a_kubelet_does_it(name: str, path: str) -> None:
    """PreStop holds; SIGTERM comes when it has answered; nothing is cut, and the process ends at once."""
    for recipe in start(name):
        calls = [await dial(recipe, path) for _ in range(5)]
        await asyncio.to_thread(recipe.counts, 5)
        hook = recipe.pod.hook()
        await asyncio.to_thread(recipe.counts, 5, "refusing")
        with pytest.raises(Exception, match=r"HTTP (503|403)"):
            await connect(f"ws://127.0.0.1:{recipe.port}/{path}")
        for call in calls:
            assert hook.is_silent(0.01)
            assert await talks(call)
            await call.close()
        assert (await asyncio.to_thread(hook.reply)).json == {"contract": 1, "state": "idle", "active": 0, "forced": 0}
        recipe.program.signal()
        code = await asyncio.to_thread(recipe.program.end)
        assert code in {0, -signal.SIGTERM}


@pytest.mark.parametrize(("name", "path"), WEBSOCKETS)
async def test_a_websocket_agent_outlives_sigterm_without_any_hook(name: str, path: str) -> None:
    for recipe in start(name):
        call = await dial(recipe, path)
        await asyncio.to_thread(recipe.counts, 1)
        recipe.program.signal()
        await asyncio.to_thread(eventually, lambda recipe=recipe: recipe.pod.calls()["state"] == "refusing")
        recipe.program.signal()
        assert await talks(call)
        await call.close()
        await asyncio.to_thread(recipe.program.end)


async def test_a_bot_says_goodbye_before_the_grace_ends() -> None:
    for recipe in start("pipecat_bot.py", VOICEKEYS_GRACE_SECONDS="60", GOODBYE_SECONDS="59.5"):
        call = await dial(recipe, "ws")
        assert await talks(call)
        hook = recipe.pod.hook()
        assert await asyncio.wait_for(call.recv(), 20) == b"goodbye"
        await call.close()
        assert (await asyncio.to_thread(hook.reply)).json["state"] == "idle"


class Phone:
    """A SIP client: one dialog."""

    def __init__(self, port: int, call_id: str) -> None:
        self.call_id = call_id
        self.sock = socket.socket(type=socket.SOCK_DGRAM)
        self.sock.connect(("127.0.0.1", port))
        self.sock.settimeout(0.5)

    def ask(self, method: str, sequence: int = 1) -> str:
        """Send until answered: UDP has no ears before the agent listens."""
        request = (
            f"{method} sip:agent@pod SIP/2.0\r\nVia: SIP/2.0/UDP phone;branch=z9hG4bK{self.call_id}{sequence}\r\n"
            f"From: <sip:phone@x>;tag=1\r\nTo: <sip:agent@pod>\r\nCall-ID: {self.call_id}\r\n"
            f"CSeq: {sequence} {method}\r\nContent-Length: 0\r\n\r\n"
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                self.sock.send(request.encode())
                return self.sock.recv(4096).decode()
            except (TimeoutError, ConnectionRefusedError):
                continue
        raise AssertionError("no answer")


def test_a_sip_agent_finishes_its_calls_and_sends_new_ones_elsewhere() -> None:
    for recipe in start("sip_ua.py"):
        phones = [Phone(recipe.port, f"call-{number}") for number in range(5)]
        for phone in phones:
            assert phone.ask("INVITE").startswith("SIP/2.0 200 OK")
        assert phones[0].ask("INVITE", 2).startswith("SIP/2.0 200 OK")  # inside the call: no new one
        recipe.counts(5)
        hook = recipe.pod.hook()
        recipe.counts(5, "refusing")
        refused = Phone(recipe.port, "late").ask("INVITE")
        assert refused.startswith("SIP/2.0 503 Service Unavailable")
        assert "Retry-After: 1\r\n" in refused
        assert "Call-ID: late\r\n" in refused
        assert phones[0].ask("INVITE", 3).startswith("SIP/2.0 200 OK")
        assert Phone(recipe.port, "x").ask("OPTIONS").startswith("SIP/2.0 200 OK")
        recipe.program.signal()
        for phone in phones:
            assert hook.is_silent(0.02)
            assert phone.ask("BYE", 9).startswith("SIP/2.0 200 OK")
        assert hook.reply().status == 200
        assert recipe.program.end() == 0


def test_a_prefork_server_s_workers_are_one_pod() -> None:
    for recipe in start("prefork.py", WORKERS="3"):
        lines = [dial_line(recipe.port) for _ in range(3)]
        assert len({line.readline() for line in lines}) == 3
        recipe.counts(3)
        hook = recipe.pod.hook()
        recipe.counts(3, "refusing")
        recipe.program.signal()
        for line in lines:
            assert hook.is_silent(0.1)
            line.write(b"hello\n")
            line.flush()
            assert line.readline() == b"hello\n"
            line.close()
        assert hook.reply().json["state"] == "idle"
        assert recipe.program.end() == 0


def dial_line(port: int) -> BinaryIO:
    def dial() -> list[socket.socket]:
        try:
            return [socket.create_connection(("127.0.0.1", port), timeout=20)]
        except OSError:
            return []

    return cast("BinaryIO", eventually(dial)[0].makefile("rwb"))
