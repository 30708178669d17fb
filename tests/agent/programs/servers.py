"""Servers with a guard, each as people start it. Arguments: which server, its port, when the guard comes.

Each takes WebSockets on ``/media`` and echoes. Says ``ready`` and ``stopping``: its lifespan's ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from voicekeys import agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.websockets import WebSocket

server, port, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]


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
    print("ready", flush=True)
    yield
    print("stopping", flush=True)


def application() -> agent.CallMiddleware:
    app = Starlette(routes=[WebSocketRoute("/media", talk)], lifespan=lifespan)
    return agent.CallMiddleware(app, guard=when == "middleware", accept_to_refuse=bool(os.environ.get("ACCEPT")))


def run_uvicorn(loop: Literal["asyncio", "uvloop"] = "asyncio") -> None:
    uvicorn.run(application(), port=port, log_level="warning", loop=loop)


def run_hypercorn() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.1
    asyncio.run(serve(application(), config))  # type: ignore[arg-type]


if when == "before":
    guard()
servers: dict[str, Callable[[], None]] = {
    "uvicorn": run_uvicorn,
    "uvloop": partial(run_uvicorn, "uvloop"),
    "hypercorn": run_hypercorn,
}
servers[server]()
