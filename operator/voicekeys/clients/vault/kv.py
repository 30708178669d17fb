"""KV v2's answers, read into a `KeyVersion` or into the error that says what to do. Pure: no I/O.

What an answer looks like: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from voicekeys.clients.vault import errors
from voicekeys.clients.vault.errors import Reason
from voicekeys.model.errors import SourceDenied, SourceError, SourceGarbage, SourceMissing
from voicekeys.model.payload import KeyVersion, Payload

if TYPE_CHECKING:
    from voicekeys.clients.vault.answer import Answer
    from voicekeys.model.identity import Identity

LATEST: Final = 0


class Ask(NamedTuple):
    """What is read, by whom: all that a message about it needs."""

    where: str
    namespace: str
    mount: str
    path: str
    version: int
    identity: Identity
    login: str

    @property
    def key(self) -> str:
        """The key as ``vault kv`` commands take it."""
        flag = f"-namespace={self.namespace} " if self.namespace else ""
        return f"{flag}-mount={self.mount} {self.path}"

    @property
    def name(self) -> str:
        """The key as a person says it."""
        inside = f" of namespace {self.namespace}" if self.namespace else ""
        return f"{self.mount}/{self.path}{inside}"


def understand(answer: Answer, ask: Ask) -> KeyVersion:
    """Read Vault's answer to a read.

    Raises:
        StoreDown: the store as a whole is ill.
        SourceDenied: 401 or 403.
        SourceMissing: nothing to read, by cause.
        SourceGarbage: not what KV v2 promises.
        SourceError: 400, which is about this path alone.
    """
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer, ask)
    data = answer.body.get("data") if isinstance(answer.body, dict) else None
    if not isinstance(data, dict):
        raise _garbled(ask, "is not the JSON of a key")
    metadata, fields = data.get("metadata"), data.get("data")
    if not isinstance(metadata, dict) or "data" not in data:
        raise SourceGarbage(Reason.NOT_KV_V2, f"{_no_kv_v2(ask)}, since its answer has no version")
    if fields is None:
        raise _gone(metadata, ask) or _garbled(ask, "has no fields")
    version = _version(metadata, ask)
    return KeyVersion(version, _created_time(metadata, ask), _payload(fields, ask))


def _version(metadata: dict[str, Any], ask: Ask) -> int:
    version = metadata.get("version")
    if type(version) is not int or version < 1 or (ask.version and version != ask.version):
        raise _garbled(ask, "has no version number, or another than the one asked for")
    return version


def _created_time(metadata: dict[str, Any], ask: Ask) -> datetime:
    """RFC 3339 with nanoseconds, of which Python keeps microseconds."""
    text = metadata.get("created_time")
    try:
        created = datetime.fromisoformat(text)  # type: ignore[arg-type]  # a TypeError is one of the answers
        aware = created.tzinfo is not None
        created = created.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        aware = False
    if not aware:
        raise _garbled(ask, "has no readable created_time")
    return created


def _payload(fields: object, ask: Ask) -> Payload:
    """Text as its UTF-8 bytes; anything else as compact JSON with sorted names, so that it is the same at each read."""
    if not isinstance(fields, dict):
        raise _garbled(ask, "has fields that are not a JSON object")
    return Payload(
        {
            name: value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            for name, value in fields.items()
        }
    )


def _refusal(answer: Answer, ask: Ask) -> SourceError:
    down = errors.store_fault(answer, ask.where)
    if down is not None:
        return down
    match answer.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return _denied(answer, ask)
        case HTTPStatus.NOT_FOUND:
            return _missing(answer, ask)
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return not_kv_v2(ask)
        case HTTPStatus.BAD_REQUEST:
            text = (
                f"{ask.where} refused the read of {ask.name} as malformed (400). Write spec.source.path anew by hand: "
                "it may hold what is not to be seen. A mount that is being upgraded says so for a moment; where every "
                "path of the store is refused, check its spec.vault.mount and spec.vault.namespace"
            )
            return SourceError(Reason.REFUSED, text)
        case status:
            return _garbled(ask, f"has the status {status}")


def _denied(answer: Answer, ask: Ask) -> SourceDenied:
    if answer.says("invalid token"):
        text = f"{ask.where} no longer accepts the token of {ask.identity} (revoked, expired, or of another namespace)"
        return SourceDenied(Reason.TOKEN_REJECTED, f"{text}. It came from {ask.login}")
    line = f'path "{ask.mount}/data/{ask.path}" {{ capabilities = ["read"] }}'
    inside = f" in the Vault namespace {ask.namespace}" if ask.namespace else ""
    return SourceDenied(
        Reason.READ_DENIED,
        f"{ask.where} does not let {ask.identity} read {ask.mount}/{ask.path}{inside}. Add to a policy of {ask.login}: "
        f"{line}",
    )


def _missing(answer: Answer, ask: Ask) -> SourceMissing:
    data = answer.body.get("data") if isinstance(answer.body, dict) else None
    metadata = data.get("metadata") if isinstance(data, dict) else None
    gone = _gone(metadata, ask) if isinstance(metadata, dict) else None
    if gone is not None:
        return gone
    if answer.says("no handler for route"):
        inside = f" in its namespace {ask.namespace}" if ask.namespace else ""
        text = f"{ask.where} has nothing mounted at {ask.mount}{inside}. Correct spec.vault.mount of the store"
        return SourceMissing(Reason.MOUNT_NOT_FOUND, text)
    if answer.says("unsupported path"):
        return not_kv_v2(ask)
    text = f"{ask.where} has no key {ask.name}. Put one (`vault kv put {ask.key} …`) or correct spec.source.path"
    return SourceMissing(Reason.PATH_NOT_FOUND, text)


def _gone(metadata: dict[str, Any], ask: Ask) -> SourceMissing | None:
    version = metadata.get("version")
    number = version if type(version) is int else ask.version
    put = f"put a new version (`vault kv put {ask.key} …`)"
    if ask.version:
        put = "set spec.source.version to one that exists"
    if metadata.get("destroyed") is True:
        text = f"version {number} of {ask.name} is destroyed and cannot come back: {put}"
        return SourceMissing(Reason.VERSION_DESTROYED, f"{ask.where}: {text}")
    if metadata.get("deletion_time"):
        undelete = f"`vault kv undelete -versions={number} {ask.key}`"
        text = f"version {number} of {ask.name} is deleted: undelete it ({undelete}) or {put}"
        return SourceMissing(Reason.VERSION_DELETED, f"{ask.where}: {text}")
    return None


def version_not_found(ask: Ask) -> SourceMissing:
    """Make the error of a pinned version that Vault does not have while it has the key."""
    text = f"{ask.where}: {ask.name} has no version {ask.version} (it never had, or max_versions removed it)"
    return SourceMissing(
        Reason.VERSION_NOT_FOUND, f"{text}. Set spec.source.version to one of `vault kv metadata get {ask.key}`"
    )


def not_kv_v2(ask: Ask) -> SourceMissing:
    """Make the error of a mount of another kind."""
    return SourceMissing(Reason.NOT_KV_V2, _no_kv_v2(ask))


def _no_kv_v2(ask: Ask) -> str:
    upgrade = f"upgrade a KV v1 mount (`vault kv enable-versioning {ask.mount}`)"
    return f"{ask.where}: the mount {ask.mount} is not KV v2. Correct spec.vault.mount of the store, or {upgrade}"


def _garbled(ask: Ask, what: str) -> SourceGarbage:
    text = f"{ask.where}: the answer to the read of {ask.name} {what}. Is it Vault that answers there?"
    return SourceGarbage(Reason.GARBLED, text)
