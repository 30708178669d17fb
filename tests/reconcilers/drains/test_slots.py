"""Slots: never more than there are, none lost, the next one to whoever has fewest."""

from __future__ import annotations

import asyncio
import random

import pytest

from voicekeys.reconcilers.slots import FairSlots


async def hold(slots: FairSlots[str], owner: str, order: list[str], release: asyncio.Event) -> None:
    async with slots.slot(owner):
        order.append(owner)
        await release.wait()


async def test_whoever_has_fewest_gets_the_next() -> None:
    slots: FairSlots[str] = FairSlots(2)
    order: list[str] = []
    releases = [asyncio.Event() for _ in range(6)]
    tasks = []
    for owner, release in zip("aaaabb", releases, strict=True):
        tasks.append(asyncio.create_task(hold(slots, owner, order, release)))
        await asyncio.sleep(0)
    assert order == ["a", "a"]
    for release in releases:
        release.set()
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert order == ["a", "a", "b", "a", "a", "b"]
    assert slots.taken == 0


async def test_who_stops_waiting_takes_no_slot() -> None:
    slots: FairSlots[str] = FairSlots(1)
    order: list[str] = []
    release = asyncio.Event()
    first = asyncio.create_task(hold(slots, "a", order, release))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(hold(slots, owner, order, release)) for owner in "bbc"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[2].cancel()
    release.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert order == ["a", "b"]
    assert slots.taken == 0


async def test_who_is_cancelled_with_a_slot_just_given_gives_it_back() -> None:
    slots: FairSlots[str] = FairSlots(1)
    order: list[str] = []
    release = asyncio.Event()
    first = asyncio.create_task(hold(slots, "a", order, release))
    await asyncio.sleep(0)
    second = asyncio.create_task(hold(slots, "b", order, release))
    third = asyncio.create_task(hold(slots, "c", order, release))
    await asyncio.sleep(0)
    release.set()
    await first  # its slot has gone to the second, which has not run yet
    second.cancel()
    await asyncio.gather(second, third, return_exceptions=True)
    assert slots.taken == 0
    assert "c" in order


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_none_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    slots: FairSlots[str] = FairSlots(3)
    most = 0

    async def work(owner: str) -> None:
        nonlocal most
        async with slots.slot(owner):
            most = max(most, slots.taken)
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(work(chance.choice("abcd"))) for _ in range(60)]
    for _ in range(40):
        await asyncio.sleep(0)
        chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (slots.taken, most) == (0, 3)
    async with slots.slot("a"):
        assert slots.taken == 1
