"""The statuses of both kinds, as typed models, and how they become the JSON of a server-side apply.

A status is the operator's memory: what must survive a restart (the rotation in flight, pods on the old key, restarts
already spent) is in here and nowhere else. It never holds key material, only keyed digests and fingerprints.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from voicekeys.api.binding import AgentKind
from voicekeys.api.fields import CONFIG, Time

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HISTORY: Final = 5
"""Finished rotations that a status keeps."""

MAX_RESTARTS: Final = 60
"""Restart times that a status keeps for each agent: the restart budget of one hour reads them."""

MAX_HOOK_PATCH: Final = 8192
"""Characters of all patches in a status together, each of which may be so long: a gauge with every setting at its
longest, in a pod of 16 containers with the longest names, needs 6,600."""

NO_GENERATION: Final = -1
"""``observedGeneration`` of an object that no operator has seen: kstatus takes a status-less object for current."""

_REASON: Final = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


class ConditionStatus(StrEnum):
    """The three answers of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Phase(StrEnum):
    """Where a key change stands."""

    IDLE = "Idle"
    STAGED = "Staged"
    ROLLING = "Rolling"
    DRAINING = "Draining"
    ROLLING_BACK = "RollingBack"
    FROZEN = "Frozen"


class Outcome(StrEnum):
    """How a key change ended."""

    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"


@dataclass(frozen=True, slots=True, config=CONFIG)
class Condition:
    """One condition, as ``metav1.Condition`` has it."""

    type: str
    status: ConditionStatus
    reason: Annotated[str, Field(pattern=_REASON)]
    message: str
    last_transition_time: Time
    observed_generation: int | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class KeyStatus:
    """The key that is in the Secret: Vault's version and created time, a keyed fingerprint of the values."""

    version: int
    created_time: Time
    fingerprint: str
    rotate_by: Time | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class SecretStatus:
    """The Secret as last written: the keyed digest of its rendered data."""

    name: str
    digest: str
    written_time: Time | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class RotationStatus:
    """The key change in flight, or the last one.

    ``pods`` counts all that were on the old key, ``pods_on_old_key`` those of them that have not ended.
    ``refused_digest`` is that of a key whose pods did not start: it is not rolled out again, a newer one is. ``arm`` is
    the order by which the change goes on although calls may be cut.
    """

    id: str
    phase: Phase
    from_version: int
    to_version: int
    started_time: Time
    pods: int | None = None
    pods_on_old_key: int | None = None
    refused_digest: str | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class OldPod:
    """A pod that was started before the new key reached its template.

    ``deadline`` is when the kubelet kills it (its deletionTimestamp), ``vanished_time`` when it was found gone without
    anyone having seen its end, ``grace_seconds`` its terminationGracePeriodSeconds.
    """

    uid: str
    name: str
    node: str | None = None
    grace_seconds: int | None = None
    deadline: Time | None = None
    vanished_time: Time | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class AgentStatus:
    """One workload of the binding.

    ``trigger`` is the value that the trigger annotation has in the workload's template (the empty string: it has none),
    ``digest`` that of the Secret data which it stands for. At adoption the two are recorded as they are found, so that
    nothing restarts. ``previous_*`` are the pair before the change in flight, to which a rollback returns.
    ``intended_trigger`` is what the template is about to get; it is there from the intent until the template has it.
    ``diverged_time`` is since when the Secret has held, or did hold until just now, other data than ``digest`` stands
    for: a pod that started in between has that other data, whatever its template says. ``previous_diverged_time`` is
    the same of ``previous_digest``. ``strips`` counts how often somebody took the trigger off during the change in
    flight.
    ``unwitnessed`` counts pods of the change in flight that vanished unseen and whose deadline has long passed,
    ``forced`` the calls that were live when its pods ended; ``completed`` and ``aborted`` ended before, by themselves
    or with a process of their pod. All three are counted when a pod's end is recorded. ``oldest_call_time`` is since
    when the oldest call on ``old_pods`` lasts. ``unarmed`` are the pods that had no drain hook when they
    were counted last, ``hook_patch`` is what the manifest lacks for them: where the operator may not write it.
    ``drain_token`` is what a request for a drain has to carry: left out of ``repr``, so that no log has it.
    """

    kind: AgentKind
    name: str
    uid: str | None = None
    desired: int | None = None
    current: int | None = None
    draining: int | None = None
    trigger: str | None = None
    digest: str | None = None
    previous_trigger: str | None = None
    previous_digest: str | None = None
    patched_time: Time | None = None
    restarts: tuple[Time, ...] = ()
    old_pods: tuple[OldPod, ...] = ()
    unwitnessed: int | None = None
    unarmed: int | None = None
    hook_patch: str | None = None
    completed: int | None = None
    forced: int | None = None
    aborted: int | None = None
    oldest_call_time: Time | None = None
    intended_trigger: str | None = None
    diverged_time: Time | None = None
    previous_diverged_time: Time | None = None
    strips: int | None = None
    drain_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, config=CONFIG)
