"""What a rule of the proxy does to a request: answers of its own, cuts, delays, garbage, and holding it for a while."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.proxy import Exchange

_REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def answer(
    status: int, body: Any = None, *, retry_after: float | None = None
) -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Answer without asking the server, as the API server would: a `Status`, unless `body` says otherwise."""
    told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": _REASONS.get(status)}
    data = orjson.dumps(body if body is not None else {**told, "message": "made by the test's proxy"})
    headers = {"Retry-After": f"{retry_after:g}"} if retry_after is not None else {}

    async def act(_: Exchange) -> web.StreamResponse:
        return web.Response(status=status, body=data, content_type="application/json", headers=headers)

    return act


def vault_says(
    status: int, *errors: str, retry_after: float | None = None
) -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Answer as Vault does: a list of errors."""
    return answer(status, {"errors": list(errors)}, retry_after=retry_after)


def garbage(data: bytes = b'{"kind": "Li', status: int = 200) -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Answer with bytes that are no document."""

    async def act(_: Exchange) -> web.StreamResponse:
        return web.Response(status=status, body=data, content_type="application/json")

    return act


def cut_before() -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Drop the connection; the server never hears of the request."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        return exchange.cut()

    return act


def cut_after() -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Let the server do it, then drop the connection without its answer (a watch: drop it at once)."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        if not exchange.seen.is_watch:
            await exchange.forward()
        return exchange.cut()

    return act


def slow(seconds: float) -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Send it on late."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await exchange.forward()

    return act


def expired_watch() -> Callable[[Exchange], Awaitable[web.StreamResponse]]:
    """Tell a watch, in its stream, that its position is too old (410), and leave anything else alone."""
    event = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}

    async def act(exchange: Exchange) -> web.StreamResponse:
        if not exchange.seen.is_watch:
            return await exchange.forward()
        return web.Response(body=orjson.dumps(event) + b"\n", content_type="application/json")

    return act


class Hold:
    """Holds requests, before the server hears of them or (`after`) with its answer in hand, until let go or dropped."""

    def __init__(self, *, after: bool = False) -> None:
        self.reached = threading.Event()
        self._after = after
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        self._verdict: bool | None = None

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Hold one request."""
        done = await exchange.forward() if self._after else None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((loop, future))
        self.reached.set()
        go_on = self._verdict if self._verdict is not None else await future
        if not go_on:
            return exchange.cut()
        return done if done is not None else await exchange.forward()

    def release(self) -> None:
        """Let all held requests, and those to come, go on."""
        self._end(go_on=True)

    def drop(self) -> None:
        """Cut all held requests, and those to come; what was not sent on never is."""
        self._end(go_on=False)

    def _end(self, *, go_on: bool) -> None:
        self._verdict = go_on
        for loop, future in self._waiting:
            loop.call_soon_threadsafe(_settle, future, go_on)


def _settle(future: asyncio.Future[bool], go_on: bool) -> None:  # noqa: FBT001 -- call_soon_threadsafe takes no names
    if not future.done():
        future.set_result(go_on)
