"""A person's edit that our own status write overtakes is not lost."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

from voicekeys.api.status import BindingStatus
from voicekeys.clients.clock import SystemClock
from voicekeys.handlers.bindings import BindingHandlers
from voicekeys.model.identity import Name
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.outcome import Outcome
from voicekeys.reconcilers.queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = Name("voice", "frejun")
BEFORE: dict[str, Any] = {
    "metadata": {
        "namespace": "voice",
        "name": "frejun",
        "uid": "u-1",
        "generation": 1,
        "resourceVersion": "8",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"environment": "production", "source": {"path": "voice/old"}},
    "status": {"observedGeneration": -1},
}


class Server:
    """Answers a status write with the object as it then is: somebody may have edited it just before."""

    def __init__(self, edited: Mapping[str, Any]) -> None:
        self.now = copy.deepcopy(dict(edited))

    async def replace_status(self, kind: str, name: Name, uid: str, status: Mapping[str, Any]) -> dict[str, Any]:
        del kind, name, uid
        self.now["status"] = status
        self.now["metadata"]["resourceVersion"] = "10"
        return copy.deepcopy(self.now)


def edited(**metadata: Any) -> dict[str, Any]:
    raw = copy.deepcopy(BEFORE)
    raw["metadata"] |= {"resourceVersion": "9", **metadata}
    return raw


async def written(edit: Mapping[str, Any]) -> tuple[Inventory, WorkQueue]:
    """Write a status over an edit; then the watch shows what it has shown late, and the sweep lists."""
    inventory, queue = Inventory(), WorkQueue()
    handlers = BindingHandlers(inventory, queue, SystemClock())
    record = inventory.upsert(BEFORE)
    assert record is not None
    server = Server(edit)
    outcome = Outcome(cast("Any", server), cast("Any", None), inventory, handlers.take)
    assert await outcome.write(record, BindingStatus(observed_generation=1))
    for late in (edit, server.now):
        handlers.take(late)
    return inventory, queue


async def test_an_edit_of_the_spec() -> None:
    edit = edited(generation=2)
    edit["spec"] |= {"suspend": True, "source": {"path": "voice/new"}}
    inventory, queue = await written(edit)
    record = inventory.bindings[NAME]
    assert record.generation == 2
    assert record.spec().suspend
    assert record.spec().source.path == "voice/new"
    assert record.status().observed_generation == 1, "and what was written is known"
    assert len(queue) == 1, "and is worked on"


async def test_a_sync_now() -> None:
    inventory, queue = await written(edited(annotations={"voicekeys.dev/sync-now": "one"}))
    assert inventory.bindings[NAME].orders.sync_now == "one"
    assert len(queue) == 1


async def test_our_own_echo_is_no_edit() -> None:
    inventory, queue = await written(edited())
    assert inventory.bindings[NAME].resource_version == 10
    assert len(queue) == 0