class Handled:
    """Values of one-shot annotations that were acted on, so that each is acted on once."""

    sync_now: str | None = None
    arm: str | None = None
    release: str | None = None
    approve: str | None = None
    leaked: str | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class HistoryEntry:
    """One finished key change."""

    id: str
    from_version: int
    to_version: int
    started_time: Time
    finished_time: Time
    outcome: Outcome
    pods: int
    unwitnessed: int
    completed: int | None = None
    forced: int | None = None
    aborted: int | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class Frozen:
    """A call was cut, so that no further restart begins before a person has looked.

    Args:
        since: when the first of them was.
        calls: how many.
        pod: the last pod that was ended with live calls.
    """

    since: Time
    calls: int
    pod: str


@dataclass(frozen=True, slots=True, config=CONFIG)
class Emergency:
    """A key has leaked, and the one that replaces it has not reached every pod yet.

    Args:
        since: when a person said so.
        version: Vault's version of the leaked key.
        created_time: when Vault got it, where known: another path, or a secret made anew, has the same versions.
        fingerprint: of its values, where known: the same key may be put again under another version.
    """

    since: Time
    version: int
    created_time: Time | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class BindingStatus:
    """The status of a VoiceKeyBinding.

    ``digest_key`` names the fingerprint key that all digests in here were made with: under another key they cannot be
    compared, and the binding takes a new baseline instead of restarting anything. ``gauge_image`` is the image of the
    sidecar that a pod of drain mode Gauge gets.
    """

    observed_generation: int = NO_GENERATION
    conditions: tuple[Condition, ...] = ()
    key: KeyStatus | None = None
    secret: SecretStatus | None = None
    rotation: RotationStatus | None = None
    agents: tuple[AgentStatus, ...] = ()
    gauge_image: str | None = None
    handled: Handled | None = None
    history: tuple[HistoryEntry, ...] = ()
    digest_key: str | None = None
    frozen: Frozen | None = None
    emergency: Emergency | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class StoreStatus:
    """The status of a VoiceKeyStore."""

    observed_generation: int = NO_GENERATION
    conditions: tuple[Condition, ...] = ()
    bindings: int | None = None
    last_error: str | None = None


_BINDING: Final = TypeAdapter(BindingStatus)
_STORE: Final = TypeAdapter(StoreStatus)


def parse_binding_status(raw: bytes | Mapping[str, Any] | None) -> BindingStatus:
    """Return the model of a binding's ``status``, given as JSON bytes or a mapping; None is an object nobody has seen.

    Raises ``pydantic.ValidationError`` (a ValueError) on what the CRD would have refused.
    """
    return _BINDING.validate_json(raw) if isinstance(raw, bytes) else _BINDING.validate_python(raw or {})


def parse_store_status(raw: bytes | Mapping[str, Any] | None) -> StoreStatus:
    """Return the model of a store's ``status``; otherwise as ``parse_binding_status``."""
    return _STORE.validate_json(raw) if isinstance(raw, bytes) else _STORE.validate_python(raw or {})


def dump_status(status: BindingStatus | StoreStatus) -> dict[str, Any]:
    """Return ``status`` as the JSON object to apply: camelCase, RFC 3339 times.

    What is None or empty is left out, so that server-side apply removes it; the empty string is a value.
    ``observedGeneration`` is always there: kstatus reads it.
    """
    adapter: TypeAdapter[Any] = _BINDING if isinstance(status, BindingStatus) else _STORE
    dumped: dict[str, Any] = adapter.dump_python(status, mode="json", by_alias=True, exclude_defaults=True)
    kept = {field: value for field, value in dumped.items() if value != {}}
    return kept | {"observedGeneration": status.observed_generation}
