"""What was deleted while a watch was cut is noticed when it lists again."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, cast

from tests.regressions.test_edits import BEFORE, NAME
from voicekeys.model.digest import Digester
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.queue import WorkQueue
from voicekeys.reconcilers.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SYNCED: tuple[str, dict[str, Any]] = ("SYNCED", {})
LISTING: tuple[str, dict[str, Any]] = ("LISTING", {})


class Cluster:
    """Shows one Deployment; after `gap`, none any more, and nobody has told of its end."""

    def __init__(self) -> None:
        self.gap = asyncio.Event()
        self.over = asyncio.Event()

    async def watch(
        self, resource: str, scope: str = "", *_: str, **__: Any
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        del scope
        yield LISTING
        if resource == "deployments":
            yield "ADDED", {"metadata": {"namespace": "voice", "name": "receptionist"}}
        yield SYNCED
        if resource == "deployments":
            await self.gap.wait()
            yield LISTING
            yield SYNCED
            self.over.set()
        await asyncio.Event().wait()


async def test_a_workload_that_is_gone_wakes_its_bindings() -> None:
    cluster, inventory, queue = Cluster(), Inventory(), WorkQueue()
    raw = copy.deepcopy(BEFORE)
    raw["spec"]["agents"] = [{"kind": "Deployment", "name": "receptionist"}]
    inventory.upsert(raw)
    watchers = Watchers(
        cast("Any", cluster),
        inventory,
        cast("Any", None),
        queue,
        Digester(b"k" * 32),
        namespaces=(),
        watch_stores=False,
    )
    task = asyncio.create_task(watchers.run())
    try:
        await asyncio.wait_for(watchers.synced(), 5)
        assert await asyncio.wait_for(queue.get(), 5) == NAME, "it was shown"
        queue.done(NAME)
        while len(queue):
            queue.done(await queue.get())
        cluster.gap.set()
        await asyncio.wait_for(cluster.over.wait(), 5)
        assert await asyncio.wait_for(queue.get(), 5) == NAME
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
