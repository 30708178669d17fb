"""A store's status after a restart: what was known before is not unsaid because the first read is still on its way."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.regressions.test_poller import WHO, Clock, Vault, poller_of
from voicekeys.api.store import parse_store_spec
from voicekeys.model.identity import Name, SourceId
from voicekeys.reconcilers.inventory import Inventory, pack_status
from voicekeys.reconcilers.store import StoreReconciler
from voicekeys.reconcilers.stores import Store, Stores

SPEC = {
    "vault": {"address": "http://vault:8200", "insecure": True},
    "auth": {"kubernetes": {"role": "voicekeys"}},
    "rules": [{"name": "all", "namespaceSelector": {}, "pathPrefixes": ["keys"], "environment": "production"}],
}


class Cluster:
    """Takes statuses, as the API server does."""

    def __init__(self) -> None:
        self.statuses: list[Any] = []

    async def replace_status(self, kind: str, name: Name, uid: str, status: Any) -> Any:
        self.statuses.append(status)
        return {"metadata": {"resourceVersion": "8", "name": name.name, "uid": uid, "kind": kind}, "status": status}


class Silent:
    """Emits nothing."""

    def emit(self, *_: object) -> None:
        pass


async def reconciled(poller: Any, known: Any = None) -> list[Any]:
    store = Store("default", parse_store_spec(SPEC), uid="u-1", generation=1)
    store.status_json, store.poller = pack_status(known), poller
    nothing: Any = lambda *_: None  # noqa: E731
    told = {"on_change": nothing, "on_store": nothing, "on_rebuilt": nothing, "on_lag": nothing}
    stores = Stores(nothing, Clock(), random.Random(1), **told)
    stores.all["default"] = store
    cluster, others = Cluster(), (Silent(), Clock())
    parts: Any = (cluster, *others)
    await StoreReconciler(stores, Inventory(), *parts).reconcile(Name("", "default"))
    return cluster.statuses


async def test_a_restart_writes_nothing_on_a_store_before_the_first_read_has_ended() -> None:
    poller = poller_of(Vault(), Clock(), [])
    poller.subscribe(SourceId("default", WHO, "keys/a"), Name("tenant", "a"))
    assert await reconciled(poller) == []
    running = asyncio.create_task(poller.run())
    while not poller.answered:
        await asyncio.sleep(0)
    running.cancel()
    (status,) = await reconciled(poller)
    assert {one["type"]: one["status"] for one in status["conditions"]}["Reachable"] == "True"
    assert await reconciled(poller, status) == []


async def test_a_store_that_nobody_reads_says_so() -> None:
    (status,) = await reconciled(poller_of(Vault(), Clock(), []))
    assert {one["type"]: one["reason"] for one in status["conditions"]}["Reachable"] == "NotUsed"
