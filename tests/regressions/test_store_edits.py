"""An edit of a store: from that moment nothing of the former settings is used, and no edit is ever lost."""

from __future__ import annotations

import asyncio
import copy
import random
from typing import TYPE_CHECKING, Any

from tests.regressions.test_poller import WHO, Clock, Vault
from tests.regressions.test_store_start import SPEC, Silent
from voicekeys.model.identity import Name, SourceId
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.store import StoreReconciler
from voicekeys.reconcilers.stores import Stores

if TYPE_CHECKING:
    from voicekeys.api.store import StoreSpec

SOURCE = SourceId("default", WHO, "keys/a")
TENANT = Name("tenant", "a")


class SlowVault(Vault):
    """Its client takes its time to read, to close, or both."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = asyncio.Event()
        self.may_close = asyncio.Event()
        self.ends: list[str] = []

    async def read(self, *args: Any) -> Any:
        try:
            await self.may_read.wait()
        except asyncio.CancelledError:
            await self.may_read.wait()  # the worst client: it answers although it was told to stop
        return await super().read(*args)

    async def close(self) -> None:
        await self.may_close.wait()
        self.ends.append("closed")


class Place:
    """Stores whose clients a test holds back."""

    def __init__(self) -> None:
        self.vaults: list[SlowVault] = []
        self.changed: list[Any] = []
        self.rebuilt: list[str] = []
        self.connecting = asyncio.Event()
        self.connecting.set()
        self.stores = Stores(
            self.connect,
            Clock(),
            random.Random(1),
            on_change=self.changed.append,
            on_store=lambda _: None,
            on_rebuilt=self.rebuilt.append,
            on_lag=lambda _: None,
        )

    async def connect(self, name: str, spec: StoreSpec) -> SlowVault:
        del name, spec
        self.vaults.append(SlowVault())
        made = self.vaults[-1]
        await self.connecting.wait()
        return made

    async def apply(self, version: int, generation: int, **more: Any) -> None:
        await self.stores.upsert(raw(version, generation, **more))


def raw(version: int, generation: int, **more: Any) -> dict[str, Any]:
    metadata = {"name": "default", "uid": "u-1", "generation": generation, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {**copy.deepcopy(SPEC), **more}, "status": {}}


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


ANOTHER = {"vault": {"address": "http://another:8200", "insecure": True}}


async def test_no_key_of_the_former_vault_is_given_out_under_the_new_rules() -> None:
    place = Place()
    await place.apply(1, 1)
    place.vaults[0].may_read.set()
    source = place.stores.subscribe(TENANT, SOURCE, "production")
    assert source is not None
    await turns()
    assert source.key is not None
    editing = asyncio.create_task(place.apply(2, 2, **ANOTHER))
    await turns()
    assert not place.vaults[0].ends, "the former client still takes its time"
    assert place.stores.subscribe(Name("other", "b"), SOURCE, "production") is None
    assert place.stores.source_of(TENANT) is None
    assert place.stores.is_starting("default"), "bindings see that it is being connected"
    place.vaults[0].may_close.set()
    await editing
    assert place.rebuilt[-1] == "default"
    fresh = place.stores.subscribe(TENANT, SOURCE, "production")
    assert fresh is not None
    assert fresh.pending
    assert place.vaults[0].ends
    place.vaults[1].may_close.set()
    await place.stores.close()


async def test_a_late_answer_of_the_former_vault_reaches_nobody() -> None:
    place = Place()
    await place.apply(1, 1)
    place.stores.subscribe(TENANT, SOURCE, "production")
    await turns()
    place.vaults[0].may_close.set()
    editing = asyncio.create_task(place.apply(2, 2, **ANOTHER))
    await turns()
    place.vaults[0].may_read.set()
    await editing
    await turns()
    assert place.changed == []
    place.vaults[1].may_close.set()
    await place.stores.close()


async def test_an_edit_while_the_store_is_being_connected_is_what_it_is_connected_to() -> None:
    place = Place()
    place.connecting.clear()
    first = asyncio.create_task(place.apply(1, 1))
    await turns()
    second = asyncio.create_task(place.apply(2, 2, **ANOTHER))
    await turns()
    for vault in place.vaults:
        vault.may_close.set()
    place.connecting.set()
    for _ in range(20):
        await turns(1)
        poller = place.stores.all["default"].poller
        assert poller is None or poller._vault is not place.vaults[0], "bindings would read by the former settings"
    await asyncio.gather(first, second)
    assert place.vaults[0].ends
    assert place.stores.all["default"].poller is not None
    place.vaults[-1].may_close.set()
    await place.stores.close()


async def test_a_suspend_that_our_own_status_write_overtook_is_not_lost() -> None:
    place = Place()
    await place.apply(1, 1)

    class Cluster:
        """Its answer to a status write shows an edit that no watch has shown yet."""

        async def replace_status(self, *args: Any) -> Any:
            return {**raw(502, 2, suspend=True), "status": args[-1]}

    place.vaults[0].may_close.set()
    parts: Any = (Cluster(), Silent(), Clock())
    await StoreReconciler(place.stores, Inventory(), *parts).reconcile(Name("", "default"))
    await place.apply(501, 2, suspend=True)
    await place.apply(502, 2, suspend=True)
    store = place.stores.all["default"]
    assert store.spec.suspend
    assert store.generation == 2
    assert store.poller is None


async def test_the_echo_of_our_own_status_write_is_still_known_as_such() -> None:
    place = Place()
    await place.apply(1, 1)

    class Cluster:
        async def replace_status(self, *args: Any) -> Any:
            return {**raw(5, 1), "status": args[-1]}

    parts: Any = (Cluster(), Silent(), Clock())
    await StoreReconciler(place.stores, Inventory(), *parts).reconcile(Name("", "default"))
    assert place.stores.all["default"].resource_version == 5
    place.vaults[0].may_close.set()
    await place.stores.close()
