"""How long rollouts were watched without getting on: a timeout counts only what this process has seen.

A stretch in which the operator was down, the API server away or the wall clock set says nothing about a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from voicekeys.model.identity import Name, WorkloadId
    from voicekeys.reconcilers.ports import Clock

LOOK_SECONDS = 30.0
"""So often a rollout is looked at although no event came."""

LONGEST_GAP_SECONDS = 60.0
"""Of the time between two looks so much counts: during a longer gap nobody watched."""

FORGOTTEN_SECONDS = 3600.0


@dataclass(slots=True)
class _Run:
    since: datetime
    looked: float
    steps: set[tuple[str, str]]
    watched: float = 0.0


class Stopwatch:
    """One run for each agent, which begins anew whenever its rollout gets on.

    Args:
        clock: of which the monotonic side is used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[tuple[Name, WorkloadId], _Run] = {}

    def look(
        self, binding: Name, workload: WorkloadId, since: datetime, steps: AbstractSet[tuple[str, str]], *, counts: bool
    ) -> timedelta:
        """Say how long a rollout has been watched since it last got on.

        Args:
            binding: whose restart it is.
            workload: which restarts.
            since: when it last got on, by whatever clock.
            steps: what has come to pass in it. Another ``since`` begins anew, but only with a step that never was
                before: a pod that is ready for a moment, again and again, does not get on.
            counts: whether the time until this look counts: the workload's controller is at work.
        """
        now, key = self._clock.monotonic(), (binding, workload)
        run = self._runs.get(key)
        known = run.steps if run is not None else set()
        if run is None or (run.since != since and not known.issuperset(steps)):
            self._runs = {name: one for name, one in self._runs.items() if now - one.looked < FORGOTTEN_SECONDS}
            run = self._runs[key] = _Run(since, now, known)
        run.steps.update(steps)
        run.watched += min(now - run.looked, LONGEST_GAP_SECONDS) if counts else 0.0
        run.looked = now
        return timedelta(seconds=run.watched)
