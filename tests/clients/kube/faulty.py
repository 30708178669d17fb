"""A real HTTP server that misbehaves on request: scripted answers, cut and slow connections, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass(frozen=True)
class Reply:
    """One answer. ``stream`` sends chunks (a number is a pause in seconds); ``raw`` replaces the whole answer."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    stream: tuple[bytes | float, ...] | None = None
    cut: bool = False  # abort the connection where an orderly end would be
    raw: bytes | None = None
    delay: float = 0.0


def status_of(code: int, reason: str = "", message: str = "", **details: Any) -> dict[str, Any]:
    """A Kubernetes ``Status``."""
    return {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}


def event(kind: str, name: str, version: str, **more: Any) -> bytes:
    """One line of a watch."""
    found = {"metadata": {"name": name, "resourceVersion": version}, **more}
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def page(*names: str, version: str = "10", following: str = "") -> Reply:
    """One page of a list."""
    metadata = {"resourceVersion": version, **({"continue": following} if following else {})}
    items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names]
    return Reply(body={"metadata": metadata, "items": items})


class FaultServer:
    """Give `Reply` after `Reply`; the last one for ever."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._replies: deque[Reply] = deque([Reply()])
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.url = ""

    def script(self, *replies: Reply) -> None:
        """Set what comes next."""
        self._replies = deque(replies)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, target, headers, body))
        reply = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
        await asyncio.sleep(reply.delay)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        if reply.stream is None:
            if reply.cut:
                return False
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            writer.write(_head(reply, f"Content-Length: {len(data)}") + data)
            await writer.drain()
            return True
        writer.write(_head(reply, "Transfer-Encoding: chunked"))
        for part in reply.stream:
            if isinstance(part, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
            else:
                await asyncio.sleep(part)
        if not reply.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not reply.cut


def _head(reply: Reply, length: str) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} X", "Content-Type: application/json", length]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
