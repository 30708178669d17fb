"""Wakes bindings when what is known of their pods' calls changed, but no oftener than a status should be written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from voicekeys.model.identity import Name, WorkloadId

SETTLE_SECONDS = 5.0
"""Between two wakes of a workload, while calls come and go."""
SOON_SECONDS = 1.0
"""The same for what somebody waits for, that no call is live: a pod may say so again and again."""


@dataclass(slots=True)
class _Workload:
    last: float = float("-inf")
    due: float = float("inf")
    users: set[Name] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None


class Wakes:
    """One line of wakes for each workload, on one event loop.

    Args:
        on_change: told the workload, and the bindings.
    """

    def __init__(self, on_change: Callable[[WorkloadId, Collection[Name]], None]) -> None:
        self._on_change = on_change
        self._workloads: dict[WorkloadId, _Workload] = {}

    def wake(self, workload: WorkloadId, users: Collection[Name], *, soon: bool = False) -> None:
        """Tell of a change: now, or with the others that come until the workload's next turn."""
        loop = asyncio.get_running_loop()
        mine = self._workloads.setdefault(workload, _Workload())
        mine.users.update(users)
        gap = SOON_SECONDS if soon else SETTLE_SECONDS
        due = max(loop.time(), mine.last + gap)
        if due >= mine.due:
            return
        _cancel(mine.timer)
        mine.due = due
        mine.timer = loop.call_at(due, self._fire, workload, mine)

    def _fire(self, workload: WorkloadId, mine: _Workload) -> None:
        users, mine.users = mine.users, set()
        loop = asyncio.get_running_loop()
        mine.last, mine.due = loop.time(), float("inf")
        # Forgotten when nothing came for as long as it would have mattered.
        mine.timer = loop.call_later(SETTLE_SECONDS, self._workloads.pop, workload, None)
        self._on_change(workload, users)

    def close(self) -> None:
        """Wake nobody any more."""
        for mine in self._workloads.values():
            _cancel(mine.timer)
        self._workloads.clear()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
