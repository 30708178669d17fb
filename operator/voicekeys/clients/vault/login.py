"""One live token per identity: logged in once, renewed at two thirds of its lease, shared by all reads.

Whatever the number of reads that wait, one task per identity logs in for all of them (single flight); it ends by
itself, so that a cancelled read harms nobody. A refused login is remembered for a while, growing from 5 s to 60 s: a
hundred paths of one identity make one login then, not a hundred.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hvac.api.auth_methods import JWT, AppRole, Kubernetes
from hvac.api.auth_methods import Token as TokenApi
from hvac.api.secrets_engines import KvV2

from voicekeys.clients.vault import errors
from voicekeys.clients.vault.access import AppRoleLogin, JwtLogin, KubernetesLogin, StaticToken, Token, describe
from voicekeys.clients.vault.adapter import VaultAdapter
from voicekeys.clients.vault.grants import Grant, credential_fault, understand_login, understand_renewal, usable
from voicekeys.model.errors import SourceDenied, SourceError, SourceGarbage, VoiceKeysError
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from voicekeys.clients.vault.access import AuthMethod
    from voicekeys.clients.vault.adapter import Transport
    from voicekeys.clients.vault.answer import Answer
    from voicekeys.clients.vault.calls import Calls, Clock

RELOGIN_AFTER_DENIAL: Final = 300.0
"""Seconds between two logins because of a denied path: a token this young has the role's present policies."""
RELOGIN_AFTER_REJECTION: Final = 5.0
"""Seconds between two logins because Vault says that the token itself is bad."""
FIRST_REFUSAL, LONGEST_REFUSAL = 5.0, 60.0
"""Seconds for which a refused login is not tried again; doubled each time, with jitter."""
STATIC_LEASE: Final = 300.0
"""Seconds after which a static token is read again from where it is kept."""
RENEWED_ENOUGH: Final = 0.9
"""A renewal that grants less than this part of the first lease has met the token's max TTL: log in anew next time."""
PRUNE_EVERY: Final = 60.0
CLOSE_WITHIN: Final = 2.0
"""Seconds for revoking tokens at the end."""


@dataclass(slots=True, eq=False)
class Session:
    """A live login.

    Args:
        adapter: requests with the token.
        reader: hvac's KV v2 with the token.
        token_api: hvac's token API with the token.
        since: monotonic second of the login.
        lease: seconds that the login granted; infinite where the token never expires.
        renew_at: monotonic second from which the next read renews it, or logs in anew.
        expires_at: monotonic second at which Vault forgets it.
        renewable: whether Vault renews it.
        revocable: whether it is ours to revoke.
    """

    adapter: VaultAdapter = field(repr=False)
    reader: KvV2 = field(repr=False)
    token_api: TokenApi = field(repr=False)
    since: float
    lease: float
    renew_at: float
    expires_at: float
    renewable: bool
    revocable: bool


@dataclass(slots=True, eq=False)
class _Slot:
    """What is known of one identity: its session, the login under way, and the last refusal."""

    session: Session | None = None
    flight: asyncio.Task[Session | SourceError] | None = None
    refusal: SourceError | None = None
    refused_until: float = -math.inf
    refusals: int = 0


