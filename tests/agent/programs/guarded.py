"""Servers with a guard, each as people start it. Arguments: which server, its port, when the guard comes (before, startup).

Each takes WebSockets on ``/media`` and echoes, but for ``plain`` and ``loop``, which take lines on standard input:
``begin``, ``end``. Says ``ready``, ``begun``, ``ended``, ``stopping`` (the server's own handler ran), ``interrupted``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from voicekeys import agent
from voicekeys.agent.shared import AGENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.websockets import WebSocket

server, port, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
calls: list[agent.Call] = []


def guard() -> None:
    agent.guard(settle=float(os.environ.get("SETTLE", "0")))


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for frame in websocket.iter_bytes():
        await websocket.send_bytes(frame)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    if when == "startup":
        guard()
    yield
    print("stopping", flush=True)


def listen() -> None:
    """Obey lines, in a thread."""
    for line in sys.stdin:
        if line.strip() == "begin":
            calls.append(agent.call().begin())
            print("begun", flush=True)
        else:
            calls.pop().end()
            print("ended", flush=True)


def stopping(stop: threading.Event | asyncio.Event) -> None:
    """The server's own handler."""
    print("stopping", flush=True)
    stop.set()


def run_uvicorn() -> None:
    uvicorn.run(application(), port=port, log_level="warning", loop="asyncio")


def run_hypercorn() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.1
    asyncio.run(serve(application(), config))  # type: ignore[arg-type]


def run_plain() -> None:
    """A program with a handler by signal.signal."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping(stop))
    if when == "startup":
        guard()
    print("ready", flush=True)
    try:
        while not stop.wait(0.05):
            pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def run_default() -> None:
    """A program without any handler: SIGTERM kills it."""
    guard()
    print("ready", flush=True)
    while True:
        signal.pause()


def run_loop() -> None:
    """A program with a handler by loop.add_signal_handler."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping, stop)
        if when == "startup":
            guard()
        print("ready", flush=True)
        await stop.wait()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def application() -> agent.CallMiddleware:
    app = Starlette(routes=[WebSocketRoute("/media", talk)], lifespan=lifespan)
    return agent.CallMiddleware(app, guard=False)


if os.environ.get("DRAIN_PORT"):
    AGENT.serve(
        settings=agent.Settings(
            port=int(os.environ["DRAIN_PORT"]), token=os.environ["VOICEKEYS_DRAIN_TOKEN"], settle=0.0, gather=0.0
        )
    )
if when == "before":
    guard()
threading.Thread(target=listen, daemon=True).start()
{
    "uvicorn": run_uvicorn,
    "hypercorn": run_hypercorn,
    "plain": run_plain,
    "default": run_default,
    "loop": run_loop,
}[server]()
