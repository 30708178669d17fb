"""Reads keys from one Vault: the client that satisfies the reconcilers' ``KeySource``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from voicekeys.clients.vault import errors, kv
from voicekeys.clients.vault.access import describe
from voicekeys.clients.vault.adapter import Transport, VaultAdapter
from voicekeys.clients.vault.calls import Calls
from voicekeys.clients.vault.errors import Reason
from voicekeys.clients.vault.kv import LATEST, Ask
from voicekeys.clients.vault.login import Logins, Session
from voicekeys.clients.vault.trust import CaWatch
from voicekeys.model.errors import SourceDenied, SourceError, SourceMissing, StoreDown

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable

    from voicekeys.clients.vault.access import VaultAccess
    from voicekeys.clients.vault.answer import Answer
    from voicekeys.clients.vault.calls import Clock
    from voicekeys.model.identity import Identity
    from voicekeys.model.payload import KeyVersion

PATIENCE: Final = 2
"""A read, with its retries and the login that it waits for, ends within this many timeouts of the store."""
MOUNT_KNOWN_FOR: Final = 300.0
"""Seconds for which the answer to "is this mount KV v2?" is kept. It is asked only when a key is missing."""


class VaultStore:
    """One store's Vault, ready to read keys with a tenant's identity.

    Make one per store spec, in a running loop or not, and `close` it when the spec changes.

    Args:
        access: where Vault is and how to log in.
        mint_token: ``(identity, audience)`` to a ServiceAccount token (TokenRequest).
        observe: is told ``(operation, outcome, seconds)`` of each request; see `Calls`.
        clock: time.
        rng: jitter.
    """

    def __init__(
        self,
        access: VaultAccess,
        *,
        mint_token: Callable[[Identity, str], Awaitable[str]],
        observe: Callable[[str, str, float], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._access = access
        self._clock = clock
        self._patience = PATIENCE * access.timeout
        self._transport = Transport(access, clock.now)
        self._calls = Calls(self._transport.where, clock, rng, observe, self._patience)
        self._logins = Logins(
            self._transport,
            self._calls,
            access.auth,
            mint_token=mint_token,
            clock=clock,
            rng=rng,
            patience=self._patience,
        )
        self._login = describe(access.auth)
        self._ca = CaWatch(access.read_ca, self._transport.trust, clock) if access.read_ca is not None else None
        self._mount_seen: tuple[float, bool] | None = None

    async def read(self, identity: Identity, path: str, version: int = LATEST) -> KeyVersion:
        """Read one key.

        Args:
            identity: whose login reads it; `OPERATOR` where the store lends its own (AppRole, token).
            path: below the mount, without ``data/``.
            version: 0 reads the latest.

        Raises:
            SourceError: a subclass by cause (`voicekeys.clients.vault.errors`); the message says what to do. It comes
                without a cause or inner frames, since those would hold tokens and answers.
            ValueError: `OPERATOR` with a login that reads as ServiceAccounts.
        """
        if self._ca is not None:
            self._ca.remind()
        try:
            async with asyncio.timeout(self._patience):
                return await self._read(identity, path, version)
        except TimeoutError:
            failure: SourceError = errors.timed_out(self._transport.where, self._patience)
        except SourceError as error:
            failure = errors.fresh(error)
        if self._ca is not None and failure.reason == Reason.TLS_FAILED:
            self._ca.remind(failed=True)
        raise failure

    async def _read(self, identity: Identity, path: str, version: int) -> KeyVersion:
        ask = Ask(
            self._transport.where,
            self._access.namespace or "",
            self._access.mount,
            path,
            version,
            identity,
            self._login,
        )
        _check(ask)
        try:
            return await self._read_logged_in(ask)
        except StoreDown as error:
            if error.reason != Reason.SEALED or not await self._is_uninitialized():
                raise
        text = f"{self._transport.where} is not initialised: run `vault operator init`, then unseal it"
        raise StoreDown(Reason.UNINITIALIZED, text)

    async def _read_logged_in(self, ask: Ask) -> KeyVersion:
        session = await self._logins.session(ask.identity)
        try:
            return await self._fetch(session, ask)
        except SourceDenied as error:
            rejected = error.reason == Reason.TOKEN_REJECTED
            another = await self._logins.again(ask.identity, session, rejected=rejected)
            if another is None:
                raise
        return await self._fetch(another, ask)

    async def _fetch(self, session: Session, ask: Ask) -> KeyVersion:
        try:
            return await self._get(session, ask)
        except SourceMissing as error:
            if error.reason != Reason.PATH_NOT_FOUND:
                raise
            raise await self._explain(error, session, ask) from None

    async def _get(self, session: Session, ask: Ask) -> KeyVersion:
        send = partial(
            session.reader.read_secret_version,
            ask.path,
            ask.version or None,
            mount_point=ask.mount,
            # With False, hvac looks for a deleted version in an exception of its own, which our adapter never raises.
            raise_on_deleted_version=False,
        )
        return await self._calls.run("read", send, partial(kv.understand, ask=ask))

    async def _explain(self, missing: SourceMissing, session: Session, ask: Ask) -> SourceMissing:
        """Tell a wrong mount and a missing version from a missing key: Vault's bare 404 is the same for all three."""
        if not await self._is_kv_v2(session):
            return kv.not_kv_v2(ask)
        if ask.version == LATEST:
            return missing
        try:
            await self._get(session, ask._replace(version=LATEST))
        except SourceMissing as error:
            if error.reason == Reason.PATH_NOT_FOUND:
                return missing
        return kv.version_not_found(ask)

    async def _is_kv_v2(self, session: Session) -> bool:
        """Ask what is mounted, as ``vault kv`` does. Counts as yes where it cannot be told."""
        now = self._clock.monotonic()
        if self._mount_seen is None or now >= self._mount_seen[0]:
            path = f"/v1/sys/internal/ui/mounts/{self._access.mount}"
            body = await self._inspect(partial(session.adapter.get, path))
            data = body.get("data") if isinstance(body, dict) else None
            self._mount_seen = (now + MOUNT_KNOWN_FOR, not isinstance(data, dict) or _versioned(data))
        return self._mount_seen[1]

    async def _is_uninitialized(self) -> bool:
        """Tell "never initialised" from "sealed": Vault answers a read with the same words."""
        body = await self._inspect(partial(VaultAdapter(self._transport).get, "/v1/sys/seal-status"))
        return isinstance(body, dict) and body.get("initialized") is False

    async def _inspect(self, send: Callable[[], Awaitable[Answer]]) -> Any:
        """Give the body of a question on the side, None where there is no answer."""
        try:
            return await self._calls.run("inspect", send, _body)
        except SourceError:
            return None

    async def close(self) -> None:
        """Revoke the tokens that this client got, as far as Vault answers within two seconds, and close connections."""
        if self._ca is not None:
            await self._ca.close()
        await self._logins.close()
        await self._transport.close()