class Logins:
    """The sessions of a store.

    Args:
        transport: the store's.
        calls: runs requests.
        auth: how to log in. With AppRole and static tokens all identities share one session.
        mint_token: makes a ServiceAccount token (TokenRequest); called at each login.
        clock: tells when to renew.
        rng: spreads renewals.
        patience: seconds for one login with its retries.
    """

    def __init__(
        self,
        transport: Transport,
        calls: Calls,
        auth: AuthMethod,
        *,
        mint_token: Callable[[Identity, str], Awaitable[str]],
        clock: Clock,
        rng: random.Random,
        patience: float,
    ) -> None:
        self._transport = transport
        self._calls = calls
        self._auth = auth
        self._mint_token = mint_token
        self._clock = clock
        self._rng = rng
        self._patience = patience
        self._lent = isinstance(auth, AppRoleLogin | StaticToken)
        self._slots: dict[Identity, _Slot] = {}
        self._pruned_at = -math.inf
        self._closed = False

    async def session(self, identity: Identity) -> Session:
        """Give the live session of an identity; logs in or renews where needed.

        Raises:
            SourceError: the login failed; SourceDenied where Vault, or the cluster, refused it.
        """
        slot = self._slot(identity)
        now = self._clock.monotonic()
        if slot.session is not None and now < slot.session.renew_at:
            return slot.session
        if slot.flight is None and slot.refusal is not None and now < slot.refused_until:
            if slot.session is not None and now < slot.session.expires_at:
                return slot.session
            raise self._remembered(slot, now)
        return await self._join(slot, identity, anew=False)

    async def again(self, identity: Identity, denied: Session, *, rejected: bool) -> Session | None:
        """Give another session than the one that was denied a read, or None where a new login would change nothing.

        Args:
            identity: whose it is.
            denied: the session that the read was made with.
            rejected: whether Vault said that the token itself is bad.

        Raises:
            SourceError: the new login failed.
        """
        slot = self._slot(identity)
        if slot.session is not denied and slot.flight is None:
            return await self.session(identity)
        now = self._clock.monotonic()
        youth = RELOGIN_AFTER_REJECTION if rejected else RELOGIN_AFTER_DENIAL
        if slot.flight is None and now - denied.since < youth:
            return None
        if slot.flight is None and slot.refusal is not None and now < slot.refused_until:
            raise self._remembered(slot, now)
        return await self._join(slot, identity, anew=True)

    def _slot(self, identity: Identity) -> _Slot:
        if self._lent:
            identity = OPERATOR
        elif identity.lent:
            msg = f"{describe(self._auth)} reads as a ServiceAccount, not as the operator"
            raise ValueError(msg)
        slot = self._slots.get(identity)
        if slot is None:
            self._prune()
            slot = self._slots[identity] = _Slot()
        return slot

    def _prune(self) -> None:
        """Forget identities that nobody read with until their token ran out, so that gone tenants leave nothing."""
        now = self._clock.monotonic()
        if now - self._pruned_at < PRUNE_EVERY:
            return
        self._pruned_at = now
        for identity, slot in list(self._slots.items()):
            expired = slot.session is None or slot.session.expires_at < now
            if expired and slot.flight is None and slot.refused_until + LONGEST_REFUSAL < now:
                del self._slots[identity]

    @staticmethod
    def _remembered(slot: _Slot, now: float) -> SourceError:
        assert slot.refusal is not None  # noqa: S101  for the type checker: callers have looked
        again = slot.refusal.retry_after or 0.0
        after = max(slot.refused_until - now, again)
        return type(slot.refusal)(slot.refusal.reason, slot.refusal.message, retry_after=after, answered=False)

    async def _join(self, slot: _Slot, identity: Identity, *, anew: bool) -> Session:
        """Wait for the identity's login under way, which is begun where there is none."""
        if self._closed:
            raise errors.closed(self._transport.where)
        flight = slot.flight
        if flight is None:
            flight = slot.flight = asyncio.create_task(self._fly(slot, identity, anew=anew))
        try:
            outcome = await asyncio.shield(flight)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if flight.cancelled() and waiter is not None and not waiter.cancelling():
                raise errors.closed(self._transport.where) from None
            raise
        if isinstance(outcome, SourceError):
            raise errors.fresh(outcome)
        return outcome

    async def _fly(self, slot: _Slot, identity: Identity, *, anew: bool) -> Session | SourceError:
        """Renew or log in. A failure is returned, not raised: it would keep frames that hold tokens."""
        outcome: Session | SourceError
        try:
            async with asyncio.timeout(self._patience):
                outcome = await self._refresh(slot, identity, anew=anew)
        except TimeoutError:
            outcome = errors.timed_out(self._transport.where, self._patience)
        except SourceError as error:
            outcome = errors.fresh(error)
        finally:
            slot.flight = None
        return self._note(slot, outcome, anew=anew)

    def _note(self, slot: _Slot, outcome: Session | SourceError, *, anew: bool) -> Session | SourceError:
        """Keep what came of it. A token that still lives outlasts a failed refresh."""
        now = self._clock.monotonic()
        if isinstance(outcome, Session):
            slot.session, slot.refusal, slot.refusals = outcome, None, 0
            return outcome
        if isinstance(outcome, SourceDenied):
            wait = min(FIRST_REFUSAL * 2**slot.refusals, LONGEST_REFUSAL) * self._rng.uniform(0.8, 1.2)
            slot.refusal, slot.refused_until, slot.refusals = outcome, now + wait, min(slot.refusals + 1, 8)
        session = slot.session
        if session is not None and not anew and now < session.expires_at:
            session.renew_at = now + (session.expires_at - now) / 4
            return session
        return outcome

    async def _refresh(self, slot: _Slot, identity: Identity, *, anew: bool) -> Session:
        session = slot.session
        if session is not None and session.renewable and not anew and self._clock.monotonic() < session.expires_at:
            # A Vault that is down is not asked for a login either: the token lives on, and the read says what is wrong.
            with contextlib.suppress(SourceDenied, SourceGarbage):
                return await self._renew(session)
        return await self._login(identity)

    async def _renew(self, session: Session) -> Session:
        started = self._clock.monotonic()
        understand = partial(understand_renewal, where=self._transport.where)
        grant = await self._calls.run("renew", session.token_api.renew_self, understand)
        session.expires_at = started + grant.lease
        session.renew_at = self._renewal(started, grant.lease)
        session.renewable = grant.renewable and grant.lease >= session.lease * RENEWED_ENOUGH
        return session

    async def _login(self, identity: Identity) -> Session:
        started = self._clock.monotonic()
        if isinstance(self._auth, StaticToken):
            token = Token(await self._credential(self._auth.token, identity, "token"))
            return self._session(Grant(token, STATIC_LEASE, renewable=False, revocable=False), started)
        send = await self._sender(self._auth, identity)
        understand = partial(understand_login, where=self._transport.where, auth=self._auth, identity=identity)
        return self._session(await self._calls.run("login", send, understand), started)

    async def _sender(
        self, auth: KubernetesLogin | JwtLogin | AppRoleLogin, identity: Identity
    ) -> Callable[[], Awaitable[Answer]]:
        """Get the credential and make hvac's login call of it. ``use_token``: hvac would look into the answer."""
        adapter = VaultAdapter(self._transport)
        mount = auth.mount_path
        if isinstance(auth, AppRoleLogin):
            secret_id = await self._credential(auth.secret_id, identity, "secret id")
            return partial(AppRole(adapter).login, auth.role_id, secret_id, use_token=False, mount_point=mount)
        jwt = await self._credential(
            lambda: self._mint_token(identity, auth.audience), identity, "ServiceAccount token"
        )
        if isinstance(auth, JwtLogin):
            return partial(JWT(adapter).jwt_login, auth.role, jwt, use_token=False, path=mount)
        return partial(Kubernetes(adapter).login, auth.role, jwt, use_token=False, mount_point=mount)

    async def _credential(self, read: Callable[[], Awaitable[str]], identity: Identity, what: str) -> str:
        try:
            text = await read()
        except VoiceKeysError as error:
            failure = credential_fault(error, identity, what)
        else:
            return usable(text, identity, what)
        raise failure

    def _session(self, grant: Grant, started: float) -> Session:
        adapter = VaultAdapter(self._transport, grant.token)
        return Session(
            adapter=adapter,
            reader=KvV2(adapter),
            token_api=TokenApi(adapter),
            since=started,
            lease=grant.lease,
            renew_at=self._renewal(started, grant.lease),
            expires_at=started + grant.lease,
            renewable=grant.renewable,
            revocable=grant.revocable,
        )

    def _renewal(self, started: float, lease: float) -> float:
        """Two thirds of the lease, a little earlier at random: logins made together are not renewed together."""
        return started + lease * self._rng.uniform(0.60, 2 / 3) if lease < math.inf else math.inf

    async def close(self) -> None:
        """End logins under way and revoke the tokens that are ours, as far as Vault answers within two seconds."""
        self._closed = True
        flights = [slot.flight for slot in self._slots.values() if slot.flight is not None]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        now = self._clock.monotonic()
        sessions = [slot.session for slot in self._slots.values() if slot.session is not None]
        self._slots.clear()
        mine = [each for each in sessions if each.revocable and now < each.expires_at]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await asyncio.gather(*(self._revoke(each) for each in mine))

    async def _revoke(self, session: Session) -> None:
        # A token that cannot be revoked now ends with its lease.
        with contextlib.suppress(SourceError):
            await self._calls.run("revoke", session.token_api.revoke_self, _done)


def _done(answer: Answer) -> Any:
    return answer.status
