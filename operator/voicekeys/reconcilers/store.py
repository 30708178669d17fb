"""A store's reconcile: connect if it is not, and say how it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api import names
from voicekeys.api.conditions import StoreCondition as Is
from voicekeys.api.status import ConditionStatus, StoreStatus, dump_status
from voicekeys.model.errors import ApiNotFound
from voicekeys.model.identity import Name
from voicekeys.model.verdict import Verdict
from voicekeys.policies.conditions import Finding, merge, summarise
from voicekeys.reconcilers.inventory import pack_status

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.reconcilers.inventory import Inventory
    from voicekeys.reconcilers.poller import StorePoller
    from voicekeys.reconcilers.ports import Clock, Cluster, Events
    from voicekeys.reconcilers.stores import Store, Stores

_RETRY = timedelta(seconds=30)
_LOOK_AGAIN = timedelta(seconds=1)
LOGIN_REASONS = frozenset({"LoginDenied", "CredentialUnavailable", "TokenRejected"})
"""Reasons of `SourceError` that are about the login, not about the key."""


class StoreReconciler:
    """Reconciles stores.

    Args:
        stores: all of them.
        inventory: counts bindings.
        cluster: writes status.
        events: for changes.
        clock: time.
    """

    def __init__(self, stores: Stores, inventory: Inventory, cluster: Cluster, events: Events, clock: Clock) -> None:
        self._stores = stores
        self._inventory = inventory
        self._cluster = cluster
        self._events = events
        self._clock = clock

    async def reconcile(self, name: Name) -> datetime | None:
        """Connect a store whose settings could not be used before, and write its status if it changed.

        Returns:
            When to try again, None for never.

        Raises:
            ApiError: the status could not be written.
        """
        store = self._stores.all.get(name.name)
        if store is None:
            return None
        if store.poller is None and not store.spec.suspend:
            await self._stores.retry(store)
        now = self._clock.now()
        if store.poller is not None and store.poller.starting:
            return now + _LOOK_AGAIN  # nothing is known yet, and nothing is said: else each restart would write it
        bindings = sum(1 for _ in self._inventory.of_store(store.name))
        if not store.from_file:
            await self._write(store, status_of(store, bindings, now))
        return now + _RETRY if store.problem else None

    async def _write(self, store: Store, status: StoreStatus) -> None:
        packed = pack_status(dump_status(status))
        if packed == store.status_json:
            return
        before = {old.type: old for old in store.status().conditions}
        try:
            raw = await self._cluster.replace_status(
                names.STORE_KIND, Name("", store.name), store.uid, dump_status(status)
            )
        except ApiNotFound:
            return
        store.status_json = pack_status(raw.get("status"))
        if raw["metadata"].get("generation") == store.generation:
            store.resource_version = max(store.resource_version, int(raw["metadata"]["resourceVersion"]))
        # Else the answer holds an edit that the watch has yet to show; its event must not pass for an old one.
        for new in status.conditions:
            old = before.get(new.type)
            news = (old.status, old.reason) != (new.status, new.reason) if old else new.status == ConditionStatus.FALSE
            if news and new.type in {Is.REACHABLE, Is.LOGGED_IN}:
                kind = "Warning" if new.status == ConditionStatus.FALSE else "Normal"
                self._events.emit(_regarding(store), kind, new.reason, f"{new.type}: {new.message}")


def status_of(store: Store, bindings: int, now: datetime) -> StoreStatus:
    """The status of a store, from what its poller knows.

    Args:
        store: the store.
        bindings: how many name it.
        now: wall time.
    """
    before = store.status()
    findings, stalled, last_error = _findings(store)
    if store.spec.auth.lends_identity:
        message = (
            "every binding reads with the operator's own Vault login: only this store's rules keep tenants apart; "
            "check them, or use auth.kubernetes or auth.jwt, where each namespace reads as itself"
        )
        findings[Is.IDENTITY_LENT] = Finding(ConditionStatus.TRUE, "IdentityLent", message)
    reachable = findings[Is.REACHABLE]
    progressing, ready = None, Verdict("Answers", "Vault answers")
    if stalled is None and store.poller is not None and not store.poller.sources:
        # Nothing is on its way that anyone could wait for: the settings are usable, and no more is known.
        ready = Verdict(reachable.reason, reachable.message)
    elif reachable.status is not ConditionStatus.TRUE and stalled is None:
        progressing = Verdict(reachable.reason, reachable.message)
    if store.spec.suspend:
        stalled = Verdict("Suspended", "spec.suspend stops every read from this store: set it to false to go on")
        findings[Is.SUSPENDED] = Finding(ConditionStatus.TRUE, *stalled)
    findings |= {Is(kind): one for kind, one in summarise(stalled, progressing, ready).items()}
    conditions = merge(before.conditions, {str(k): v for k, v in findings.items()}, store.generation, now)
    return replace(
        before,
        observed_generation=store.generation,
        conditions=conditions,
        bindings=bindings,
        last_error=last_error or None,
    )


def _findings(store: Store) -> tuple[dict[Is, Finding], Verdict | None, str]:
    poller = store.poller
    if poller is None:
        verdict = store.problem or Verdict(
            "NotConnected", "it is not connected yet: wait; or, if spec.suspend is set, set it to false"
        )
        unknown = Finding(ConditionStatus.UNKNOWN, *verdict)
        return {Is.REACHABLE: unknown, Is.LOGGED_IN: unknown}, store.problem, verdict.message if store.problem else ""
    if not poller.sources:
        unused = Finding(
            ConditionStatus.UNKNOWN, "NotUsed", "no binding uses this store, so nothing is read from Vault"
        )
        return {Is.REACHABLE: unused, Is.LOGGED_IN: unused}, None, ""
    denied = _denied(poller)
    logged_in = Finding(ConditionStatus.UNKNOWN, "NotYet", "no binding has asked for a login yet")
    if denied is not None:
        logged_in = Finding(ConditionStatus.FALSE, *denied)
    elif any(source.key is not None for source in poller.sources.values()):
        logged_in = Finding(ConditionStatus.TRUE, "LoggedIn", "logins succeed")
    if poller.down is not None:
        down = Finding(ConditionStatus.FALSE, poller.down.reason, poller.down.message)
        return {Is.REACHABLE: down, Is.LOGGED_IN: logged_in}, None, poller.down.message
    if not poller.answered:
        quiet = Finding(ConditionStatus.UNKNOWN, "NotYet", "nothing was read from Vault yet")
        return {Is.REACHABLE: quiet, Is.LOGGED_IN: logged_in}, None, denied.message if denied else ""
    answers = Finding(ConditionStatus.TRUE, "Answers", f"Vault answers at {store.spec.vault.address}")
    return {Is.REACHABLE: answers, Is.LOGGED_IN: logged_in}, None, denied.message if denied else ""


def _denied(poller: StorePoller) -> Verdict | None:
    errors = [source.error for source in poller.sources.values() if source.error is not None]
    denied = [error for error in errors if error.reason in LOGIN_REASONS]
    return Verdict(denied[0].reason, denied[0].message) if denied else None


def _regarding(store: Store) -> dict[str, str]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.STORE_KIND,
        "namespace": "",
        "name": store.name,
        "uid": store.uid,
    }
