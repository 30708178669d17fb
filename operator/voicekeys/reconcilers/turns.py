"""How many workloads are restarted at once: a key that a thousand agents share must not double them all in one minute.

A workload has a turn from the patch of its template until every pod on the old key has ended. The invariant: no more
workloads than the limits have one, apart from those that had theirs before a limit was lowered; a workload that has
one keeps it, so that a newer key, or the way back, never waits for its own former restart. One namespace has half of
the cluster's turns at most: its calls may last as long as it likes, and the keys of others must still reach their pods.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.model.identity import WorkloadId
from voicekeys.model.verdict import Verdict
from voicekeys.policies.rollout import Do, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from voicekeys.api.status import AgentStatus
    from voicekeys.model.identity import Name
    from voicekeys.reconcilers.inventory import Inventory

LOOK_AGAIN = timedelta(minutes=1)
"""Whoever waits is woken when a turn ends; this is for what no event tells, like a limit that was raised."""


class Turns:
    """Gives turns, over the cluster and within each store.

    Args:
        inventory: knows who had a turn before this process began.
        limit: workloads of the whole cluster that may have a turn at once; 0 for any number.
        wake: told a binding that waited when there may be a turn for it.
    """

    def __init__(self, inventory: Inventory, limit: int, wake: Callable[[Name], None]) -> None:
        self._inventory = inventory
        self._limit = limit
        self._wake = wake
        self._busy: dict[tuple[WorkloadId, Name], str] | None = None
        self._waiting: dict[Name, None] = {}

    def hold(
        self,
        binding: Name,
        store: str,
        workload: WorkloadId,
        store_limit: int | None,
        now: datetime,
        *,
        take: bool = True,
    ) -> Step | None:
        """Take a turn for a workload; where there is none, say for whom the restart waits.

        Args:
            binding: whose key it is.
            store: the binding's store.
            workload: what is to be restarted.
            store_limit: workloads of the store that may have a turn at once; None for any number.
            now: wall time.
            take: False only looks whether there is one.
        """
        busy = self._known()
        if not any(one == workload for one, _ in busy):
            of_store = len({one for (one, _), where in busy.items() if where == store})
            overall = len({one for one, _ in busy})
            if store_limit is not None and of_store >= store_limit:
                return self._wait(binding, workload, store_limit, f"spec.rollout.maxWorkloads of {store}", now)
            if self._limit and overall >= self._limit:
                return self._wait(binding, workload, self._limit, "option VOICEKEYS_MAX_WORKLOADS", now)
            share = max(1, self._limit // 2)
            if self._limit and len({one for one, _ in busy if one.namespace == workload.namespace}) >= share:
                where = "a namespace has half of option VOICEKEYS_MAX_WORKLOADS"
                return self._wait(binding, workload, share, where, now)
        if take:
            self._waiting.pop(binding, None)
            busy[workload, binding] = store
        return None

    def _wait(self, binding: Name, workload: WorkloadId, limit: int, where: str, now: datetime) -> Step:
        self._waiting[binding] = None
        message = (
            f"{workload} restarts when another workload is done: at most {limit} may be in a restart at once, so that "
            f"there is room for old and new pods side by side ({where}; raise it to go on now)"
        )
        return Step(Do.HOLD, Verdict("WaitingForTurn", message), now + LOOK_AGAIN)

    def settle(self, binding: Name, store: str, workload: WorkloadId, status: AgentStatus | None) -> None:
        """Note whether a binding's restart of a workload is still under way, and let the next ones go on if not."""
        busy = self._known()
        if is_under_way(status):
            busy[workload, binding] = store
        elif busy.pop((workload, binding), None) is not None:
            self._go_on()

    def forget(self, binding: Name) -> None:
        """Give back the turns of a binding that is gone."""
        busy = self._known()
        self._waiting.pop(binding, None)
        gone = [key for key in busy if key[1] == binding]
        for key in gone:
            del busy[key]
        if gone:
            self._go_on()

    def _go_on(self) -> None:
        """Wake everyone who waits: limits differ by store, and whoever comes too late waits again."""
        waiting, self._waiting = self._waiting, {}
        for binding in waiting:
            self._wake(binding)

    def _known(self) -> dict[tuple[WorkloadId, Name], str]:
        """Who has a turn; at first, by what the statuses of all bindings say."""
        if self._busy is None:
            self._busy = {}
            for record in self._inventory.bindings.values():
                status = record.status_json
                # Thousands rest: only those whose status has what `is_under_way` asks for are parsed.
                if b'"patchedTime"' not in status and b'"oldPods"' not in status:
                    continue
                for agent in record.status().agents:
                    if is_under_way(agent):
                        workload = WorkloadId(agent.kind.value, record.name.namespace, agent.name)
                        self._busy[workload, record.name] = record.store
        return self._busy


def is_under_way(status: AgentStatus | None) -> bool:
    """Whether a restart has begun and pods of before it are left."""
    return status is not None and (status.patched_time is not None or bool(status.old_pods))
