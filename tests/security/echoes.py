"""Answers that repeat key material: what a Vault, an API server or a proxy with loose tongues would send.

Each is an action of `tests.faults.proxy`: it lets the real server answer, and tells what that answer, or the request,
held in the places where servers put words: bodies, reasons, headers, fields that ought to be numbers.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.proxy import Exchange

    Action = Callable[[Exchange], Awaitable[web.StreamResponse]]


async def _values(exchange: Exchange) -> tuple[dict[str, Any], list[str]]:
    """Let Vault answer a read; return its answer and the values in it as text."""
    answer = await exchange.forward()
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    body = orjson.loads(answer.body)
    fields = (body.get("data") or {}).get("data") or {}
    return body, [value if isinstance(value, str) else orjson.dumps(value).decode() for value in fields.values()]


def vault_error(status: int) -> Action:
    """Refuse, with the values among the errors and in the headers that clients read."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        _, values = await _values(exchange)
        told = base64.b64encode(values[0].encode()).decode()
        body = {"errors": [f"permission denied: {value}" for value in values], "warnings": values, values[0]: told}
        headers = {"Retry-After": told, "X-Vault-Reason": told, "Location": f"http://127.0.0.1:1/{told}"}
        return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)

    return act


def vault_cut_json(status: int = 200) -> Action:
    """Answer with the beginning of the real document: a parser's error would quote it."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        body, _ = await _values(exchange)
        return web.Response(status=status, body=orjson.dumps(body)[:-9], content_type="application/json")

    return act


def vault_misplaced(where: str) -> Action:
    """Answer with the value where a number, a time or a map belongs: `version`, `created_time`, `data`, `destroyed`."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        body, values = await _values(exchange)
        if where == "data":
            body["data"]["data"] = values[0]
        else:
            body["data"]["metadata"][where] = values[0]
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    return act


async def not_http(exchange: Exchange) -> web.StreamResponse:
    """Answer with what is no HTTP, the value in the place of the status line: a parser's error would quote it."""
    _, values = await _values(exchange)
    transport = exchange._request.transport
    assert transport is not None
    transport.write(f"{values[0]} 200 {values[0]}\r\n\r\n".encode())
    transport.close()
    return web.Response()


async def login_repeats(exchange: Exchange) -> web.StreamResponse:
    """Refuse a login in words that repeat the token and all that was sent."""
    sent = exchange.seen.body.decode()
    token = orjson.loads(sent).get("jwt", sent)
    return web.json_response({"errors": [f"invalid audience: {token}", sent]}, status=400, reason=token[:99])


async def login_garbled(exchange: Exchange) -> web.StreamResponse:
    """Grant a login whose lease is the token that was sent, and whose token is a map of it."""
    token = orjson.loads(exchange.seen.body)["jwt"]
    return web.json_response({"auth": {"client_token": {"is": token}, "lease_duration": token, "renewable": token}})


def api_refuses(status: int, words: str = "{}") -> Action:
    """Refuse a write as an API server or a webhook would that repeats what was sent, base64 and decoded."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        data = (exchange.seen.json() or {}).get("data") or {}
        told = [*data.values(), *(base64.b64decode(value).decode(errors="replace") for value in data.values())]
        causes = [{"field": f"data[{text}]", "reason": text, "message": text} for text in told]
        body = {
            "kind": "Status",
            "code": status,
            "reason": told[0],
            "message": words.format(" ".join(told)),
            "details": {"name": told[0], "kind": told[0], "causes": causes, "retryAfterSeconds": told[0]},
        }
        return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")

    return act


async def api_cut_json(exchange: Exchange) -> web.StreamResponse:
    """Take a write, then answer with the beginning of what was sent."""
    return web.Response(body=exchange.seen.body[:-5], content_type="application/json")


def api_lists(items: list[dict[str, Any]]) -> Action:
    """Answer a list with objects that are none."""

    async def act(_: Exchange) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    return act


def api_watch(event: dict[str, Any]) -> Action:
    """Answer a watch with one event."""

    async def act(_: Exchange) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(event) + b"\n", content_type="application/json")

    return act
