"""The one exit of a reconcile: findings become conditions, the status is written if it changed, events are emitted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from voicekeys.api import names
from voicekeys.api.conditions import BINDING_CONDITIONS, Polarity
from voicekeys.api.status import BindingStatus, ConditionStatus, dump_status
from voicekeys.model.errors import ApiNotFound, Waiting
from voicekeys.model.verdict import Verdict
from voicekeys.policies.conditions import Finding, merge, summarise
from voicekeys.reconcilers.inventory import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Agent
    from voicekeys.api.status import Condition
    from voicekeys.reconcilers.gather import Observed
    from voicekeys.reconcilers.inventory import BindingRecord, Inventory
    from voicekeys.reconcilers.ports import Cluster, Events

_QUIET = {"Ready", "Reconciling"}  # follow from others, which have their own event
_EXPECTED = {
    "NotRestarted", "Draining", "Rolling", "Propagating", "Coalescing", "RollingBack",
    "WaitingForResume", "WaitingForDelete", "WaitingForPartition", "WaitingForTurn",
}  # fmt: skip
_ABNORMAL = {doc.type.value for doc in BINDING_CONDITIONS if doc.polarity is Polarity.ABNORMAL_TRUE}


class Draft:
    """The status in the making: steps note what they find, `finish` makes conditions of it.

    Args:
        observed: the snapshot that the reconcile works from.
    """

    def __init__(self, observed: Observed) -> None:
        self.status: BindingStatus = observed.status
        self.generation = observed.generation
        self.observed_at = observed.now
        self.findings: dict[str, Finding] = {}
        self.stalled: Verdict | None = None
        self.progressing: Verdict | None = None
        self.ready = Verdict("KeyInPlace", "the current key is in place")
        self.wake: datetime | None = None
        self.to_commit: dict[Agent, str] = {}  # what an agent's manifest lacks, where the operator must not write it
        self.again: set[str] = set()  # conditions that are told once more, although status and reason are as they were
        self.may_cut: dict[str, str] = {}  # what the restart of a workload may cut, in an emergency
        self.baseline = ""  # digest of the data that running pods were started with, set by the sync

    def true(self, condition: str, reason: str, message: str) -> None:
        """Note that a condition holds."""
        self.findings[condition] = Finding(ConditionStatus.TRUE, reason, message)

    def warn(self, condition: str, verdict: Verdict | None) -> None:
        """Note a warning, if there is one; the first about a condition is the one to show."""
        if verdict is not None and condition not in self.findings:
            self.true(condition, *verdict)

    def false(self, condition: str, reason: str, message: str) -> None:
        """Note that a condition does not hold."""
        self.findings[condition] = Finding(ConditionStatus.FALSE, reason, message)

    def unknown(self, condition: str, reason: str, message: str) -> None:
        """Note that nobody can tell."""
        self.findings[condition] = Finding(ConditionStatus.UNKNOWN, reason, message)

    def keep(self, *conditions: str) -> None:
        """Leave conditions as they were: nothing new was learnt about them."""
        for old in self.status.conditions:
            if old.type in conditions and old.type not in self.findings:
                self.findings[old.type] = Finding(old.status, old.reason, old.message)

    def keep_about(self, subject: str, *conditions: str) -> None:
        """Leave conditions as they were, as far as they speak of one thing."""
        self.keep(*(old.type for old in self._about(subject, conditions)))

    def was_told_about(self, subject: str, *conditions: str) -> bool:
        """Whether one of these conditions spoke of a thing before."""
        return any(self._about(subject, conditions))

    def said_about(self, subject: str, condition: str) -> Verdict | None:
        """What a condition said of a thing before; None where it was not there, or spoke of another."""
        return next((Verdict(old.reason, old.message) for old in self._about(subject, (condition,))), None)

    def _about(self, subject: str, conditions: Sequence[str]) -> Iterator[Condition]:
        of_these = (old for old in self.status.conditions if old.type in conditions)
        return (old for old in of_these if old.message.startswith((f"{subject}:", f"{subject},", f"{subject} ")))

    def stall(self, verdict: Verdict) -> None:
        """Note that a person must act; the first such finding is the one to show."""
        self.stalled = self.stalled or verdict

    def progress(self, verdict: Verdict) -> None:
        """Note that something is on its way."""
        self.progressing = self.progressing or verdict

    def wake_at(self, moment: datetime | None) -> None:
        """Ask for another look at a moment, whatever happens before."""
        if moment is not None and (self.wake is None or moment < self.wake):
            self.wake = moment

    def wake_in(self, seconds: float | None, now: datetime) -> None:
        """Ask for another look in so many seconds; None asks for nothing."""
        if seconds is not None:
            self.wake_at(now + timedelta(seconds=seconds))

    def conditions(self, now: datetime) -> tuple[Condition, ...]:
        """The conditions as they stand."""
        summary = summarise(self.stalled, self.progressing, self.ready)
        return merge(self.status.conditions, {**self.findings, **summary}, self.generation, now)


class Outcome:
    """Writes what a reconcile found.

    Args:
        cluster: the Kubernetes API.
        events: for changes of conditions.
        inventory: told of our own writes.
        on_edited: told a binding whose edit came with the answer to a write, before the watch showed it.
    """

    def __init__(
        self, cluster: Cluster, events: Events, inventory: Inventory, on_edited: Callable[[Mapping[str, Any]], object]
    ) -> None:
        self._cluster = cluster
        self._events = events
        self._inventory = inventory
        self._on_edited = on_edited

    async def finish(self, record: BindingRecord, draft: Draft, now: datetime) -> bool:
        """Write the status if it changed, and emit an event for each condition that changed.

        Returns:
            Whether anything was written.

        Raises:
            ApiError: the status could not be written.
        """
        before = record.status()
        after = replace(draft.status, observed_generation=draft.generation, conditions=draft.conditions(now))
        try:
            written = await self.write(record, after)
        except Waiting:
            return False  # deleted meanwhile: the watch will say so
        if written:
            self._emit(record, before, after, draft.again)
        return written

    async def write(self, record: BindingRecord, status: BindingStatus) -> bool:
        """Write a status if it differs from the one in place; used before an act, too, to record its intent.

        Raises:
            Waiting: the binding was deleted meanwhile, and nothing more may be done for it (reason ``Reading``).
            ApiError: the status could not be written.
        """
        if packed(status) == record.status_json:
            return False
        try:
            raw = await self._cluster.replace_status(names.BINDING_KIND, record.name, record.uid, dump_status(status))
        except ApiNotFound:
            raise Waiting("Reading", f"VoiceKeyBinding {record.name} was deleted") from None
        if not self._inventory.written(raw):
            self._on_edited(raw)
        return True

    def event(self, record: BindingRecord, kind: str, reason: str, message: str) -> None:
        """Emit an event about a binding.

        Args:
            record: the binding.
            kind: ``Normal`` or ``Warning``.
            reason: CamelCase word.
            message: for a person; never a value.
        """
        self._events.emit(regarding(record), kind, reason, message)

    def _emit(self, record: BindingRecord, before: BindingStatus, after: BindingStatus, again: Collection[str]) -> None:
        """One event for each thing that changed: a fault that shows in two conditions is told once."""
        old = {condition.type: condition for condition in before.conditions}
        told: set[str] = set()
        for condition in after.conditions:
            known = old.pop(condition.type, None)
            news = _is_news(known, condition) or condition.type in again
            if condition.type not in _QUIET and condition.reason not in told and news:
                told.add(condition.reason)
                self.event(record, _kind(condition), condition.reason, f"{condition.type}: {condition.message}")
        if "Stalled" in old:
            self.event(record, "Normal", "Recovered", f"no longer stalled: {old['Stalled'].reason}")


def _is_news(known: Condition | None, condition: Condition) -> bool:
    if known is None:  # a first "all is well" is no news
        return condition.status is not ConditionStatus.TRUE or condition.type in _ABNORMAL
    return (known.status, known.reason) != (condition.status, condition.reason)


def regarding(record: BindingRecord) -> dict[str, str]:
    """The reference by which events name a binding."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.BINDING_KIND,
        "namespace": record.name.namespace,
        "name": record.name.name,
        "uid": record.uid,
    }


def _kind(condition: Condition) -> str:
    bad_when = ConditionStatus.TRUE if condition.type in _ABNORMAL else ConditionStatus.FALSE
    # Calls that still go on after a key change are how it is meant to be.
    return "Warning" if condition.status is bad_when and condition.reason not in _EXPECTED else "Normal"
