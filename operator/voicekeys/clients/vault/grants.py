"""What logins answer: the token and its lease, or why there is none. Pure: no I/O."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voicekeys.clients.vault import errors
from voicekeys.clients.vault.access import AppRoleLogin, JwtLogin, KubernetesLogin, Token
from voicekeys.clients.vault.errors import Reason
from voicekeys.model.errors import (
    ApiError,
    ApiForbidden,
    ApiNotFound,
    Retryable,
    SourceDenied,
    SourceError,
    SourceGarbage,
    VoiceKeysError,
)

if TYPE_CHECKING:
    from voicekeys.clients.vault.answer import Answer
    from voicekeys.model.identity import Identity

BATCH: Final = "batch"
"""Vault's token type that is neither renewed nor revoked: it only expires."""


class Grant(NamedTuple):
    """What a login gave: ``lease`` in seconds, infinite where the token never expires."""

    token: Token
    lease: float
    renewable: bool
    revocable: bool


class Renewal(NamedTuple):
    """What a renewal gave: ``lease`` in seconds from now."""

    lease: float
    renewable: bool


def understand_login(
    answer: Answer, where: str, auth: KubernetesLogin | JwtLogin | AppRoleLogin, identity: Identity
) -> Grant:
    """Read the answer to a login.

    Raises:
        StoreDown: the store as a whole is ill.
        SourceDenied: the login is refused.
        SourceGarbage: a success without a usable token.
    """
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer, where, auth, identity)
    granted = _auth(answer, where)
    token = granted.get("client_token")
    if not isinstance(token, str) or not _sendable(token):
        raise _garbled(where, "has no token (multi-factor logins cannot be used)")
    kind = granted.get("token_type")
    lease = _lease(granted, where)
    return Grant(Token(token), lease, renewable=granted.get("renewable") is True, revocable=kind != BATCH)


def understand_renewal(answer: Answer, where: str) -> Renewal:
    """Read the answer to a renewal. Raises SourceError where there was none."""
    if answer.status != HTTPStatus.OK:
        denied = SourceDenied(Reason.LOGIN_DENIED, f"{where} does not renew the token (status {answer.status})")
        # Vault says 500 to a token that has reached its max TTL: it is the token that is ill then, not Vault.
        raise denied if answer.says("max TTL") else errors.store_fault(answer, where) or denied
    granted = _auth(answer, where)
    return Renewal(_lease(granted, where), renewable=granted.get("renewable") is True)


def _auth(answer: Answer, where: str) -> dict[str, Any]:
    granted = answer.body.get("auth") if isinstance(answer.body, dict) else None
    if not isinstance(granted, dict):
        raise _garbled(where, "is not the JSON of a login")
    return granted


def _lease(granted: dict[str, Any], where: str) -> float:
    """Seconds; Vault writes 0 for a token that never expires."""
    lease = granted.get("lease_duration")
    if type(lease) is not int or lease < 0:
        raise _garbled(where, "has no lease")
    return float(lease) if lease else math.inf


def _garbled(where: str, what: str) -> SourceGarbage:
    return SourceGarbage(Reason.GARBLED, f"{where}: the answer to a login {what}. Is it Vault that answers there?")


def _refusal(
    answer: Answer, where: str, auth: KubernetesLogin | JwtLogin | AppRoleLogin, identity: Identity
) -> SourceError:
    down = errors.store_fault(answer, where)
    if down is not None:
        return down
    if answer.status not in range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR):
        return _garbled(where, f"has the status {answer.status}")
    who = "the operator" if isinstance(auth, AppRoleLogin) else str(identity)
    head = f"{where} refused the login of {who} at auth/{auth.mount_path} (status {answer.status})"
    match auth:
        case KubernetesLogin():
            advice = (
                f"Check that role {auth.role} exists there, is bound to that ServiceAccount and namespace with "
                f"audience {auth.audience}, and that the mount may review this cluster's tokens"
            )
        case JwtLogin():
            advice = (
                f"Check that role {auth.role} exists there, accepts audience {auth.audience} and that ServiceAccount's "
                "claims, and that the mount trusts this cluster's token issuer"
            )
        case AppRoleLogin():
            advice = (
                "Check roleId and the secret id of the store, and that the secret id is neither used up nor expired"
            )
    return SourceDenied(Reason.LOGIN_DENIED, f"{head}. {advice}")


def credential_fault(error: VoiceKeysError, identity: Identity, what: str) -> SourceError:
    """Say that what a login needs could not be had from the cluster; ``what`` names the credential."""
    after = error.retry_after if isinstance(error, Retryable) else None
    whose = "" if identity.lent else f" of {identity}"
    advice = error.message
    if isinstance(error, ApiNotFound) and not identity.lent:
        advice = "it does not exist. Create it, or name another in spec.source.serviceAccountName"
    elif isinstance(error, ApiForbidden) and not identity.lent:
        advice = (
            "the operator may not mint its tokens. Grant it `create` on serviceaccounts/token of that name by a Role "
            f"in namespace {identity.namespace}"
        )
    kind = (
        SourceError
        if isinstance(error, ApiError) and not isinstance(error, ApiNotFound | ApiForbidden)
        else SourceDenied
    )
    text = f"no {what}{whose} for the login to Vault: {advice}"
    return kind(Reason.CREDENTIAL_UNAVAILABLE, text, retry_after=after, answered=False)


def usable(text: str, identity: Identity, what: str) -> str:
    """Strip the white space that files end with; raises SourceDenied for a credential that no header can carry."""
    stripped = text.strip()
    if not _sendable(stripped):
        whose = "" if identity.lent else f" of {identity}"
        message = f"the {what}{whose} is empty or not plain ASCII text. Correct what it is read from"
        raise SourceDenied(Reason.CREDENTIAL_UNAVAILABLE, message, answered=False)
    return stripped


def _sendable(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()
