"""Pods left behind by a workload that is gone or that the binding names no more: they may hold the old key still."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from voicekeys.api.status import OldPod
from voicekeys.model.errors import Waiting
from voicekeys.policies import pods as on_old_key
from voicekeys.reconcilers.case import NO_TRIGGER, followed, ready_at
from voicekeys.reconcilers.conclusion import witnessed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from voicekeys.api.status import AgentStatus
    from voicekeys.model.identity import Name, WorkloadId
    from voicekeys.policies.pods import SeenPods
    from voicekeys.reconcilers.gather import Gatherer, Observed
    from voicekeys.reconcilers.outcome import Draft
    from voicekeys.reconcilers.pods import PodTracker
    from voicekeys.reconcilers.way_back import Wanted

LISTING_SECONDS = 5.0
"""So long a list of pods may take before it is worth a word."""


class Leftovers:
    """Follows pods to their end, whatever became of their workload.

    Args:
        gatherer: reads workloads.
        tracker: watches pods.
    """

    def __init__(self, gatherer: Gatherer, tracker: PodTracker) -> None:
        self._gatherer = gatherer
        self._tracker = tracker

    def rest(self, workload: WorkloadId, binding: Name) -> None:
        """Nothing of a workload is in change for a binding: its pods are not watched any more."""
        self._tracker.release(workload, binding)

    def forget(self, binding: Name) -> None:
        """A binding is gone."""
        self._tracker.release_all(binding)

    def seen(
        self,
        workload: WorkloadId,
        selector: Mapping[str, Any],
        binding: Name,
        draft: Draft,
        known: Sequence[OldPod],
    ) -> SeenPods:
        """The pods of a workload, listed at least once, with those of ``known`` that are gone known to be so.

        Raises:
            Waiting: they are being listed (reason ``Reading``), or cannot be.
        """
        seen = self._tracker.follow(workload, selector, binding)
        if seen is not None and not self._tracker.verify(workload, [pod.uid for pod in known]):
            seen = None
        if seen is None and self._tracker.waited(workload) >= LISTING_SECONDS:
            message = f"the pods of {workload} cannot be listed, so nothing is restarted: see the operator's log"
            raise Waiting("PodsNotListed", message)
        if seen is None:
            draft.wake_in(LISTING_SECONDS, draft.observed_at)
            raise Waiting("Reading", f"listing the pods of {workload}")
        return seen

    def _followed(self, observed: Observed, draft: Draft, status: AgentStatus) -> AgentStatus:
        """Follow the old pods of a workload that is gone, or that the binding names no more, to their end."""
        workload = observed.workload_id(status)
        if not status.old_pods:
            self._tracker.release(workload, observed.name)
            return status
        seen = self.seen(workload, {}, observed.name, draft, status.old_pods)
        mine = on_old_key.SeenPods(on_old_key.alive_of(status.old_pods, seen), seen.ended)
        return followed(observed, status, mine, NO_TRIGGER)

    def witness(self, observed: Observed, draft: Draft) -> None:
        """See the pods on the old key end, and do nothing else: the binding is suspended."""
        agents = []
        for status in draft.status.agents:
            try:
                agents.append(self._followed(observed, draft, status))
            except Waiting:
                agents.append(status)
        draft.status = replace(draft.status, agents=tuple(agents))
        witnessed(draft)

    async def of_removed(self, observed: Observed, draft: Draft, wanted: Wanted, status: AgentStatus) -> AgentStatus:
        """Follow what the binding names no more: where its restart never came, the pods of before have the old key."""
        workload = None
        if _is_behind(status, wanted):
            name = observed.workload_id(status)
            workload = await self._gatherer.workload(name)
        if workload is None or workload.uid != status.uid:
            return self.of_gone(observed, draft, wanted, status)
        return self._joined(observed, draft, status, workload.selector)

    def of_gone(self, observed: Observed, draft: Draft, wanted: Wanted, status: AgentStatus) -> AgentStatus:
        """Follow the pods of a workload that is gone; where its restart never came, all of them have the old key."""
        if not _is_behind(status, wanted):
            return self._followed(observed, draft, status)
        return self._joined(observed, draft, status, {})

    def _joined(
        self, observed: Observed, draft: Draft, status: AgentStatus, selector: Mapping[str, Any]
    ) -> AgentStatus:
        """Count a workload's pods that started before the Secret changed among those on the old key."""
        workload = observed.workload_id(status)
        seen = self.seen(workload, selector, observed.name, draft, status.old_pods)
        have = {pod.uid for pod in status.old_pods}
        owned = on_old_key.owned_by(seen.alive.values(), workload, status.uid)
        until = ready_at(observed, draft)
        older = [pod for pod in owned if pod.uid not in have and on_old_key.is_older(pod, until)]
        joined = tuple(OldPod(pod.uid, pod.name, pod.node or None, pod.grace_seconds) for pod in older)
        return self._followed(observed, draft, replace(status, old_pods=(*status.old_pods, *joined)))


def _is_behind(status: AgentStatus, wanted: Wanted) -> bool:
    """Whether an agent's pods may have other data than the wanted one."""
    return status.digest is not None and (status.digest != wanted.digest or status.diverged_time is not None)
