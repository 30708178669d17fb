"""Pods on addresses of this machine: the project's own library in a process each, and servers that mean harm."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.agent.support import TOKEN, Program, running
from voicekeys.clients.agents import AgentsClient
from voicekeys.model.hook import Endpoint, Token

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

PROGRAM = Path(__file__).parent / "program.py"
PORT = 9909
_hosts = itertools.count(os.getpid() % 60000 + 1)

Serve = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]"


def own_host() -> str:
    """An address of this machine that nobody else uses, as pods have."""
    number = next(_hosts)
    return f"127.{100 + number // 62500 % 100}.{number // 250 % 250}.{number % 250 + 2}"


def anywhere(_: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return True


def client(**options: Any) -> AgentsClient:
    """A client that also asks addresses of this machine."""
    return AgentsClient(**({"may_ask": anywhere} | options))


@dataclass
class AgentPod:
    """A process with the library."""

    program: Program
    endpoint: Endpoint

    def do(self, *orders: str) -> None:
        for order in orders:
            self.program.tell(order)
            self.program.hear(f"{order} done")


@contextmanager
def agent_pod(name: str = "receptionist-a", token: str = TOKEN, settle: float = 0.05) -> Iterator[AgentPod]:
    """One agent, on an address of its own, at the contract's port."""
    host = own_host()
    with running(PROGRAM, host, str(PORT), str(settle), VOICEKEYS_DRAIN_TOKEN=token) as program:
        program.hear("serving")
        yield AgentPod(program, Endpoint(name, host, PORT, Token(token) if token else None))


@asynccontextmanager
async def harmful_pod(serve: Callable[..., Awaitable[None]], name: str = "harmful") -> AsyncIterator[Endpoint]:
    """A server that does what it is told with each connection."""
    host = own_host()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, host, PORT)
    try:
        yield Endpoint(name, host, PORT, Token(TOKEN))
    finally:
        server.close()


def says(content: bytes, *, stay: float = 0.0) -> Callable[..., Awaitable[None]]:
    """Answer each request with these bytes, and stay connected for some seconds."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()
        await asyncio.sleep(stay)

    return serve


def answers(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n") -> Callable[..., Awaitable[None]]:
    """Answer with a body of the right length."""
    return says(head + b"Content-Length: " + str(len(body)).encode() + b"\r\nConnection: close\r\n\r\n" + body)
