"""Real servers with live WebSockets and a real SIGTERM (K14: alone, they cut them at once)."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.agent.support import PROGRAMS, Program, eventually, free_port, running

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

SERVERS = PROGRAMS / "servers.py"
LIVE = 20


async def open_media(port: int) -> ClientConnection:
    """Connect, again while the server starts."""
    for _ in range(1000):
        try:
            return await connect(f"ws://127.0.0.1:{port}/media")
        except OSError:
            await asyncio.sleep(0.01)
    raise AssertionError("the server never listened")


async def talks(call: ClientConnection, text: bytes = b"frame") -> bool:
    await call.send(text)
    return await asyncio.wait_for(call.recv(), 20) == text


async def is_refused(port: int) -> bool:
    """A new call is answered 503 with Retry-After."""
    try:
        extra = await connect(f"ws://127.0.0.1:{port}/media")
    except InvalidStatus as answer:
        return (answer.response.status_code, answer.response.headers["Retry-After"]) == (503, "1")
    await extra.close()
    return False


async def until_refused(port: int) -> None:
    for _ in range(2000):
        if await is_refused(port):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("new calls are still taken")


@pytest.mark.parametrize("when", ["before", "startup", "middleware"])
@pytest.mark.parametrize("server", ["uvicorn", "uvloop", "hypercorn"])
async def test_live_websockets_outlive_sigterm_and_new_ones_are_refused(server: str, when: str) -> None:
    port = free_port()
    with running(SERVERS, server, str(port), when, VOICEKEYS_SETTLE_SECONDS="0.2") as program:
        await asyncio.to_thread(program.hear, "ready")
        calls = [await open_media(port) for _ in range(LIVE)]
        program.signal()
        await until_refused(port)
        program.signal()
        for call in calls[1:]:
            assert await talks(call)
            await call.close()
        assert await talks(calls[0])
        assert "stopping" not in program.said()
        assert await is_refused(port)
        await calls[0].close()
        await asyncio.to_thread(program.hear, "stopping")
        # As without the guard: uvicorn ends by the signal that it raises again, hypercorn returns.
        assert await asyncio.to_thread(program.end) == {"hypercorn": 0}.get(server, -signal.SIGTERM)


async def test_without_a_guard_the_same_calls_are_cut() -> None:
    """K14: so that the test above tests something."""
    port = free_port()
    with running(SERVERS, "uvicorn", str(port), "never") as program:
        await asyncio.to_thread(program.hear, "ready")
        call = await open_media(port)
        program.signal()
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(call.recv(), 20)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        await asyncio.to_thread(program.end)


async def test_a_client_that_looks_at_close_codes_gets_1013() -> None:
    port = free_port()
    with running(SERVERS, "uvicorn", str(port), "before", ACCEPT="1") as program:
        await asyncio.to_thread(program.hear, "ready")
        live = await open_media(port)
        program.signal()

        async def code() -> int | None:
            extra = await connect(f"ws://127.0.0.1:{port}/media")
            try:
                await extra.send(b"hello")
                await asyncio.wait_for(extra.recv(), 20)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None
            await extra.close()
            return 0

        for _ in range(2000):
            if await code():
                break
        assert await code() == 1013
        assert await talks(live)
        await live.close()
        await asyncio.to_thread(program.end)


async def test_a_client_that_vanishes_holds_nobody() -> None:
    """Its connection breaks without a word: the server notices, the call ends, SIGTERM is handed on."""
    port = free_port()
    with running(SERVERS, "uvicorn", str(port), "before") as program:
        await asyncio.to_thread(program.hear, "ready")
        call = await open_media(port)
        program.signal()
        await until_refused(port)
        call.transport.abort()
        await asyncio.to_thread(eventually, lambda: not program.is_running)


def test_sigint_ends_uvicorn_with_calls_live() -> None:
    """Ctrl-C is a developer's: it is not held."""

    async def run(program: Program, port: int) -> None:
        call = await open_media(port)
        program.signal(signal.SIGINT)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(call.recv(), 20)

    port = free_port()
    with running(SERVERS, "uvicorn", str(port), "before") as program:
        program.hear("ready")
        asyncio.run(run(program, port))
        eventually(lambda: not program.is_running)
