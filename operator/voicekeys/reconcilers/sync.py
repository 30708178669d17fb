"""The first half of a reconcile: from the polled key to the Secret, and nothing lost on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.api import names
from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.status import Handled, KeyStatus, SecretStatus
from voicekeys.model.digest import UNKNOWN_DIGEST
from voicekeys.model.errors import ApiForbidden, ApiInvalid, SourceError, Terminal, Waiting
from voicekeys.model.secret import parse_secret
from voicekeys.model.verdict import Verdict
from voicekeys.policies import access, freshness, records, render, rotation
from voicekeys.policies import secret as policy
from voicekeys.reconcilers import leaks
from voicekeys.reconcilers.way_back import Wanted, WayBack

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.model.digest import Digester
    from voicekeys.model.payload import KeyVersion
    from voicekeys.model.secret import SecretView
    from voicekeys.reconcilers.gather import Gatherer, Observed
    from voicekeys.reconcilers.inventory import Inventory
    from voicekeys.reconcilers.outcome import Draft, Outcome
    from voicekeys.reconcilers.ports import Cluster
    from voicekeys.reconcilers.shared import SharedKeys
    from voicekeys.reconcilers.source import Source
    from voicekeys.reconcilers.stores import Stores


class Sync:
    """Reads, renders and writes the Secret.

    Args:
        gatherer: for sources.
        stores: for reads at once.
        cluster: for Secrets.
        inventory: told of our own writes.
        outcome: for events.
        digester: makes digests.
        shared: knows keys that are used in two environments.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        stores: Stores,
        cluster: Cluster,
        inventory: Inventory,
        outcome: Outcome,
        digester: Digester,
        shared: SharedKeys,
    ) -> None:
        self._gatherer = gatherer
        self._stores = stores
        self._cluster = cluster
        self._inventory = inventory
        self._outcome = outcome
        self._digester = digester
        self._shared = shared
        self.way_back = WayBack(gatherer, digester)

    def source(self, observed: Observed, draft: Draft) -> Source:
        """Grant access and give the polled key.

        Raises:
            Waiting: there is no such store, it cannot be used, or the first read is on its way (reason ``Reading``).
            Terminal: the store's rules refuse the binding.
        """
        name = observed.spec.source.store_ref.name
        if observed.store is None:
            missing = f"there is no VoiceKeyStore {name}: create it, or change spec.source.storeRef"
            draft.unknown(Is.SOURCE_REACHABLE, "StoreNotFound", missing)
            raise Waiting("StoreNotFound", missing)
        if observed.labels is None:
            raise Waiting("Reading", f"the labels of namespace {observed.name.namespace} are not known yet")
        refusal = access.refusal(observed.spec, observed.name.namespace, observed.labels, observed.store)
        if refusal is not None:
            self._stores.release(observed.name)
            draft.unknown(Is.SOURCE_REACHABLE, *refusal)
            raise Terminal(*refusal)
        source = self._gatherer.source(observed)
        if source is None and self._stores.is_starting(name):
            raise Waiting("Reading", f"VoiceKeyStore {name} is being connected")
        if source is None:
            unusable = f"VoiceKeyStore {name} cannot be used: see `kubectl describe vks {name}`"
            draft.unknown(Is.SOURCE_REACHABLE, "StoreNotUsable", unusable)
            raise Waiting("StoreNotUsable", unusable)
        self._sync_now(observed, draft, source)
        if source.pending:
            raise Waiting("Reading", f"reading {observed.spec.source.path} from VoiceKeyStore {name}")
        return source

    def _sync_now(self, observed: Observed, draft: Draft, source: Source) -> None:
        """Read at once for a leak; for a new value of the sync-now annotation as well, and try a refused key again."""
        asked, handled = observed.record.orders.sync_now, draft.status.handled or Handled()
        ordered = bool(asked) and asked != handled.sync_now
        if ordered:
            noted = replace(draft.status, handled=replace(handled, sync_now=asked))
            draft.status = rotation.retried(noted, observed.now)
        if (ordered or leaks.is_new(observed, draft)) and not source.pending:
            self._stores.read_now(source)

    def wanted(self, observed: Observed, draft: Draft, source: Source) -> Wanted:
        """What the Secret is to hold, with `SourceReachable`, `KeyFresh` and `SharedAcrossEnvironments`.

        Raises:
            Terminal: the key cannot be rendered; the Secret stays as it is.
            Waiting: Vault gave no key yet.
        """
        if source.error is None:
            draft.true(Is.SOURCE_REACHABLE, "Read", f"Vault answers for {observed.spec.source.path}")
        else:
            draft.false(Is.SOURCE_REACHABLE, source.error.reason, source.error.message)
        if source.key is None:
            wanted = self._in_place(observed, source.error)
            _doubt(observed, draft, source.error)
        else:
            wanted = self._rendered(observed, draft, source.key)
        self._freshness(observed, draft, wanted.created_time)
        self._sharing(observed, draft, source)
        return wanted

    def _in_place(self, observed: Observed, error: SourceError | None) -> Wanted:
        """Scenario D: the last good Secret has to do, and does."""
        status = observed.status
        if error is None:
            raise Waiting("Reading", "no key was read yet")
        if status.secret is None or status.key is None:
            raise Waiting(error.reason, error.message)
        if status.digest_key != self._digester.key_id:
            message = f"the fingerprint key is a new one, so the key must be read before all else: {error.message}"
            raise Waiting(error.reason, message)
        _check_recorded(observed, error)
        refused = (status.rotation.refused_digest if status.rotation else None) or ""
        if refused == status.secret.digest:
            refused = ""  # the way back was not taken yet: that needs the key of before
        return Wanted(status.secret.digest, None, status.key.version, status.key.created_time, refused)

    def _rendered(self, observed: Observed, draft: Draft, key: KeyVersion) -> Wanted:
        data = render.render(observed.spec.target, key, observed.spec.source.path)
        digest = self._digester.of_payload(data)
        change = draft.status.rotation
        if change and change.refused_digest and self.way_back.is_rekeyed(observed) and change.to_version == key.version:
            # The digest of a refusal is of the old fingerprint key; which version was refused, is known all the same.
            change = replace(change, refused_digest=digest)
            draft.status = replace(draft.status, rotation=change)
        if change is None or change.refused_digest != digest:
            self._stores.release_previous(observed.name)
            return Wanted(digest, data, key.version, key.created_time)
        return self.way_back.previous(observed, change.from_version, digest)

    def _freshness(self, observed: Observed, draft: Draft, created: datetime) -> None:
        limits = observed.spec.rotation
        if limits.max_age is None:
            return
        stale = freshness.staleness(limits, created, observed.now)
        if stale is not None:
            draft.false(Is.KEY_FRESH, *stale)
        else:
            due = freshness.rotate_by(limits, created)
            draft.true(Is.KEY_FRESH, "Fresh", f"the key is to be changed by {due:%Y-%m-%d}")
        wait = freshness.next_look(limits, created, observed.now)
        draft.wake_in(wait, observed.now)

    def _sharing(self, observed: Observed, draft: Draft, source: Source) -> None:
        other = self._shared.other(source.id, observed.spec.environment)
        if other is not None:
            name, environment = other
            draft.true(
                Is.SHARED_ACROSS_ENVIRONMENTS,
                "SharedAcrossEnvironments",
                f"the same key is used by VoiceKeyBinding {name} in environment {environment}: make a key of its own "
                "for each environment, or a leak in one is a leak in both",
            )

    async def place(self, observed: Observed, draft: Draft, wanted: Wanted) -> bool:
        """Bring the Secret to what is wanted, with `SecretSynced`, ``status.secret`` and ``status.key``.

        Returns:
            Whether the Secret was made just now, for a binding that had none before.

        Raises:
            Terminal: the Secret is somebody else's, or of another type.
            Waiting: the Secret is gone and Vault does not answer.
            ApiError: the API server refused or did not answer.
        """
        target, name = observed.spec.target, observed.record.secret
        self._check_claim(observed)
        draft.baseline = self._baseline(observed, draft, wanted, observed.secret)
        stamp = policy.Stamp(wanted.version, wanted.created_time, wanted.digest)
        metadata = policy.metadata(observed.name, observed.record.uid, target, stamp)
        made = False
        if wanted.data is None:
            self._check_in_place(observed, wanted)
        else:
            digests = self._digester.of_values(wanted.data)
            found = policy.difference(observed.secret, metadata, digests)
            if found is None and not _is_confirmed(observed):
                # What an edit of the binding took away (a label, the owner) can only be seen by applying all of it.
                found = Verdict("MetadataDiffers", "the binding was edited")
            if found is not None:
                present = observed.secret if policy.is_ours(observed.secret) else await self._foreign(observed)
                if present is not observed.secret:  # its label is off, or it is somebody else's that may be adopted
                    found = policy.difference(present, metadata, digests) or found
                await self._before_write(observed, draft, wanted, present)
                await self._write(observed, wanted, metadata, present)
                self._report_heal(observed, wanted, found)
                made = present is None and observed.status.secret is None
        self._note(observed, draft, wanted)
        if Is.SECRET_SYNCED not in draft.findings:
            draft.true(Is.SECRET_SYNCED, "Synced", f"Secret {name.name} holds version {wanted.version} of the key")
        return made

    def _check_claim(self, observed: Observed) -> None:
        mine = policy.Claim(observed.record.created, observed.name.name)
        secret = observed.record.secret.name
        lost = policy.reserved(secret) or policy.conflict(secret, mine, observed.rivals)
        if lost is not None:
            raise Terminal(*lost)

    def _check_in_place(self, observed: Observed, wanted: Wanted) -> None:
        if observed.secret is None:
            message = (
                f"Secret {observed.record.secret.name} was deleted while Vault does not give the key; "
                "see SourceReachable for what to mend, and it comes back by itself"
            )
            raise Waiting("SecretMissing", message)
        recorded = observed.status.secret
        if recorded and recorded.name != observed.record.secret.name and observed.secret.stamp != recorded.digest:
            message = (
                f"Secret {observed.record.secret.name} holds another key than {recorded.name} did, and Vault does not "
                "give the one that it should hold: see SourceReachable for what to mend"
            )
            raise Waiting("SecretDiffers", message)
        if recorded and recorded.digest != wanted.digest:
            raise Waiting("Reading", "the Secret differs from the last good key while Vault does not give it")

    async def _before_write(self, observed: Observed, draft: Draft, wanted: Wanted, present: SecretView | None) -> None:
        """Record what the pods were started with, before it is overwritten: a crash in between must not forget it."""
        draft.baseline = self._baseline(observed, draft, wanted, present)
        if not observed.spec.agents or draft.baseline == wanted.digest:
            return
        secret = draft.status.secret or SecretStatus(observed.record.secret.name, draft.baseline)
        if secret.name != observed.record.secret.name and draft.baseline == UNKNOWN_DIGEST:
            # The binding moved to a Secret that held another key: who read that, no digest of before tells.
            draft.status = replace(draft.status, agents=tuple(map(records.doubted, draft.status.agents)))
        started = rotation.begun(draft.status, draft.baseline, wanted, observed.now)
        secret = replace(secret, name=observed.record.secret.name, digest=draft.baseline)
        draft.status = replace(started, secret=secret, digest_key=self._digester.key_id)
        await self._outcome.write(observed.record, draft.status)

    def _baseline(self, observed: Observed, draft: Draft, wanted: Wanted, present: SecretView | None) -> str:
        """Digest of the data that running pods were started with, as far as anyone can know."""
        status, name = draft.status, observed.record.secret.name
        comparable = status.digest_key == self._digester.key_id
        if status.secret is not None and comparable and (status.secret.name == name or present is None):
            return status.secret.digest
        if present is None or wanted.data is None:
            return wanted.digest
        # First sight of a Secret that was there before, or a lost fingerprint key: what it holds now is what counts.
        values = self._digester.of_values(wanted.data)
        same = all(present.digests.get(key) == value for key, value in values.items())
        return wanted.digest if same else UNKNOWN_DIGEST

    async def _write(
        self, observed: Observed, wanted: Wanted, metadata: dict[str, object], present: SecretView | None
    ) -> None:
        if wanted.data is None:
            return
        if present is not None:
            wrong = policy.type_differs(observed.record.secret.name, present.type, observed.spec.target.type)
            if wrong is not None:
                raise Terminal(*wrong)
        uid = present.uid if present else ""
        manifest = policy.manifest(metadata, observed.spec.target.type, wanted.data, uid)
        try:
            raw = await self._cluster.apply_secret(manifest)
        except ApiForbidden as error:
            message = f"Secret {observed.record.secret.name} was not written: {error.message}"
            if observed.spec.target.adopt and present is not None and not policy.is_ours(present):
                message += f". To let voicekeys adopt it, label it {names.ADOPT_LABEL}={observed.name.name}"
            raise Terminal("SecretForbidden", message) from error
        except ApiInvalid as error:
            message = f"Secret {observed.record.secret.name} is refused by the API server: {error.message}"
            raise Terminal("SecretInvalid", message) from error
        observed.record.applied = observed.generation
        self._inventory.secret_written(observed.record.secret, parse_secret(raw, self._digester))

    async def _foreign(self, observed: Observed) -> SecretView | None:
        """A Secret that the watch does not show may exist without our label: look before taking it over."""
        raw = await self._cluster.get_secret(observed.record.secret)
        if raw is None:
            return None
        view = parse_secret(raw, self._digester).view()
        ours = policy.is_ours(view) or policy.is_written_by_us(raw)  # a hand edit may have taken the label away
        if not ours and not observed.spec.target.adopt:
            raise Terminal(*policy.not_ours(observed.record.secret.name, observed.name.name))
        return view

    def _report_heal(self, observed: Observed, wanted: Wanted, found: Verdict) -> None:
        """A Secret that somebody edited or deleted was put right: worth an event, once."""
        status = observed.status
        same_target = status.secret is not None and status.secret.name == observed.record.secret.name
        same_data = status.secret is not None and status.secret.digest == wanted.digest
        same_key = status.key is not None and status.key.version == wanted.version
        same_spec = status.observed_generation == observed.generation and status.digest_key == self._digester.key_id
        if not (same_target and same_data and same_key and same_spec):
            return
        message = f"{found.message}; Secret {observed.record.secret.name} was put right"
        self._outcome.event(observed.record, "Warning", found.reason, message)

    def _note(self, observed: Observed, draft: Draft, wanted: Wanted) -> None:
        before, name = draft.status.secret, observed.record.secret.name
        if before is None or (before.name, before.digest) != (name, wanted.digest):
            # Rounded up: the propagation that is counted from here is never too short.
            written = (observed.now + timedelta(microseconds=999_999)).replace(microsecond=0)
            secret = SecretStatus(name, wanted.digest, written)
        else:
            secret = before
        due = freshness.rotate_by(observed.spec.rotation, wanted.created_time)
        old = draft.status.key
        if wanted.data is not None:
            fingerprint = self._digester.of_key(wanted.data)
            old = KeyStatus(wanted.version, wanted.created_time.replace(microsecond=0), fingerprint, due)
        draft.status = replace(draft.status, secret=secret, key=old, digest_key=self._digester.key_id)


