"""Counts the calls of an ASGI application: each WebSocket, from before it is accepted to the end of its coroutine."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from voicekeys.agent.errors import Refused
from voicekeys.agent.shared import AGENT

if TYPE_CHECKING:
    from voicekeys.agent.agent import Agent
    from voicekeys.agent.core import VersionedKey

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TRY_AGAIN_LATER = 1013
"""Close code (WebSocket registry of RFC 6455)."""


class CallMiddleware:
    """Wraps an ASGI application (Starlette, FastAPI, Quart, …). Put it outermost: it counts before anything accepts.

    A refused WebSocket is answered 503 with ``Retry-After`` where the server can say so before accepting (the
    extension ``websocket.http.response``; uvicorn and hypercorn have it), else closed with 1013, which servers turn
    into a 403 to the handshake. For clients that look at close codes only: ``accept_to_refuse``.

    Args:
        app: the application.
        agent: who counts; default: the process's own.
        is_call: which scopes are calls; default: every WebSocket. May add long HTTP requests, by their path.
        call_id: the call's name from its scope; default: a random one.
        key: the key that calls use, so that they are counted by its version.
        max_call: seconds after which a call is reported as leaked.
        guard: hold SIGTERM back, from the application's startup on.
        accept_to_refuse: accept a WebSocket in order to close it with 1013.
    """

    def __init__(
        self,
        app: App,
        *,
        agent: Agent = AGENT,
        is_call: Callable[[Scope], bool] = lambda scope: bool(scope["type"] == "websocket"),
        call_id: Callable[[Scope], str | None] = lambda _scope: None,
        key: VersionedKey | None = None,
        max_call: float | None = None,
        guard: bool = True,
        accept_to_refuse: bool = False,
    ) -> None:
        self._app = app
        self._agent = agent
        self._is_call = is_call
        self._call_id = call_id
        self._key = key
        self._max_call = max_call
        self._guard = guard
        self._accept_to_refuse = accept_to_refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, counted."""
        if scope["type"] == "lifespan" and self._guard:
            # Only a server in the main thread has signals to guard.
            with contextlib.suppress(RuntimeError):
                self._agent.guard()
        if scope["type"] not in {"websocket", "http"} or not self._is_call(scope):
            await self._app(scope, receive, send)
            return
        call = self._agent.call(self._call_id(scope), key=self._key, max_call=self._max_call)
        try:
            call.begin()
        except Refused as refused:
            await self._refuse(scope, receive, send, refused)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            call.end()

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, refused: Refused) -> None:
        headers = [(b"retry-after", str(refused.retry_after).encode()), (b"content-length", b"0")]
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await receive()  # websocket.connect
        if self._accept_to_refuse:
            await send({"type": "websocket.accept"})
        elif "websocket.http.response" in scope.get("extensions", {}):
            await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b""})
            return
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "try again later"})
