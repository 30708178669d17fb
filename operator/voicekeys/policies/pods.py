"""Which pods hold the old key, and which of them were seen to end.

The invariant: a pod leaves the set only when its end was *seen*, or when it vanished unseen and its kill deadline plus
one full grace period has passed; the latter is counted as unwitnessed, never as drained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from voicekeys.api.status import OldPod
from voicekeys.model.workload import DEFAULT_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voicekeys.model.identity import WorkloadId
    from voicekeys.model.workload import Pod, Workload

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SeenPods:
    """What a watch of one workload's pods has seen.

    Args:
        alive: UID to pod, for every pod object that exists.
        ended: UID of each pod that is gone and whose end was seen, to its last object; None where it never ran.
    """

    alive: Mapping[str, Pod]
    ended: Mapping[str, Pod | None]


def of_workload(pods: Iterable[Pod], workload: Workload) -> list[Pod]:
    """The pods that a workload controls; selectors may overlap, owners do not."""
    return owned_by(pods, workload.id, workload.uid)


def owned_by(pods: Iterable[Pod], workload: WorkloadId, uid: str | None) -> list[Pod]:
    """The pods that a workload of this name and UID controls or, gone itself, did control."""
    if workload.kind != "Deployment":
        return [pod for pod in pods if pod.owner == uid]
    # A ReplicaSet is named after its Deployment and the template's hash.
    of_sets = (pod for pod in pods if pod.owner_kind == "ReplicaSet")
    return [pod for pod in of_sets if pod.owner_name.rpartition("-")[0] == workload.name]


def is_old(pod: Pod, annotation: str, trigger: str) -> bool:
    """Whether a pod was started from a template without the wanted trigger, whatever it may hold by now."""
    return pod.triggers.get(annotation, "") != trigger


def may_differ(pod: Pod, since: datetime, until: datetime) -> bool:
    """Whether a pod may have read what the Secret held between two moments, by its age and that of its containers."""
    moments = [*pod.started, *([pod.created] if pod.created is not None else [])]
    return not pod.ended and (not moments or any(since <= moment < until for moment in moments))


def is_older(pod: Pod, moment: datetime) -> bool:
    """Whether a pod, or a container of it, started before a moment, and may have read what the Secret held then."""
    return may_differ(pod, _LONG_AGO, moment)


def alive_of(known: Sequence[OldPod], seen: SeenPods) -> dict[str, Pod]:
    """Those of the recorded pods that still run, by UID."""
    return {pod.uid: seen.alive[pod.uid] for pod in known if pod.uid in seen.alive}


def follow(
    known: Sequence[OldPod], seen: SeenPods, annotation: str, trigger: str, now: datetime
) -> tuple[tuple[OldPod, ...], int]:
    """Bring the set of pods on the old key up to date.

    Args:
        known: the set as it was last written.
        seen: what the watch has seen; it has listed every pod at least once.
        annotation: the binding's trigger annotation.
        trigger: the value that pods on the wanted key have, empty for none.
        now: wall time.

    Returns:
        The new set, and how many pods left it without a witness.
    """
    kept: list[OldPod] = []
    unwitnessed = 0
    for pod in known:
        alive = seen.alive.get(pod.uid)
        if alive is not None:
            # A rollback makes the pods of the old template the wanted ones again.
            if not alive.ended and is_old(alive, annotation, trigger):
                kept.append(_with_deadline(pod, alive))
        elif pod.uid not in seen.ended:
            missing = _vanished(pod, now)
            if now < release_time(missing):
                kept.append(missing)
            else:
                unwitnessed += 1
    have = {pod.uid for pod in known}
    fresh = [pod for pod in seen.alive.values() if pod.uid not in have and not pod.ended]
    kept += [_with_deadline(OldPod(pod.uid, pod.name), pod) for pod in fresh if is_old(pod, annotation, trigger)]
    return tuple(sorted(kept, key=lambda pod: pod.name)), unwitnessed


def _with_deadline(known: OldPod, pod: Pod) -> OldPod:
    # One that an outdated list did not show, and that is there after all, has not vanished.
    return OldPod(known.uid, pod.name, pod.node or None, pod.grace_seconds, pod.deadline)


def _vanished(pod: OldPod, now: datetime) -> OldPod:
    if pod.vanished_time is not None:
        return pod
    return replace(pod, vanished_time=now, deadline=pod.deadline or now + _grace(pod))


def _grace(pod: OldPod) -> timedelta:
    return timedelta(seconds=DEFAULT_GRACE_SECONDS if pod.grace_seconds is None else pod.grace_seconds)


def release_time(pod: OldPod) -> datetime:
    """When a pod that vanished unseen stops counting: its kill deadline plus one full grace period (design §7)."""
    if pod.vanished_time is None:
        message = f"pod {pod.name} has not vanished"
        raise ValueError(message)
    return (pod.deadline or pod.vanished_time) + _grace(pod)
