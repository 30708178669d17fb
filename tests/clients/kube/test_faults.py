"""Every fault becomes one of our errors, and none of them carries a body or a header."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp import http_exceptions

from tests.clients.kube.faulty import status_of
from voicekeys.clients.kube import faults
from voicekeys.model.errors import (
    ApiConflict,
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiInvalid,
    ApiNotFound,
    ApiThrottled,
    ApiUnreachable,
)

CANARY = "canary-sk-live-123"


def subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    """The class and everything below it."""
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


def answer(status: int, body: Any, retry_after: float | None = None) -> ApiError:
    return faults.from_answer(status, json.dumps(body).encode(), "patch secrets shop/key", retry_after)


FOREIGN = sorted(
    subclasses(aiohttp.ClientError) | subclasses(http_exceptions.HttpProcessingError) | subclasses(ssl.SSLError),
    key=lambda kind: kind.__qualname__,
)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_exception_of_aiohttp_is_ours_and_says_nothing_it_held(kind: type[BaseException]) -> None:
    assert issubclass(kind, faults.FOREIGN), "a request would let it through"
    error = kind.__new__(kind)
    error.args = (CANARY,)
    ours = faults.from_exception(error, "get secrets a/b")
    assert isinstance(ours, ApiUnreachable)
    assert CANARY not in repr(ours)
    assert "get secrets a/b" in ours.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "ApiTimeout"),
        (aiohttp.SocketTimeoutError(), "ApiTimeout"),
        (ConnectionResetError(), "ApiUnreachable"),
        (asyncio.IncompleteReadError(b"", 1), "ApiUnreachable"),
        (RuntimeError("Session is closed"), "ApiUnreachable"),
        (aiohttp.ClientConnectorCertificateError.__new__(aiohttp.ClientConnectorCertificateError), "ApiTlsFailed"),
    ],
)
def test_the_reason_tells_silence_from_bad_tls(error: Exception, reason: str) -> None:
    assert isinstance(error, faults.FOREIGN)
    assert faults.from_exception(error, "list pods").reason == reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ApiInvalid),
        (401, ApiForbidden),
        (403, ApiForbidden),
        (404, ApiNotFound),
        (405, ApiInvalid),
        (409, ApiConflict),
        (410, ApiGone),
        (413, ApiInvalid),
        (415, ApiInvalid),
        (422, ApiInvalid),
        (429, ApiThrottled),
        (302, ApiError),
        (418, ApiError),
        (500, ApiError),
        (502, ApiUnreachable),
        (503, ApiUnreachable),
        (504, ApiUnreachable),
        (599, ApiError),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>canary-sk-live-123", b"[1]", b'{"message": 7, "details": [], "reason": 3}']
)
def test_each_status_has_its_class_whatever_the_body(status: int, kind: type[ApiError], body: bytes) -> None:
    error = faults.from_answer(status, body, "get pods a/b")
    assert type(error) is kind
    assert error.status == status
    assert error.reason.isalpha()
    assert CANARY not in repr(error)


def test_a_refused_value_is_not_repeated_but_its_field_is() -> None:
    causes = [
        {"field": "data[tls.key]", "reason": "FieldValueInvalid", "message": f'Invalid value: "{CANARY}"'},
        {"field": f"data[{CANARY}]", "reason": "FieldValueInvalid"},
        {"field": f"stringData.{CANARY}"},
        {"field": "metadata.labels[team]"},
        {"field": f"<nil>{CANARY}\n", "reason": CANARY},
        {"field": "<nil>", "reason": "FieldValueInvalid"},
        "garbage",
    ]
    error = answer(422, status_of(422, "Invalid", f'Secret "a" is invalid: "{CANARY}"', name="a", causes=causes))
    assert type(error) is ApiInvalid
    fields = "data[tls.key] FieldValueInvalid, data FieldValueInvalid, stringData, metadata.labels[team]"
    assert error.message == f"patch secrets shop/key: Invalid (HTTP 422) [{fields}]"


@pytest.mark.parametrize(
    ("message", "reason", "name"),
    [
        (
            (
                "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'only-ours.voicekeys.dev' with binding 'b' "
                f"denied request: {CANARY}"
            ),
            "DeniedByPolicy",
            "only-ours.voicekeys.dev",
        ),
        (f'admission webhook "check.example.com" denied the request: {CANARY}', "DeniedByWebhook", "check.example.com"),
        ('secrets "a" is forbidden: exceeded quota: small, requested: secrets=1', "ExceededQuota", "small"),
        (
            'pods "a" is forbidden: violates PodSecurity "restricted:latest": x',
            "DeniedByPodSecurity",
            "restricted:latest",
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_who_refused_is_named(status: int, message: str, reason: str, name: str) -> None:
    error = answer(status, status_of(status, "Forbidden", message))
    assert type(error) is ApiForbidden
    assert error.reason == reason
    assert repr(name) in error.message
    assert CANARY not in error.message


def test_what_the_api_server_gives_one_code_is_told_apart() -> None:
    assert answer(404, status_of(404, "NotFound", name="a")).reason == "NotFound"
    assert answer(404, status_of(404, "NotFound")).reason == faults.KIND_NOT_SERVED
    assert faults.from_answer(404, b"404 page not found", "x").reason == faults.KIND_NOT_SERVED
    assert answer(422, status_of(422, "Invalid")).reason == faults.UNPROCESSABLE
    uid = answer(422, status_of(422, "Invalid", causes=[{"field": "metadata.uid"}]))
    assert type(uid) is ApiConflict
    assert uid.reason == faults.UID_CHANGED
    ending = answer(403, status_of(403, "Forbidden", causes=[{"reason": "NamespaceTerminating"}]))
    assert ending.reason == "NamespaceTerminating"


def test_the_asked_for_pause_is_kept() -> None:
    assert answer(429, status_of(429), retry_after=3.0).retry_after == 3.0
    assert answer(429, status_of(429, retryAfterSeconds=7)).retry_after == 7.0
    assert answer(500, status_of(500, retryAfterSeconds="soon")).retry_after is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("2", 2.0), ("-1", None), ("inf", None), ("nan", None), ("Wed, 21 Oct 2026", None)],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert faults.parse_retry_after(header) == seconds
