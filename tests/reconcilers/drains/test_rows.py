"""Draining calls on /metrics: from a followed pod to the series of its binding."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from tests import gen
from tests.reconcilers.drains.stage import FREJUN, GONE, Contract, stage, until
from voicekeys.clients.clock import SystemClock
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.state import State
from voicekeys.reconcilers.stores import Stores

if TYPE_CHECKING:
    from voicekeys.api.store import StoreSpec
    from voicekeys.reconcilers.drains import Drains
    from voicekeys.reconcilers.ports import KeySource
    from voicekeys.telemetry.state import BindingRow


async def never(name: str, spec: StoreSpec) -> KeySource:
    del name, spec
    raise AssertionError("no store is connected to here")


def state_of(drains: Drains | None) -> State:
    inventory = Inventory()
    metadata = (gen.put("metadata.resourceVersion", "1"), gen.put("metadata.creationTimestamp", gen.text(gen.NOW)))
    inventory.upsert(gen.binding(*metadata))
    clock = SystemClock()
    stores = Stores(
        never,
        clock,
        Random(1),
        on_change=lambda _: None,
        on_store=lambda _: None,
        on_rebuilt=lambda _: None,
        on_lag=lambda _: None,
    )
    return State(inventory, stores, lambda: True, drains, clock)


def calls(state: State) -> tuple[Any, ...]:
    (row,) = state.bindings()
    return _fields(row)


def _fields(row: BindingRow) -> tuple[Any, ...]:
    oldest = None if row.oldest_call is None else round(row.oldest_call)
    ended = (row.calls_completed, row.calls_forced, row.calls_aborted)
    return (row.draining_calls, row.draining_pods_unknown, oldest, *ended)


NOTHING = (None,) * 6


async def test_a_draining_pod_s_calls_become_series_and_go_with_it() -> None:
    agent = Contract(active=3, oldestCallSeconds=60, state="refusing")
    async with stage() as on, agent.pod("a") as serving, agent.pod("b", GONE) as draining:
        state = state_of(on.drains)
        on.follow(serving)
        await until(lambda: on.calls(serving) == 3)
        assert calls(state) == NOTHING
        on.follow(serving, draining)
        assert calls(state) == (None, 1, None, 0, 0, 0)
        await until(lambda: on.calls(draining) == 3)
        assert calls(state) == (3, 0, 60, 0, 0, 0)
        on.follow(serving)
        on.drains.finish(FREJUN, draining.uid)
        assert calls(state) == (None, None, None, 0, 3, 0)
        on.drains.forget_all(FREJUN)
        assert calls(state) == NOTHING


def test_without_the_asking_there_are_no_series() -> None:
    assert calls(state_of(None)) == NOTHING