def _check_recorded(observed: Observed, error: SourceError) -> None:
    """Refuse to take the Secret for the last recorded key: we may have been killed between writing it and saying so."""
    held, recorded = observed.secret, observed.status.secret
    if held is None or recorded is None or recorded.name != observed.record.secret.name:
        return
    if held.stamp not in {None, recorded.digest}:
        version = held.annotations.get(names.KEY_VERSION_ANNOTATION, "?")
        message = (
            f"the Secret holds version {version} of the key, which was not recorded before the operator ended; agents "
            f"follow as soon as Vault gives the key again: {error.message}"
        )
        raise Waiting(error.reason, message)


def _is_confirmed(observed: Observed) -> bool:
    """Whether the Secret was brought to what the binding, as it now is, asks for."""
    if observed.record.applied == observed.generation:
        return True
    synced = any(old.type == Is.SECRET_SYNCED and old.status == "True" for old in observed.status.conditions)
    return synced and observed.status.observed_generation == observed.generation


def _doubt(observed: Observed, draft: Draft, error: SourceError | None) -> None:
    """Say so where the Secret in place may not be what the binding, edited since, asks for."""
    if error is None or _is_confirmed(observed):
        return
    message = f"the Secret is as it was before, since what the binding asks for cannot be read: {error.message}"
    draft.false(Is.SECRET_SYNCED, error.reason, message)
    draft.progress(Verdict(error.reason, message))
