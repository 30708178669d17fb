"""The drain contract, version 1, as pure functions: bytes to request, request to route, state to JSON, answer to bytes.

`server.py` moves the bytes. Only what the contract needs of HTTP/1.1 (RFC 9112) is understood; the rest is refused
with the status that says so.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicekeys.agent.drain import Drain, Phase
    from voicekeys.agent.pool import Totals

VERSION = 1
BASE = "/voicekeys/v1/"
LONGEST_WAIT = 60.0
"""Seconds that ``/calls`` may be asked to wait; longer ones are cut to this."""
LARGEST_BODY = 64 * 1024
"""Bytes of a request's body that are read, and dropped: no call of the contract has one."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Route(StrEnum):
    """The calls of the contract."""

    DRAIN = "drain"
    CALLS = "calls"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    RELEASE = "release"
    RELOAD = "reload"


METHODS = {
    Route.DRAIN: "GET",
    Route.CALLS: "GET",
    Route.CORDON: "POST",
    Route.UNCORDON: "POST",
    Route.RELEASE: "POST",
    Route.RELOAD: "POST",
}
OPEN = frozenset({Route.CALLS})
"""What needs no token: it reveals counts only."""


class Malformed(Exception):
    """A request that is answered with this status, and the connection closed.

    Args:
        status: the answer.
        headers: that go with it.
    """

    def __init__(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head.

    Args:
        method: as sent.
        path: without the query.
        query: the last value of each parameter.
        headers: names in lower case; values of repeated ones joined by a comma.
        keep_alive: whether the client wants the connection to stay.
        length: bytes of its body.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    keep_alive: bool = True
    length: int = 0


def parse_head(head: bytes) -> Request:
    """Read a request's head, with or without its empty line. Raises Malformed."""
    lines = head.rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or any(byte <= 0x20 or byte >= 0x7F for byte in parts[1]):  # noqa: PLR2004
        raise Malformed(HTTPStatus.BAD_REQUEST)
    if parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        known = parts[2].startswith(b"HTTP/")
        raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED if known else HTTPStatus.BAD_REQUEST)
    headers = _headers(lines[1:])
    modern = parts[2] == b"HTTP/1.1"
    if modern and "host" not in headers:
        raise Malformed(HTTPStatus.BAD_REQUEST)
    target = _split(parts[1].decode("ascii"))
    query = {name: values[-1] for name, values in parse_qs(target[1]).items()}
    keep = modern and "close" not in headers.get("connection", "").lower()
    return Request(parts[0].decode("ascii"), target[0], query, headers, keep, _length(headers))


def _split(target: str) -> tuple[str, str]:
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise Malformed(HTTPStatus.BAD_REQUEST) from error
    return parts.path, parts.query


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or b"\r" in value or b"\0" in value:
            raise Malformed(HTTPStatus.BAD_REQUEST)
        key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise Malformed(HTTPStatus.LENGTH_REQUIRED)
    text = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Malformed(HTTPStatus.BAD_REQUEST)
    if int(text) > LARGEST_BODY:
        raise Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(text)


def route(request: Request, token: str | None) -> Route:
    """Find what is asked for, and whether it may be asked for.

    Args:
        request: the head.
        token: the workload's token; None lets everybody in.

    Raises:
        Malformed: 404 for an unknown path, 405 for another method (HEAD too), 401 for a wrong token.
    """
    name = request.path.removeprefix(BASE)
    if not request.path.startswith(BASE) or name not in set(Route):
        raise Malformed(HTTPStatus.NOT_FOUND)
    found = Route(name)
    if request.method != METHODS[found]:
        raise Malformed(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": METHODS[found]})
    if found not in OPEN and token is not None and not has_token(request.headers, token):
        raise Malformed(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Bearer realm="voicekeys"'})
    return found


def has_token(headers: Mapping[str, str], token: str) -> bool:
    """Whether a request carries the token, as bearer or as ``X-Voicekeys-Token``; in constant time."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = [bearer.strip() if scheme.lower() == "bearer" else "", headers.get("x-voicekeys-token", "")]
    same = [hmac.compare_digest(text.encode("latin-1"), token.encode()) for text in given]
    return any(same)


def wait_of(request: Request) -> tuple[int | None, float]:
    """``since`` and ``wait`` of ``/calls``. Raises Malformed (400) for anything but numbers."""
    since, wait = request.query.get("since"), request.query.get("wait", "0")
    if not re.fullmatch(r"[0-9]{1,18}", since or "0") or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", wait):
        raise Malformed(HTTPStatus.BAD_REQUEST)
    return (int(since) if since else None), min(float(wait), LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class Standing:
    """Who answers: what in ``/calls`` is not counted.

    Args:
        instance: differs after each start of a leader, so that a reset of the counters is seen.
        library: version of this library.
        token: whether a token is asked for.
        key_version: of the key that new calls take; None where the agent has shown no key.
    """

    instance: str
    library: str
    token: bool
    key_version: str | None = None


def calls_document(
    standing: Standing, revision: int, phase: Phase, drain: Drain, totals: Totals, *, now: float, wall: float
) -> dict[str, object]:
    """The answer of ``/calls``: counts, never a call's id, never a key.

    Args:
        standing: who answers.
        revision: changes whenever anything here but an age does.
        phase: where the pod stands.
        drain: what is decided.
        totals: the calls of all processes.
        now: the monotonic clock.
        wall: the same moment in seconds since 1970.
    """

    def at(moment: float | None) -> str | None:
        if moment is None:
            return None
        return datetime.fromtimestamp(wall - now + moment, UTC).isoformat(timespec="milliseconds")

    tally = totals.tally
    return {
        "contract": VERSION,
        "library": standing.library,
        "instance": standing.instance,
        "revision": revision,
        "state": phase.value,
        "cordoned": drain.cordoned,
        "keyVersion": standing.key_version,
        "active": totals.total,
        "activeByKeyVersion": dict(totals.live),
        "oldestCallSeconds": None if totals.oldest is None else round(max(0.0, now - totals.oldest), 3),
        "leaked": totals.leaked,
        "processes": totals.processes,
        "complete": totals.complete,
        "calls": {
            "started": tally.started,
            "completed": tally.completed,
            "refused": tally.refused,
            "forced": tally.forced,
            "aborted": tally.aborted,
        },
        "drain": {
            "startedTime": at(drain.started),
            "settleEndTime": at(drain.settle_end),
            "deadlineTime": at(drain.deadline),
        },
        "token": standing.token,
    }


def render(
    status: HTTPStatus,
    document: Mapping[str, object],
    *,
    keep_alive: bool,
    headers: Mapping[str, str] | None = None,
    body: bool = True,
) -> bytes:
    """An answer's bytes.

    Args:
        status: of the answer.
        document: its body, as JSON.
        keep_alive: whether the connection stays.
        headers: more of them.
        body: False for HEAD: the length is told, the body is not sent.
    """
    content = json.dumps(document, separators=(",", ":")).encode()
    lines = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Cache-Control": "no-store",
        **(headers or {}),
        "Connection": "keep-alive" if keep_alive else "close",
    }
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return head.encode("latin-1") + b"\r\n" + (content if body else b"")
