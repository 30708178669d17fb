"""The checks behind `/healthz` and `/readyz`, on the real watchers, handlers and stores."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

import kopf
import pytest

from tests.handlers.test_bindings import RAW
from tests.regressions.test_poller import WHO, Clock, Vault, poller_of
from voicekeys.clients.kube.watch import Watcher
from voicekeys.handlers.bindings import BindingHandlers
from voicekeys.handlers.checks import Checks
from voicekeys.handlers.shell import OthersTasks
from voicekeys.model.errors import StoreDown
from voicekeys.model.identity import Name, SourceId
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.queue import WorkQueue
from voicekeys.reconcilers.stores import Stores

if TYPE_CHECKING:
    from voicekeys.clients.kube.session import KubeSession
    from voicekeys.reconcilers.poller import StorePoller

LIMIT = 300.0
LONG = LIMIT + 1


def raw(version: int, name: str = "frejun") -> dict[str, Any]:
    metadata = cast("dict[str, Any]", RAW["metadata"])
    return {**RAW, "metadata": {**metadata, "name": name, "resourceVersion": str(version)}}


class Place:
    """Checks and all that they look at."""

    def __init__(self, *, leads: bool = True) -> None:
        self.clock = Clock()
        self.watchers = [
            Watcher(cast("KubeSession", None), "secrets"),
            Watcher(cast("KubeSession", None), "namespaces"),
        ]
        self.handlers = BindingHandlers(Inventory(), WorkQueue(), self.clock)
        self.stores = Stores(
            cast("Any", None),
            self.clock,
            random.Random(1),
            on_change=lambda _: None,
            on_store=lambda _: None,
            on_rebuilt=lambda _: None,
            on_lag=lambda _: None,
        )
        self.checks = Checks(lambda: self.watchers, self.handlers, self.stores, lambda: leads, self.clock, LIMIT)

    async def told(self, version: int, kind: str = "MODIFIED") -> None:
        await self.handlers.on_event({"type": kind, "object": raw(version)})

    def add_store(self, name: str = "vault") -> StorePoller:
        poller = poller_of(Vault(), self.clock, [])
        self.stores.all[name] = cast("Any", type("Store", (), {"poller": poller, "spec": None})())
        return poller


def test_a_watch_that_is_silent_for_long_is_dead_and_named() -> None:
    place = Place()
    assert place.checks.watch() is None, "one that has not begun is no dead one"
    for watcher in place.watchers:
        watcher.last_seen = place.clock.at
    place.clock.at += LONG
    place.watchers[1].last_seen = place.clock.at
    said = place.checks.watch()
    assert said is not None
    assert "secrets" in said
    assert "namespaces" not in said


def test_a_watch_whose_api_server_is_down_is_not_our_fault() -> None:
    place = Place()
    place.watchers[0].last_seen = place.clock.at
    place.watchers[0]._faults = 1
    place.clock.at += LONG
    assert place.checks.watch() is None


async def test_kopfs_watch_is_dead_when_it_never_tells_what_a_list_has_shown() -> None:
    place = Place()
    await place.told(7)
    place.clock.at += LONG
    place.handlers.on_listed(raw(7))
    assert place.checks.watch() is None, "nothing has changed since: it has nothing to tell"
    place.handlers.on_listed(raw(9))
    assert place.checks.watch() is None, "it may be a moment behind"
    place.clock.at += LONG
    assert "voicekeybindings" in (place.checks.watch() or "")
    await place.told(9)
    assert place.checks.watch() is None


async def test_kopfs_watch_that_tells_one_thing_after_another_is_alive_however_far_behind() -> None:
    place = Place()
    place.handlers.on_listed(raw(900))
    for version in range(10, 20):
        place.clock.at += LIMIT - 1
        await place.told(version)
        assert place.checks.watch() is None


async def test_what_a_list_has_shown_and_is_gone_since_is_forgotten_by_the_next_list() -> None:
    place = Place()
    await place.told(7)
    place.handlers.on_listed(raw(9))
    place.clock.at += LONG
    place.handlers.begin_listing()
    place.handlers.on_listed(raw(7))
    assert place.checks.watch() is None


async def test_the_end_of_the_newest_binding_is_told_as_well() -> None:
    place = Place()
    await place.told(7)
    place.handlers.on_listed(raw(9))
    await place.told(10, "DELETED")
    place.clock.at += LONG
    assert place.checks.watch() is None


def test_not_ready_before_a_store_has_answered_or_is_known_to_be_down() -> None:
    place = Place()
    assert place.checks.stores() is None, "there is no store to wait for"
    poller = place.add_store()
    assert place.checks.stores() is None, "nothing is to be read from it"
    poller.subscribe(SourceId("vault", WHO, "path"), Name("tenant", "voice"))
    assert place.checks.stores() == "no store has answered yet"
    poller.down = StoreDown("VaultSealed", "it is sealed")
    assert place.checks.stores() is None, "an outage of Vault is no reason to restart or to take /notify away"
    poller.down, poller.answered = None, True
    assert place.checks.stores() is None


def test_a_store_that_nobody_uses_makes_nothing_ready() -> None:
    place = Place()
    place.add_store("unused")
    place.add_store("used").subscribe(SourceId("used", WHO, "path"), Name("tenant", "voice"))
    assert place.checks.stores() is not None


def test_one_store_that_answers_is_enough() -> None:
    place = Place()
    for name in ("one", "two"):
        place.add_store(name).subscribe(SourceId(name, WHO, "path"), Name("tenant", name))
    assert place.checks.stores() is not None
    store = place.stores.all["one"]
    assert store.poller is not None
    store.poller.answered = True
    assert place.checks.stores() is None


def test_a_standby_is_ready() -> None:
    place = Place(leads=False)
    place.add_store().subscribe(SourceId("vault", WHO, "path"), Name("tenant", "voice"))
    assert place.checks.stores() is None


async def test_kopf_may_cancel_its_own_tasks_and_no_other() -> None:
    own = asyncio.create_task(asyncio.sleep(30))
    ready = asyncio.Event()
    settings, registry = kopf.OperatorSettings(), kopf.OperatorRegistry()
    tasks = await kopf.spawn_tasks(
        registry=registry, settings=settings, standalone=True, clusterwide=True, ready_flag=ready
    )
    try:
        others = OthersTasks()
        assert own in others
        assert asyncio.current_task() in others
        assert not [task for task in tasks if task in others]
    finally:
        for task in (own, *tasks):
            task.cancel()
        await asyncio.gather(own, *tasks, return_exceptions=True)


@pytest.mark.parametrize("thing", [None, "a task", 7])
def test_what_is_no_task_is_not_kopfs(thing: object) -> None:
    assert thing in OthersTasks()
