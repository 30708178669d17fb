"""Answers and exceptions of the API server, translated into our errors.

A ``Status`` message may quote the value of the field that it refuses, so no message is ever passed on. Kept are: the
HTTP status, ``reason`` (one word), the paths of refused fields, and the name of an admission policy, webhook or quota
that said no. Foreign exceptions are reduced to their class: aiohttp's carry the request's headers.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

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

FOREIGN = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
)
"""What aiohttp and what is below it raise for a request: network, TLS, timeouts, protocol, closed session.

``asyncio.TimeoutError`` and ``ssl.SSLError`` are OSErrors, a bad URL is a ValueError.
"""

KIND_NOT_SERVED = "KindNotServed"
TIMEOUT = "ApiTimeout"
UID_CHANGED = "UidChanged"
"""An update that names another UID than the object has is answered by 422 on ``metadata.uid``: a conflict, in truth."""
UNPROCESSABLE = "Unprocessable"
"""A 422 that blames no field: a JSON patch whose ``test`` failed is answered so."""

_BY_STATUS: dict[int, type[ApiError]] = {
    400: ApiInvalid,
    401: ApiForbidden,
    403: ApiForbidden,
    404: ApiNotFound,
    405: ApiInvalid,
    406: ApiInvalid,
    408: ApiUnreachable,
    409: ApiConflict,
    410: ApiGone,
    413: ApiInvalid,
    415: ApiInvalid,
    422: ApiInvalid,
    429: ApiThrottled,
    502: ApiUnreachable,
    503: ApiUnreachable,
    504: ApiUnreachable,
}
_WORD = re.compile(r"[A-Z][A-Za-z]{1,63}\Z")
_FIELD = re.compile(r"[\w.\-/\[\] :<>()*]{1,200}\Z")
_MAX_CAUSES = 5
# https://kubernetes.io/docs/concepts/configuration/secret/#secret-types
_SECRET_KEYS = frozenset(
    {".dockercfg", ".dockerconfigjson", "username", "password", "ssh-privatekey", "tls.crt", "tls.key"}
)
# How the API server (1.34 to 1.36) words a refusal by admission; names are DNS subdomains, so nothing else can slip in.
_REFUSED_BY = (
    ("DeniedByPolicy", re.compile(r"ValidatingAdmissionPolicy '([\w.\-]{1,253})'")),
    ("DeniedByWebhook", re.compile(r'admission webhook "([\w.\-]{1,253})" denied')),
    ("ExceededQuota", re.compile(r"exceeded quota: ([\w.\-]{1,253})")),
    ("DeniedByPodSecurity", re.compile(r'violates PodSecurity "([\w:.\-]{1,253})"')),
)


def from_answer(status: int, body: bytes, doing: str, retry_after: float | None = None) -> ApiError:
    """Translate an HTTP answer that is not a success.

    Args:
        status: HTTP status.
        body: as received; expected to be a ``Status`` object, but a proxy may have put anything there.
        doing: what was tried, such as ``patch secrets shop/key``: names only.
        retry_after: the server's ``Retry-After``, in seconds.
    """
    return from_status(status, _decode_status(body), doing, retry_after)


def from_status(status: int, answer: dict[str, Any], doing: str, retry_after: float | None = None) -> ApiError:
    """Translate a decoded ``Status`` (watches send it inside ERROR events); arguments as `from_answer`."""
    details = answer.get("details")
    details = details if isinstance(details, dict) else {}
    seconds = details.get("retryAfterSeconds")
    if retry_after is None and isinstance(seconds, int | float) and seconds > 0:
        retry_after = float(seconds)
    refused = _refused_by(answer)
    if refused is not None:
        reason, name = refused
        return ApiForbidden(
            reason,
            f"{doing}: refused by {name!r} ({reason}, HTTP {status})",
            status=status,
        )
    reason = _reason(status, answer, details)
    kind = ApiConflict if reason == UID_CHANGED else _BY_STATUS.get(status, ApiError)
    hint = {
        401: ": check the operator's credentials",
        403: ": check the operator's RBAC",
    }.get(status, "")
    message = f"{doing}: {reason} (HTTP {status}){_fields(details)}{hint}"
    return kind(reason, message, status=status, retry_after=retry_after)


def from_exception(error: BaseException, doing: str) -> ApiError:
    """Translate an exception of aiohttp or of what is below it. Raise the result ``from None``."""
    name = type(error).__name__
    if isinstance(error, TimeoutError):
        return ApiUnreachable(TIMEOUT, f"{doing}: the API server did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return ApiUnreachable(
            "ApiTlsFailed",
            f"{doing}: TLS with the API server failed ({name}): check its CA",
        )
    return ApiUnreachable("ApiUnreachable", f"{doing}: no answer of the API server ({name})")


def garbage(doing: str, status: int = 200) -> ApiError:
    """Make the error for a success that is not what the Kubernetes API promises, such as a proxy's own page."""
    return ApiError(
        "ApiGarbage",
        f"{doing}: the answer (HTTP {status}) is not Kubernetes JSON",
        status=status,
    )


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header; the API server sends whole seconds, never a date."""
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


def _decode_status(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(status: int, answer: dict[str, Any], details: dict[str, Any]) -> str:
    special = _special_reason(status, details)
    if special:
        return special
    reason = answer.get("reason")
    if isinstance(reason, str) and _WORD.match(reason):
        return reason
    try:
        return re.sub(r"[^A-Za-z]", "", HTTPStatus(status).phrase.title())
    except ValueError:
        return "HttpError"


def _special_reason(status: int, details: dict[str, Any]) -> str | None:
    """Tell apart what the API server gives one reason for."""
    causes = _causes(details)
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return "NamespaceTerminating"
    if status == HTTPStatus.NOT_FOUND:
        # A missing object is named in `details`; a group or resource that is not served is not.
        return "NotFound" if details.get("name") else KIND_NOT_SERVED
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and not causes:
        return UNPROCESSABLE
    if any(cause.get("field") == "metadata.uid" for cause in causes):
        return UID_CHANGED
    return None


def _causes(details: dict[str, Any]) -> list[dict[str, Any]]:
    causes = details.get("causes")
    return [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []


def _fields(details: dict[str, Any]) -> str:
    named = []
    for cause in _causes(details):
        path, reason = cause.get("field"), cause.get("reason")
        if isinstance(path, str) and path != "<nil>" and _FIELD.match(path):
            shown = _without_values(path)
            named.append(f"{shown} {reason}" if isinstance(reason, str) and _WORD.match(reason) else shown)
    unique = list(dict.fromkeys(named))[:_MAX_CAUSES]
    return f" [{', '.join(unique)}]" if unique else ""


def _without_values(path: str) -> str:
    """A field's path; below a Secret's data only keys of Kubernetes' own types: a webhook may put anything there."""
    head = path.partition("[")[0].partition(".")[0]
    if head not in {"data", "stringData"}:
        return path
    return path if path.removeprefix(f"{head}[").removesuffix("]") in _SECRET_KEYS else head


def _refused_by(answer: dict[str, Any]) -> tuple[str, str] | None:
    message = answer.get("message")
    if isinstance(message, str):
        for reason, pattern in _REFUSED_BY:
            found = pattern.search(message)
            if found:
                return reason, found.group(1)
    return None
