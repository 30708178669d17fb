"""A server that speaks enough of Vault's API to answer wrongly: for what a real Vault cannot be made to do.

It answers properly until told otherwise: behaviours queued for reads or logins are used up, one a request.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    import ssl

CREATED = "2026-01-02T03:04:05.123456789Z"
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultyVault:
    """The server; `requests` has every request as ``(method, path with query, headers)``."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        self.reads: collections.deque[Behaviour] = collections.deque()
        self.logins: collections.deque[Behaviour] = collections.deque()
        self.renewals: collections.deque[Behaviour] = collections.deque()
        self.always: Behaviour | None = None
        self.issued = 0
        self.lease = 3600
        self.token_type = "service"
        self.accepted: set[str] | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port of loopback, under a certificate where one is given."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        await self._runner.cleanup()

    def count(self, part: str) -> int:
        """Requests whose path holds ``part``."""
        return sum(part in path for _, path, _ in self.requests)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        path = request.path
        if path.endswith("/login"):
            return await self._next(self.logins, self._login)(request)
        if path.endswith("/renew-self"):
            return await self._next(self.renewals, self._renew)(request)
        if path.endswith("/revoke-self"):
            return web.Response(status=204)
        if path.startswith("/v1/sys/"):
            return await status(404)(request)
        if self.always is not None:
            return await self.always(request)
        return await self._next(self.reads, self._read)(request)

    @staticmethod
    def _next(queue: collections.deque[Behaviour], default: Behaviour) -> Behaviour:
        return queue.popleft() if queue else default

    async def _login(self, _: web.Request) -> web.StreamResponse:
        self.issued += 1
        return web.json_response({"auth": self._granted()})

    async def _renew(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"auth": self._granted()})

    def _granted(self) -> dict[str, Any]:
        return {
            "client_token": f"hvs.canary-token-{self.issued}",
            "lease_duration": self.lease,
            "renewable": self.token_type == "service",
            "token_type": self.token_type,
        }

    async def _read(self, request: web.Request) -> web.StreamResponse:
        if self.accepted is not None and request.headers.get("X-Vault-Token") not in self.accepted:
            return await status(403, "permission denied")(request)
        return await key({"api_key": "canary-value"}, version=int(request.query.get("version", 1)))(request)


def answer(body: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with a JSON body, or with bytes as they are."""

    async def behave(_: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=code, body=raw, content_type="application/json", headers=headers)

    return behave


def status(code: int, *errors: str, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer as Vault does when it refuses: a status and ``errors``."""
    return answer({"errors": list(errors)}, code, headers)


def key(fields: Any, version: Any = 1, **metadata: Any) -> Behaviour:
    """Answer with a key."""
    known = {"created_time": CREATED, "deletion_time": "", "destroyed": False, "version": version} | metadata
    return answer({"data": {"data": fields, "metadata": known}})


def redirect(location: str, code: int = 307) -> Behaviour:
    """Send the client elsewhere."""
    return answer(b"", code, {"Location": location} if location else None)


async def cut(request: web.Request) -> web.StreamResponse:
    """Cut the connection in the middle of the body."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"data":')
    assert request.transport is not None
    request.transport.abort()
    return response


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def slow(seconds: float, then: Behaviour) -> Behaviour:
    """Answer, but later."""

    async def behave(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request)

    return behave


async def endless(request: web.Request) -> web.StreamResponse:
    """Send a body that does not end, in chunks."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(200):
        await response.write(b" " * 65536)
    return response
