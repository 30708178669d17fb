from __future__ import annotations

import threading
from typing import Any

import kopf
from kopf._core.actions.invocation import invoke

from voicekeys.clients.clock import SystemClock
from voicekeys.handlers.bindings import BindingHandlers, registry
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.queue import WorkQueue

RAW = {
    "metadata": {
        "namespace": "voice-prod",
        "name": "frejun",
        "uid": "u-1",
        "generation": 1,
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"environment": "production", "source": {"path": "voice/frejun"}},
}


class Witness(Inventory):
    """Remembers which thread each binding was taken in by."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def upsert(self, raw: Any) -> Any:
        self.threads.append(threading.current_thread())
        return super().upsert(raw)


async def test_kopf_gives_events_to_us_in_the_loops_own_thread() -> None:
    """The queue and the inventory belong to the loop; kopf runs plain functions in a pool of threads."""
    inventory = Witness()
    made = registry(BindingHandlers(inventory, WorkQueue(), SystemClock()), dict)
    (handler,) = made._watching.get_all_handlers()
    await invoke(handler.fn, settings=kopf.OperatorSettings(), kwargs={"event": {"type": "ADDED", "object": RAW}})
    assert inventory.threads == [threading.current_thread()]