def _check(ask: Ask) -> None:
    """Refuse paths that could lead out of ``data/``, or that Vault refuses unread; the schema does so first.

    Vault answers 400 to a path with a rune that Go's ``unicode.IsPrint`` refuses (``PrintablePathCheckHandler`` of
    hashicorp/go-cleanhttp), which are those of `str.isprintable`.
    """
    if any(segment in {"", ".", ".."} for segment in ask.path.split("/")):
        text = f"{ask.path!r} is not a path of a key: no empty, `.` or `..` segment. Correct spec.source.path"
        raise SourceMissing(Reason.PATH_INVALID, text, answered=False)
    hidden = [each for each in ask.path if not each.isprintable()]
    if hidden:
        text = f"{ask.path!r} holds {_runes(hidden)}, not to be seen, which Vault refuses. Write spec.source.path anew"
        raise SourceMissing(Reason.PATH_INVALID, text, answered=False)


def _runes(characters: Iterable[str]) -> str:
    return ", ".join(f"U+{ord(each):04X}" for each in dict.fromkeys(characters))


def _versioned(mount: dict[str, Any]) -> bool:
    options = mount.get("options")
    return mount.get("type") == "kv" and isinstance(options, dict) and options.get("version") == "2"


def _body(answer: Answer) -> Any:
    return answer.body
