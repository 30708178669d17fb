"""A small HTTP/1.1 server for the contract. It answers when it should, and until then sends no byte (K1 to K3).

What it withstands: heads that never end, heads that are too large, connections that say nothing, more connections than
it has room for. A new connection is always taken, for it may be the hook's: when there is no room, the oldest one that
holds no drain has to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from voicekeys.agent.contract import Malformed, Request, Route, parse_head, render, route

if TYPE_CHECKING:
    import socket


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server allows.

    Args:
        connections: at once, without those that hold a drain.
        holders: connections that hold a drain; one more is answered 503.
        head_bytes: of a request's head.
        head_seconds: from a head's first byte to its last, and from connecting to the first byte.
        idle_seconds: between two requests of one connection.
        write_seconds: for a client to take an answer.
    """

    connections: int = 64
    holders: int = 64
    head_bytes: int = 16 * 1024
    head_seconds: float = 5.0
    idle_seconds: float = 30.0
    write_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers.

    Args:
        document: the body, as JSON.
        status: 200 where nothing else is said.
        headers: more of them.
    """

    document: Mapping[str, object]
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Route, Request], Awaitable[Answer]]
"""Answers one request, as late as it likes. It is cancelled when the client goes away."""


class Server:
    """The server's connections.

    Args:
        handler: answers requests that were let in.
        token: the workload's token; None lets everybody in.
        limits: see there.
    """

    def __init__(self, handler: Handler, token: str | None, limits: Limits) -> None:
        self.handler = handler
        self.token = token
        self.limits = limits
        self._connections: dict[_Connection, None] = {}
        self._listener: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket, which is closed with the server."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), sock=sock, backlog=128)

    def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.abort()

    def add(self, connection: _Connection) -> None:
        """Take a new connection; the oldest that holds no drain goes if there are too many."""
        others = [one for one in self._connections if not one.holds]
        if len(others) >= self.limits.connections:
            self.drop(others[0])
            others[0].abort()
        self._connections[connection] = None

    def drop(self, connection: _Connection) -> None:
        """A connection is over."""
        self._connections.pop(connection, None)

    def has_room_to_hold(self) -> bool:
        """Whether one more drain may be held."""
        return sum(one.holds for one in self._connections) < self.limits.holders


class _Connection(asyncio.Protocol):
    """One client's connection: heads in, answers out, one at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self.holds = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._server.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > self._server.limits.head_bytes and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._gone.set()
        self._arrived.set()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self.eof_received()
        self._flushed.set()
        self._server.drop(self)

    def pause_writing(self) -> None:
        self._flushed.clear()

    def resume_writing(self) -> None:
        self._flushed.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _run(self) -> None:
        try:
            first = True
            while not self._gone.is_set() and await self._exchange(first=first):
                first = False
        except TimeoutError:
            pass
        finally:
            if self._transport is not None:
                # What was written still goes out; a client that sent more than was read gets no reset before that.
                self._transport.close()

    async def _exchange(self, *, first: bool) -> bool:
        """One request and its answer. Returns whether another may follow."""
        method = ""
        try:
            request = parse_head(await self._head(first=first))
            method = request.method
            wanted = route(request, self._server.token)
            await self._skip(request.length)
            answer = await self._answer(wanted, request)
        except Malformed as wrong:
            body = {"error": wrong.status.phrase}
            await self._send(render(wrong.status, body, keep_alive=False, headers=wrong.headers, body=method != "HEAD"))
            return False
        if answer is None:
            return False
        await self._send(render(answer.status, answer.document, keep_alive=request.keep_alive, headers=answer.headers))
        return request.keep_alive

    async def _head(self, *, first: bool) -> bytes:
        """The next head. Raises TimeoutError for one that does not come, Malformed for one that does not end."""
        limits = self._server.limits
        if not self._buffer:
            async with asyncio.timeout(limits.head_seconds if first else limits.idle_seconds):
                await self._more()
        try:
            async with asyncio.timeout(limits.head_seconds):
                while (end := self._end_of_head()) is None:
                    if len(self._buffer) > limits.head_bytes:
                        raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                    await self._more()
        except TimeoutError:
            raise Malformed(HTTPStatus.REQUEST_TIMEOUT) from None
        if end > limits.head_bytes:
            raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return self._take(end)

    def _end_of_head(self) -> int | None:
        """Where the head in the buffer ends; empty lines before it are skipped (RFC 9112 §2.2)."""
        while self._buffer.startswith((b"\r", b"\n")):
            del self._buffer[:1]
        # No further than a head may be long: what a client sends ahead is not searched again for each request.
        most = self._server.limits.head_bytes + 4
        ends = [at + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := self._buffer.find(mark, 0, most)) >= 0]
        return min(ends, default=None)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._transport is not None and len(self._buffer) <= self._server.limits.head_bytes:
            self._transport.resume_reading()  # harmless where it was not paused
        return taken

    async def _more(self) -> None:
        """Wait for bytes. Raises TimeoutError when the client has gone."""
        if self._gone.is_set():
            raise TimeoutError
        self._arrived.clear()
        await self._arrived.wait()

    async def _skip(self, length: int) -> None:
        async with asyncio.timeout(self._server.limits.head_seconds):
            while length > 0:
                if not self._buffer:
                    await self._more()
                length -= len(self._take(min(length, len(self._buffer))))

    async def _answer(self, wanted: Route, request: Request) -> Answer | None:
        """What the handler says; None when the client left before."""
        if wanted is Route.DRAIN:
            if not self._server.has_room_to_hold():
                raise Malformed(HTTPStatus.SERVICE_UNAVAILABLE)
            self.holds = True
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(self._server.handler(wanted, request))
        gone = loop.create_task(self._gone.wait())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            return await work if work.done() else None
        finally:
            self.holds = False
            work.cancel()
            gone.cancel()

    async def _send(self, content: bytes) -> None:
        """Write an answer. Raises TimeoutError when the client does not take it."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(content)
        try:
            async with asyncio.timeout(self._server.limits.write_seconds):
                await self._flushed.wait()
        except TimeoutError:
            self.abort()
            raise
