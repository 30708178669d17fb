"""Watches a workload's pods, but only while a key change of it is in flight, and remembers whose end was seen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from voicekeys.api.names import TRIGGER_PREFIX
from voicekeys.model.identity import Name
from voicekeys.model.workload import parse_pod
from voicekeys.policies.pods import SeenPods

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from voicekeys.model.identity import WorkloadId
    from voicekeys.model.workload import Pod
    from voicekeys.reconcilers.ports import Cluster

log = structlog.get_logger(__name__)

RESTART_SECONDS = 5.0


@dataclass(slots=True)
class _Watched:
    """One workload's pods."""

    selector: str
    users: set[Name] = field(default_factory=set)
    alive: dict[str, Pod] = field(default_factory=dict)
    ended: dict[str, Pod | None] = field(default_factory=dict)
    unplaced: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    synced: bool = False
    since: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None


class PodTracker:
    """The pods of workloads in change.

    Args:
        cluster: for the watches.
        on_change: told the workload when one of its pods changed, and the bindings that follow it.
    """

    def __init__(self, cluster: Cluster, on_change: Callable[[WorkloadId, Collection[Name]], None]) -> None:
        self._cluster = cluster
        self._on_change = on_change
        self._watched: dict[WorkloadId, _Watched] = {}

    def follow(self, workload: WorkloadId, selector: Mapping[str, Any], binding: Name) -> SeenPods | None:
        """Watch a workload's pods on behalf of a binding; None until they were listed once.

        Args:
            workload: whose pods.
            selector: which they are; empty where nobody knows any more, and every pod of the namespace is watched.
            binding: who asks.
        """
        watched, text = self._watched.get(workload), selector_text(selector)
        if watched is None:
            watched = self._start(workload, _Watched(text))
        elif text not in {"", watched.selector} and watched.selector:
            # Made anew with another selector, while pods of the old one may still be there: from now on, see them all.
            watched = self._widen(workload, watched)
        watched.users.add(binding)
        return SeenPods(watched.alive, watched.ended) if watched.synced else None

    def verify(self, workload: WorkloadId, pods: Collection[str]) -> bool:
        """Whether pods that the watch does not show (by UID) are gone indeed: every pod of the namespace was listed.

        One whose labels were changed looks deleted to a watch by selector, and runs on. False: that list is on its way.
        """
        watched = self._watched[workload]
        missing = any(uid not in watched.alive and uid not in watched.ended for uid in pods)
        if missing and watched.selector:
            self._widen(workload, watched)
            return False
        return True

    def _widen(self, workload: WorkloadId, watched: _Watched) -> _Watched:
        """Watch all pods of the namespace from now on, with what is known already of ends."""
        if watched.task is not None:
            watched.task.cancel()
        return self._start(workload, _Watched("", watched.users, ended=watched.ended, unplaced=watched.unplaced))

    def is_running(self, workload: WorkloadId, uid: str) -> bool:
        """Whether a pod is there, and its containers have not ended."""
        pod = self._watched[workload].alive.get(uid) if workload in self._watched else None
        return pod is not None and not pod.ended

    def last(self, workload: WorkloadId, uid: str) -> Pod | None:
        """The last object of a pod that was seen to end; it may be there still, without a running container."""
        watched = self._watched.get(workload)
        return (watched.alive.get(uid) or watched.ended.get(uid)) if watched is not None else None

    def waited(self, workload: WorkloadId) -> float:
        """Seconds since a workload's pods were first asked for."""
        return time.monotonic() - self._watched[workload].since

    def _start(self, workload: WorkloadId, watched: _Watched) -> _Watched:
        self._watched[workload] = watched
        watched.task = asyncio.create_task(self._watch(workload, watched), name=f"pods of {workload}")
        watched.task.add_done_callback(lambda task: self._ended(workload, task))
        return watched

    def release(self, workload: WorkloadId, binding: Name) -> None:
        """End a binding's interest; the last one ends the watch."""
        watched = self._watched.get(workload)
        if watched is None:
            return
        watched.users.discard(binding)
        if not watched.users:
            self._watched.pop(workload)
            if watched.task is not None:
                watched.task.cancel()

    def release_all(self, binding: Name) -> None:
        """End every interest of a binding that is gone."""
        for workload in [one for one, watched in self._watched.items() if binding in watched.users]:
            self.release(workload, binding)

    def _ended(self, workload: WorkloadId, task: asyncio.Task[None]) -> None:
        """A watch that fell over is begun anew by the next reconcile; what it had not seen counts as unseen."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("pod watch failed, begins anew", workload=str(workload), exc_info=task.exception())
        watched = self._watched.pop(workload, None)
        users = watched.users if watched is not None else set[Name]()
        asyncio.get_running_loop().call_later(RESTART_SECONDS, self._on_change, workload, users)

    async def close(self) -> None:
        """End every watch."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, workload: WorkloadId, watched: _Watched) -> None:
        async for kind, raw in self._cluster.watch("pods", workload.namespace, watched.selector):
            if kind == "LISTING":
                watched.listed = set()
                continue
            if kind == "SYNCED":
                _sweep(watched)
            else:
                _note(watched, kind, parse_pod(raw, prefix=TRIGGER_PREFIX))
            if watched.synced:
                self._on_change(workload, watched.users)


def _note(watched: _Watched, kind: str, pod: Pod) -> None:
    watched.listed.add(pod.uid)
    if kind != "DELETED":
        watched.alive[pod.uid] = pod
        return
    before = watched.alive.pop(pod.uid, None)
    # The last object of a DELETED event is a witness, and so is a terminal state that was seen earlier.
    if pod.ended or (before is not None and before.ended):
        watched.ended[pod.uid] = pod if pod.ended else before
    elif pod.node:
        return
    elif watched.selector and not pod.terminating:
        watched.unplaced.add(pod.uid)  # to a watch by selector a change of its labels looks the same
    else:
        watched.ended[pod.uid] = None  # it was deleted before it ran


def _sweep(watched: _Watched) -> None:
    """After a complete list: what it did not show is gone, and only a terminal state seen before is a witness."""
    for uid in [uid for uid in watched.alive if uid not in watched.listed]:
        pod = watched.alive.pop(uid)
        if pod.ended:
            watched.ended[uid] = pod
    if not watched.selector:
        watched.ended |= dict.fromkeys(watched.unplaced - watched.listed)
        watched.unplaced.clear()
    watched.synced = True


_OPERATORS = {"In": "in", "NotIn": "notin"}


def selector_text(selector: Mapping[str, Any]) -> str:
    """A LabelSelector as the query that the API server takes."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        if operator in _OPERATORS:
            parts.append(f"{key} {_OPERATORS[operator]} ({','.join(expression['values'])})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)
