"""Hooks that failed, of pods whose calls nobody can ask for: the kubelet's event is the only witness.

A hook whose command is missing, or ends with an error, is no drain: the kubelet signals the containers at once (facts
K4), and the pod's end looks like that of one that had no call. What is found holds the workload's next restart, until a
person has looked. An event that cannot be read holds up nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from voicekeys.api.binding import DrainMode
from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.model.errors import ApiError
from voicekeys.policies import hazards, points
from voicekeys.policies.points import Point

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from voicekeys.api.status import OldPod
    from voicekeys.model.identity import Name, WorkloadId
    from voicekeys.model.verdict import Verdict
    from voicekeys.policies.pods import SeenPods
    from voicekeys.reconcilers.case import Case
    from voicekeys.reconcilers.outcome import Draft
    from voicekeys.reconcilers.ports import Cluster

log = structlog.get_logger(__name__)

REASON = "FailedPreStopHook"
WITHOUT_COUNT = frozenset({DrainMode.EXEC, DrainMode.SLEEP})
"""Modes whose pods say nothing of their calls; those of the contract are asked, and a cut call of theirs is counted."""
MOST = 8
"""Of pods that come to the same point at once no more are looked at: a command that is missing is so for all."""
PATIENCE_SECONDS = 5.0


class FailedHooks:
    """Looks for the events of the pods that a key change ends.

    Args:
        cluster: has the events.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._looked: dict[tuple[Name, WorkloadId], dict[str, Point]] = {}
        self._found: dict[tuple[Name, WorkloadId], Verdict] = {}  # that nobody has approved

    async def look(self, case: Case, old: Collection[OldPod], mine: SeenPods) -> None:
        """Look at the old pods that have begun to drain, or have ended, since the last look.

        Args:
            case: an agent.
            old: its pods on the old key, with those that have ended just now.
            mine: what is seen of its pods.
        """
        drain, key = case.agent.drain, _key(case)
        if drain is None or drain.mode not in WITHOUT_COUNT:
            return
        due = self._due(case, old, mine)
        if self.standing(case) is not None:
            told = due  # a hook of theirs that fails is no news
        else:
            told = await self._failed(case, due[:MOST]) if due else []
            verdict = hazards.hook_failed(str(case.workload.id), [pod.name for pod in told])
            if verdict is not None:
                self._found[key] = verdict
        self._looked[key] |= {pod.uid: Point.ENDED for pod in told}
        self.tell(case)

    def _due(self, case: Case, old: Collection[OldPod], mine: SeenPods) -> list[OldPod]:
        known = self._looked.get(_key(case), {})
        looked = {pod.uid: known.get(pod.uid, Point.SERVES) for pod in old}
        due = []
        for pod in old:
            point, next_in = points.at(mine.alive.get(pod.uid), case.observed.now)
            case.draft.wake_in(next_in.total_seconds() if next_in is not None else None, case.observed.now)
            if point > looked[pod.uid]:
                looked[pod.uid] = point
                due.append(pod)
        self._looked[_key(case)] = looked
        return due

    async def _failed(self, case: Case, pods: Sequence[OldPod]) -> list[OldPod]:
        """The pods about which a kubelet said that their hook failed."""
        namespace = case.workload.id.namespace
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await asyncio.gather(*(self._has_failed(namespace, pod) for pod in pods))
        except TimeoutError:
            log.info("events of failed hooks not read", workload=str(case.workload.id), reason="Timeout")
            return []
        return [pod for pod, failed in zip(pods, found, strict=True) if failed]

    async def _has_failed(self, namespace: str, pod: OldPod) -> bool:
        try:
            return await self._cluster.has_event(namespace, pod.uid, REASON)
        except ApiError as error:  # no drain waits for a courtesy
            log.info("events of failed hooks not read", pod=pod.name, reason=error.reason)
            return False

    # ---- what is known

    def standing(self, case: Case) -> Verdict | None:
        """What was found of a workload, and nobody has approved; None where its hooks are not known to fail."""
        drain = case.agent.drain
        if drain is None or drain.mode not in WITHOUT_COUNT:
            return None
        told = case.draft.said_about(str(case.workload.id), Is.HOOK_FAILED)
        if told is not None:
            # Kept here, too: one condition tells of one workload, and another one's may be told next.
            self._found[_key(case)] = told
        return self._found.get(_key(case))

    def tell(self, case: Case) -> None:
        """Note it."""
        case.draft.warn(Is.HOOK_FAILED, self.standing(case))

    def approved(self, binding: Name, draft: Draft) -> bool:
        """A person has looked: what was found is over. Returns whether there was something."""
        unwritten = [key for key in self._found if key[0] == binding]
        for key in unwritten:
            del self._found[key]
        left = tuple(one for one in draft.status.conditions if one.type != Is.HOOK_FAILED)
        told = left != draft.status.conditions
        # Together with the note that the order was obeyed, so that a crash undoes both or none.
        draft.status = replace(draft.status, conditions=left)
        return told or bool(unwritten)

    def rest(self, case: Case) -> None:
        """No pod of a workload ends for a binding; what was found of it stands."""
        self._looked.pop(_key(case), None)
        self.tell(case)

    def forget(self, binding: Name) -> None:
        """A binding is gone."""
        for known in (self._looked, self._found):
            for key in [key for key in known if key[0] == binding]:
                known.pop(key)


def _key(case: Case) -> tuple[Name, WorkloadId]:
    return case.observed.name, case.workload.id
