"""Metrics of bindings and stores, written out at scrape time from the operator's state.

No series is kept between scrapes, so none can outlive its object, and times are given as timestamps, so that a
stale value shows as an age. Called by `voicekeys.handlers.http` for each scrape; the reconcilers' state satisfies
`StateView`.

The text is written directly, family by family, in chunks: at 10,000 bindings it is some 12 MB, which the general
encoder of prometheus-client would hold twice, and for which it takes ten times the CPU
(``tests/telemetry/test_state.py`` measures it). Format: Prometheus text 0.0.4.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CHUNK_ROWS = 500  # rows a chunk: well under 1 ms of the event loop

BINDING_LABELS = ("namespace", "name", "store", "environment")


class BindingRow(NamedTuple):
    """One binding as metrics show it. All times are Unix seconds (UTC).

    Args:
        namespace: of the binding.
        name: of the binding.
        store: name of its store.
        environment: its ``spec.environment``.
        key_created: ``created_time`` of the key version in use; None before the first sync.
        rotate_by: when the key must have been changed; None without ``rotation.maxAge``.
        phase: the rotation's current phase, ``Idle`` between rotations.
        last_success: end of the last rotation that succeeded; None if there was none.
        pods_on_old_key: pods that hold an older key and were not yet seen to end.
        ready: whether the Ready condition is True.
        stalled: reason of the Stalled condition; empty while not stalled.
        source_last_read: last good read by this process; 0 if it wants to read and did not succeed yet; None where
            nothing is read on purpose (suspended, refused by the store's rules).
        shared_across_environments: whether another environment holds the same key.
        pod_kill_deadline: earliest time at which an old pod's grace period ends; None without such a pod.
        draining_calls: calls live on draining pods, of those that answer; None where none drains, or none answers.
        draining_pods_unknown: draining pods that do not answer; None where none drains.
        oldest_call: age in seconds of the oldest of these calls; None without one.
        calls_completed: calls that ended by themselves on pods that drained; None before one of its pods did.
        calls_forced: calls that were live when a pod ended, or released.
        calls_aborted: calls that ended with a process of a pod.
    """

    namespace: str
    name: str
    store: str
    environment: str
    key_created: float | None = None
    rotate_by: float | None = None
    phase: str = "Idle"
    last_success: float | None = None
    pods_on_old_key: int = 0
    ready: bool = False
    stalled: str = ""
    source_last_read: float | None = None
    shared_across_environments: bool = False
    pod_kill_deadline: float | None = None
    draining_calls: int | None = None
    draining_pods_unknown: int | None = None
    oldest_call: float | None = None
    calls_completed: int | None = None
    calls_forced: int | None = None
    calls_aborted: int | None = None


class StoreRow(NamedTuple):
    """One store as metrics show it.

    Args:
        name: of the store.
        reachable: whether Vault answered the last request.
        logged_in: whether the last login of some identity succeeded and none is refused now.
        bindings: how many bindings name it.
        identities: how many identities hold a login: each is one Vault client for the licence.
    """

    name: str
    reachable: bool = False
    logged_in: bool = False
    bindings: int = 0
    identities: int = 0


class StateView(Protocol):
    """What the collector reads. Called on the event loop; must not block and must not await."""

    def bindings(self) -> Iterable[BindingRow]:
        """All bindings this process looks after; none on a standby."""

    def stores(self) -> Iterable[StoreRow]:
        """All stores this process looks after; none on a standby."""

    def leader(self) -> bool:
        """Whether this process holds the Lease."""


class Family(NamedTuple):
    """One metric of bindings or stores.

    Args:
        name: the metric's name.
        help: what it says, in one sentence.
        labels: all label names, in the order in which they are written.
        value: a row's value; None writes no series.
        extra: the value of the last label, for families that have one more than the row's own.
        kind: gauge or counter.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    value: Callable[[BindingRow], float | None] | Callable[[StoreRow], float | None]
    extra: Callable[[BindingRow], str] | None = None
    kind: str = "gauge"


def _one(_row: BindingRow) -> int:
    return 1


def _one_if_stalled(row: BindingRow) -> int | None:
    return 1 if row.stalled else None


def _binding(name: str, text: str, field: str) -> Family:
    return Family(f"voicekeys_{name}", text, BINDING_LABELS, attrgetter(field))


def _store(name: str, text: str, field: str) -> Family:
    return Family(f"voicekeys_{name}", text, ("store",), attrgetter(field))


BINDING_FAMILIES: tuple[Family, ...] = (
    _binding("key_created_timestamp_seconds", "When the key version in use was written to Vault.", "key_created"),
    _binding(
        "key_rotate_by_timestamp_seconds",
        "When the key must have been changed (created plus rotation.maxAge); absent without maxAge.",
        "rotate_by",
    ),
    Family(
        "voicekeys_rotation_phase",
        "1 for the phase that the binding's rotation is in now; only the current phase has a series.",
        (*BINDING_LABELS, "phase"),
        _one,
        attrgetter("phase"),
    ),
    _binding("rotation_last_success_timestamp_seconds", "When the last successful rotation ended.", "last_success"),
    _binding("pods_on_old_key", "Pods that hold an older key and were not yet seen to end.", "pods_on_old_key"),
    _binding(
        "pod_kill_deadline_timestamp_seconds",
        "When the grace period of the first old pod that is still there ends; absent without such a pod.",
        "pod_kill_deadline",
    ),
    _binding(
        "binding_ready",
        "1 when the current key is in the Secret and in every pod that takes new calls, else 0.",
        "ready",
    ),
    Family(
        "voicekeys_binding_stalled",
        "1 while the binding needs a human, by the reason of its Stalled condition; absent otherwise.",
        (*BINDING_LABELS, "reason"),
        _one_if_stalled,
        attrgetter("stalled"),
    ),
    _binding(
        "source_last_read_timestamp_seconds",
        "When the key was last read from Vault; 0: not since the operator started; absent: it is not to be read.",
        "source_last_read",
    ),
    _binding(
        "key_shared_across_environments",
        "1 when a binding of another environment holds the same key, else 0.",
        "shared_across_environments",
    ),
    _binding(
        "draining_calls",
        "Calls that are live on draining pods, of those that answer; absent where none drains or none answers.",
        "draining_calls",
    ),
    _binding(
        "draining_pods_unknown",
        "Draining pods that do not say how many calls they have; absent where none drains.",
        "draining_pods_unknown",
    ),
    _binding("oldest_call_seconds", "Age of the oldest call that is live on a draining pod.", "oldest_call"),
)


def _ended(outcome: str) -> Family:
    return Family(
        "voicekeys_calls_ended_total",
        "Calls of pods that drained, by how they ended: completed (by themselves), forced (live when the pod ended, or "
        "released), aborted (with a process of the pod). Counted when the pod has ended.",
        (*BINDING_LABELS, "outcome"),
        attrgetter(f"calls_{outcome}"),
        lambda _: outcome,
        "counter",
    )


CALLS_ENDED: tuple[Family, ...] = tuple(_ended(outcome) for outcome in ("completed", "forced", "aborted"))
"""One metric, a family for each outcome."""

STORE_FAMILIES: tuple[Family, ...] = (
    _store("store_reachable", "1 when the store's Vault answered the last request, else 0.", "reachable"),
    _store("store_logged_in", "1 when no identity's login at the store is refused, else 0.", "logged_in"),
    _store("store_bindings", "Bindings that name the store.", "bindings"),
    _store("vault_identities", "Identities that hold a login at the store; each is one Vault client.", "identities"),
)

LEADER = Family("voicekeys_leader", "1 on the replica that holds the Lease, 0 on a standby.", (), _one)


def exposition(view: StateView) -> Iterator[str]:
    """Write all families, in chunks of at most `CHUNK_ROWS` series.

    The rows are copied at the first chunk, so the caller may let the event loop run between chunks.

    Args:
        view: the state to show.
    """
    bindings = tuple(view.bindings())
    stores = tuple(view.stores())
    yield _head(LEADER) + f"{LEADER.name} {int(view.leader())}\n"
    labels = [_labels(BINDING_LABELS, row[:4]) for row in bindings]
    for family in BINDING_FAMILIES:
        yield from _family(family, bindings, labels)
    yield _head(CALLS_ENDED[0])
    for family in CALLS_ENDED:
        yield from _series(family, bindings, labels)
    labels = [_labels(("store",), row[:1]) for row in stores]
    for family in STORE_FAMILIES:
        yield from _family(family, stores, labels)


def _family(family: Family, rows: Sequence[BindingRow] | Sequence[StoreRow], labels: list[str]) -> Iterator[str]:
    yield _head(family)
    yield from _series(family, rows, labels)


def _series(family: Family, rows: Sequence[BindingRow] | Sequence[StoreRow], labels: list[str]) -> Iterator[str]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield "".join(_lines(family, rows[start : start + CHUNK_ROWS], labels[start : start + CHUNK_ROWS]))


def _lines(family: Family, rows: Sequence[BindingRow] | Sequence[StoreRow], labels: list[str]) -> Iterator[str]:
    name, value, extra = family.name, family.value, family.extra
    for row, text in zip(rows, labels, strict=True):
        number = value(row)  # type: ignore[arg-type]  # a family's value and its rows are of one kind
        if number is None:
            continue
        if extra is not None:
            text = f'{text},{family.labels[-1]}="{_escape(extra(row))}"'  # type: ignore[arg-type]  # noqa: PLW2901
        yield f"{name}{{{text}}} {number + 0}\n"  # + 0: True is written as 1


def _head(family: Family) -> str:
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n"


def _labels(names: Sequence[str], values: Sequence[object]) -> str:
    return ",".join(f'{name}="{_escape(str(value))}"' for name, value in zip(names, values, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
