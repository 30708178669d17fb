"""Every way in which a Vault fails us, as one of our errors; the only place where foreign exceptions are named.

::

    StoreDown       TLSFailed VaultUnreachable ConnectionCut VaultTimeout VaultSealed VaultUninitialized VaultStandby
                    VaultBehind RateLimited VaultError VaultRedirect AddressInvalid StoreClosed
    SourceError     VaultRefused CredentialUnavailable
    SourceDenied    LoginDenied ReadDenied TokenRejected CredentialUnavailable
    SourceMissing   PathNotFound PathInvalid VersionNotFound VersionDeleted VersionDestroyed MountNotFound NotKvV2
    SourceGarbage   GarbledAnswer AnswerTooLarge NotKvV2

Messages are made of names, paths and status codes. What a server sent is looked at to tell causes apart and is never
quoted. Foreign exceptions are dropped, not chained: aiohttp's hold the request's headers (the token), hvac's the body.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import aiohttp
from hvac import exceptions as hvac_errors

from voicekeys.model.errors import SourceDenied, SourceError, SourceGarbage, SourceMissing, StoreDown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicekeys.clients.vault.answer import Answer


class Reason(StrEnum):
    """The reason of each error, and the outcome that metrics count."""

    TLS_FAILED = "TLSFailed"
    UNREACHABLE = "VaultUnreachable"
    CONNECTION_CUT = "ConnectionCut"
    TIMEOUT = "VaultTimeout"
    SEALED = "VaultSealed"
    UNINITIALIZED = "VaultUninitialized"
    STANDBY = "VaultStandby"
    BEHIND = "VaultBehind"
    RATE_LIMITED = "RateLimited"
    ERROR = "VaultError"
    REFUSED = "VaultRefused"
    REDIRECT = "VaultRedirect"
    ADDRESS_INVALID = "AddressInvalid"
    CLOSED = "StoreClosed"
    LOGIN_DENIED = "LoginDenied"
    READ_DENIED = "ReadDenied"
    TOKEN_REJECTED = "TokenRejected"  # noqa: S105  a reason, not a token
    CREDENTIAL_UNAVAILABLE = "CredentialUnavailable"
    PATH_NOT_FOUND = "PathNotFound"
    PATH_INVALID = "PathInvalid"
    VERSION_NOT_FOUND = "VersionNotFound"
    VERSION_DELETED = "VersionDeleted"
    VERSION_DESTROYED = "VersionDestroyed"
    MOUNT_NOT_FOUND = "MountNotFound"
    NOT_KV_V2 = "NotKvV2"
    GARBLED = "GarbledAnswer"
    TOO_LARGE = "AnswerTooLarge"


OK: Final = "ok"
"""The outcome of a request that succeeded."""

RETRIED_IN_CALL: Final = frozenset({Reason.BEHIND, Reason.RATE_LIMITED, Reason.ERROR, Reason.CONNECTION_CUT})
"""Reasons that are often gone a moment later, so that one read tries them again by itself."""

Fault = tuple[type[SourceError], Reason, str]

_TLS: Final[Fault] = (
    StoreDown,
    Reason.TLS_FAILED,
    (
        "the TLS connection failed{detail}. Set spec.vault.caBundle or spec.vault.caConfigMapRef of the store to the "
        "CA of Vault's certificate, and spec.vault.address to a name that the certificate holds"
    ),
)
_CUT: Final[Fault] = (StoreDown, Reason.CONNECTION_CUT, "the connection was cut{detail}. Wait, it is tried again")
_TIMEOUT: Final[Fault] = (
    StoreDown,
    Reason.TIMEOUT,
    "no answer in time. Check Vault's load and the network, or raise spec.vault.timeout of the store",
)
_UNREACHABLE: Final[Fault] = (
    StoreDown,
    Reason.UNREACHABLE,
    "no connection{detail}. Check spec.vault.address of the store, and that the operator may reach it (NetworkPolicy)",
)
_ADDRESS: Final[Fault] = (
    StoreDown,
    Reason.ADDRESS_INVALID,
    "spec.vault.address of the store is not a usable URL: correct it",
)
_REDIRECT: Final[Fault] = (
    StoreDown,
    Reason.REDIRECT,
    "a redirect that is not followed. Set spec.vault.address of the store to where Vault itself answers",
)
_NOT_HTTP: Final[Fault] = (
    SourceGarbage,
    Reason.GARBLED,
    "an answer that is not proper HTTP. See what answers at spec.vault.address",
)
_ERROR: Final[Fault] = (StoreDown, Reason.ERROR, "an error that Vault did not explain. See Vault's log")
_REFUSED: Final[Fault] = (SourceError, Reason.REFUSED, "the request was refused as malformed. See Vault's log")

FOREIGN: Final[Mapping[type[BaseException], Fault]] = {
    # Connection. ClientError and VaultError, the roots, are left out on purpose: a new child of theirs must show up in
    # the test that walks the trees, instead of being taken for something that it is not.
    ssl.SSLError: _TLS,
    aiohttp.ClientSSLError: _TLS,
    aiohttp.ServerFingerprintMismatch: _TLS,
    TimeoutError: _TIMEOUT,
    asyncio.TimeoutError: _TIMEOUT,
    aiohttp.ServerTimeoutError: _TIMEOUT,
    aiohttp.ClientConnectorDNSError: (
        StoreDown,
        Reason.UNREACHABLE,
        "the host name does not resolve. Check spec.vault.address of the store, and the cluster's DNS",
    ),
    aiohttp.ClientConnectionResetError: _CUT,
    aiohttp.ServerDisconnectedError: _CUT,
    aiohttp.ClientPayloadError: _CUT,
    aiohttp.UploadAbortedError: _CUT,
    ConnectionResetError: _CUT,
    BrokenPipeError: _CUT,
    aiohttp.ClientConnectionError: _UNREACHABLE,
    aiohttp.ClientOSError: _UNREACHABLE,
    OSError: _UNREACHABLE,
    aiohttp.InvalidURL: _ADDRESS,
    aiohttp.NonHttpUrlClientError: _ADDRESS,
    aiohttp.RedirectClientError: _REDIRECT,
    aiohttp.TooManyRedirects: _REDIRECT,
    aiohttp.ClientResponseError: _NOT_HTTP,
    # hvac. Our adapter gives statuses to hvac as answers, so that these come from hvac's own checks only.
    hvac_errors.InvalidRequest: _REFUSED,
    hvac_errors.ParamValidationError: _REFUSED,
    hvac_errors.UnsupportedOperation: _REFUSED,
    hvac_errors.Unauthorized: (
        SourceDenied,
        Reason.READ_DENIED,
        "permission was denied. Check the policy of the login",
    ),
    hvac_errors.Forbidden: (SourceDenied, Reason.READ_DENIED, "permission was denied. Check the policy of the login"),
    hvac_errors.InvalidPath: (SourceMissing, Reason.PATH_NOT_FOUND, "nothing is at the path. Check spec.source.path"),
    hvac_errors.PreconditionFailed: (StoreDown, Reason.BEHIND, "this node has not caught up with the active one"),
    hvac_errors.RateLimitExceeded: (StoreDown, Reason.RATE_LIMITED, "a rate limit quota is exceeded"),
    hvac_errors.VaultNotInitialized: (StoreDown, Reason.UNINITIALIZED, "it is not initialised: `vault operator init`"),
    hvac_errors.VaultDown: (StoreDown, Reason.SEALED, "it is sealed or in maintenance. Unseal it"),
    hvac_errors.InternalServerError: _ERROR,
    hvac_errors.BadGateway: _ERROR,
    hvac_errors.UnexpectedError: _ERROR,
}


def fault_of(kind: type[BaseException]) -> Fault | None:
    """Find what an exception class means: its own row of `FOREIGN`, or that of its nearest ancestor."""
    return next((FOREIGN[each] for each in kind.__mro__ if each in FOREIGN), None)


def from_foreign(error: BaseException, where: str) -> SourceError:
    """Translate an exception of aiohttp, hvac, ssl or the system.

    Args:
        error: what was caught; nothing of it is kept but what the system says of an errno or a certificate.
        where: Vault's name in messages.
    """
    # A connector's error wraps the system's: that one knows more than "cannot connect".
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    kind, reason, text = fault_of(type(error)) or _UNREACHABLE
    if isinstance(inner, ssl.SSLError):
        kind, reason, text = _TLS
    return kind(reason, f"{where}: {text.format(detail=_detail(inner or error))}", answered=False)


def _detail(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f" ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        hint = ": does it speak TLS there?" if error.reason == "WRONG_VERSION_NUMBER" else ""
        return f" ({error.reason}{hint})"
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno > 0:
        return f" ({os.strerror(error.errno)})"
    return ""


def fresh(error: SourceError) -> SourceError:
    """Copy an error without its traceback and context, whose frames may hold tokens and answers."""
    return type(error)(error.reason, error.message, retry_after=error.retry_after, answered=error.answered)


def closed(where: str) -> StoreDown:
    """Make the error of a read after, or during, `VaultStore.close`."""
    return StoreDown(Reason.CLOSED, f"{where}: the store's client is closed; its settings have changed or it is gone")


def timed_out(where: str, seconds: float) -> StoreDown:
    """Make the error of a read that did not end within ``seconds``, retries and logins included."""
    return StoreDown(_TIMEOUT[1], f"{where}: {_TIMEOUT[2]} (gave up after {seconds:g} s)")


def bad_ca(where: str) -> StoreDown:
    """Make the error of a CA bundle that holds no certificate."""
    return StoreDown(
        Reason.TLS_FAILED,
        f"{where}: the CA bundle of the store is not a PEM certificate. Correct spec.vault.caBundle, or the ConfigMap "
        "of spec.vault.caConfigMapRef",
    )


_STATUS: Final[Mapping[int, tuple[Reason, str]]] = {
    412: (Reason.BEHIND, "the node that answered has not caught up with the active one. It will by itself"),
    429: (Reason.RATE_LIMITED, "a rate limit quota is exceeded. Raise the quota, or lower spec.poll.readsPerSecond"),
    472: (
        Reason.STANDBY,
        "a disaster recovery standby answered. Set spec.vault.address of the store to the active one",
    ),
    473: (
        Reason.STANDBY,
        "a performance standby answered that serves no reads. Point spec.vault.address to the active",
    ),
    501: (Reason.UNINITIALIZED, "it is not initialised: run `vault operator init`"),
}
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503
_BAD_REQUEST: Final = 400


def store_fault(answer: Answer, where: str) -> StoreDown | None:
    """Tell from an answer whether the store as a whole is ill; None where the answer is about the request itself."""
    status, after = answer.status, answer.retry_after
    if status in _STATUS:
        reason, text = _STATUS[status]
        return StoreDown(reason, f"{where} answered {status}: {text}", retry_after=after)
    if status == _UNAVAILABLE and answer.says("sealed"):
        return StoreDown(Reason.SEALED, f"{where} is sealed. Unseal it: `vault operator unseal`", retry_after=after)
    if status >= _SERVER_ERROR and answer.says("not active"):
        text = "no node of it is active. Check the cluster: `vault operator members`"
        return StoreDown(Reason.STANDBY, f"{where} answered {status}: {text}", retry_after=after)
    if status >= _SERVER_ERROR:
        text = "Vault, or a proxy in front of it, failed. See Vault's log"
        return StoreDown(Reason.ERROR, f"{where} answered {status}: {text}", retry_after=after)
    if status == _BAD_REQUEST and answer.wants_tls:
        return StoreDown(
            Reason.TLS_FAILED, f"{where} speaks TLS only. Write https:// in spec.vault.address of the store"
        )
    return None
