"""The work queue among namespaces: one that is slow takes the workers of nobody else, and alone it has them all."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.regressions import virtual
from voicekeys.api.names import BINDING_KIND, STORE_KIND
from voicekeys.model.errors import ApiUnreachable
from voicekeys.model.identity import Name
from voicekeys.reconcilers.engine import WORKERS, Engine
from voicekeys.reconcilers.queue import WorkQueue
from voicekeys.reconcilers.shares import SHARE, SLOW_FOR_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

HANG = 10.0  # seconds, the default timeout of an admission webhook


def names(namespace: str, number: int) -> list[Name]:
    return [Name(namespace, f"voice-{each}") for each in range(number)]


async def taken(queue: WorkQueue, most: int = 100) -> list[Name]:
    """Take what the queue gives without waiting."""
    found: list[Name] = []
    while len(found) < most:
        try:
            found.append(await asyncio.wait_for(queue.get(), 0.01))
        except TimeoutError:
            break
    return found


def queue_of(*keys: Name) -> WorkQueue:
    queue = WorkQueue()
    for key in keys:
        queue.add(key)
    return queue


async def test_a_namespace_has_its_share_while_another_waits_and_the_rest_afterwards() -> None:
    queue = queue_of(*names("a", 20), *names("b", 3))
    assert Counter(key.namespace for key in await taken(queue, SHARE + 3)) == {"a": SHARE, "b": 3}
    assert [key.namespace for key in await taken(queue, 5)] == ["a"] * 5


async def test_a_namespace_that_is_alone_has_every_worker() -> None:
    queue = queue_of(*names("a", WORKERS))
    assert await taken(queue) == names("a", WORKERS), "in their order"


async def test_two_in_a_rush_have_the_same() -> None:
    queue = queue_of(*names("a", 50), *names("b", 50))
    assert Counter(key.namespace for key in await taken(queue, WORKERS)) == {"a": WORKERS // 2, "b": WORKERS // 2}


async def test_an_order_is_kept_also_of_what_had_to_wait_for_its_share() -> None:
    queue = queue_of(*names("a", 10), *names("b", 1))
    first = await taken(queue, SHARE + 1)
    queue.add(Name("b", "another"))
    for key in first:
        queue.done(key)
    rest = [key for key in await taken(queue) if key.namespace == "a"]
    assert [*first[:SHARE], *rest] == names("a", 10)


async def test_a_store_waits_for_no_share() -> None:
    queue = queue_of(*(Name("", f"store-{each}") for each in range(9)), *names("a", 9))
    assert [key.namespace for key in await taken(queue, 9)] == [""] * 9


async def test_an_urgent_key_of_a_full_namespace_waits_for_its_share_and_then_goes_first() -> None:
    queue = queue_of(*names("a", 10), *names("b", 1))
    first = await taken(queue, SHARE + 1)
    queue.add(Name("b", "another"))
    queue.add(Name("a", "urgent"), urgent=True)
    assert await taken(queue, 1) == [Name("b", "another")]
    queue.done(first[0])
    assert await taken(queue, 1) == [Name("a", "urgent")]


def engine_of(queue: WorkQueue, work: Callable[[Name], Awaitable[datetime | None]]) -> Engine:
    return Engine(queue, {BINDING_KIND: work, STORE_KIND: work}, virtual.clock(), random.Random(1), lambda *_: None)


@pytest.mark.parametrize("number", [10, 50, 100, 500])
def test_nobody_waits_for_a_namespace_whose_webhook_hangs(number: int) -> None:
    async def main() -> None:
        queue, clock = WorkQueue(), virtual.clock()
        began: dict[Name, float] = {}
        waited: list[float] = []

        async def work(key: Name) -> None:
            if key.namespace == "slow":
                await asyncio.sleep(HANG)
                raise ApiUnreachable("WebhookTimeout", "it did not answer", status=500)
            await asyncio.sleep(0.02)
            waited.append(clock.time() - began.pop(key))

        running = asyncio.create_task(engine_of(queue, work).run())
        for each in range(600):
            if each == 60:
                for key in names("slow", number):
                    queue.add(key)
            key = Name("ok", f"voice-{each}")
            began[key] = clock.time()
            queue.add(key)
            await asyncio.sleep(1)
        running.cancel()
        assert len(waited) >= 599
        waited.sort()
        assert waited[int(0.95 * len(waited))] < 0.1
        assert waited[-1] <= HANG + 0.1, "only before it was known to be slow"
        queue.close()

    virtual.run(main())


def test_a_slow_namespace_that_is_alone_in_the_cluster_has_every_worker() -> None:
    async def main() -> None:
        queue, clock = queue_of(*names("slow", 160)), virtual.clock()
        ended: list[float] = []

        async def work(_: Name) -> None:
            await asyncio.sleep(HANG)
            ended.append(clock.time())

        began = clock.time()
        running = asyncio.create_task(engine_of(queue, work).run())
        while len(ended) < 160:
            await asyncio.sleep(1)
        assert ended[-1] - began < 10 * HANG + 1
        running.cancel()

    virtual.run(main())


def test_a_namespace_that_was_slow_is_trusted_again() -> None:
    async def main() -> None:
        queue = queue_of(*names("a", 1), *names("b", 1))
        for key in await taken(queue):
            await asyncio.sleep(HANG)
            queue.done(key)
        for key in names("a", 10):
            queue.add(key)
        held = await taken(queue)
        assert len(held) == SHARE
        for key in held:
            queue.done(key)
        await asyncio.sleep(SLOW_FOR_SECONDS + HANG)
        assert len(await taken(queue)) == 10 - SHARE

    virtual.run(main())


KEYS = st.builds(Name, st.sampled_from(["a", "b", "c", ""]), st.sampled_from([f"voice-{each}" for each in range(7)]))
ACTS = st.one_of(
    st.tuples(st.just("add"), KEYS),
    st.tuples(st.just("urgent"), KEYS),
    st.tuples(st.just("defer"), KEYS),
    st.tuples(st.just("done"), st.integers(0, 20)),
    st.tuples(st.just("pass"), st.floats(0, 5)),
)


class Crew:
    """Workers that hold on to each key until they are told to end it, and that check what they get."""

    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.wanted: set[Name] = set()
        self.ends: dict[Name, asyncio.Event] = {}

    async def work(self) -> None:
        while True:
            key = await self.queue.get()
            self.check(key)
            self.wanted.discard(key)
            self.ends[key] = asyncio.Event()
            await self.ends[key].wait()
            del self.ends[key]
            self.queue.done(key)

    def check(self, key: Name) -> None:
        assert key not in self.ends, "two workers have it"
        assert key in self.wanted, "nobody asked for it"
        full = Counter(one.namespace for one in self.ends if one.namespace)
        others = {one.namespace for one in self.wanted if one not in self.ends} - {key.namespace}
        assert full[key.namespace] < SHARE or all(full[one] >= SHARE for one in others), f"{others} wait"

    async def act(self, act: str, what: Any) -> None:
        if act == "done" and self.ends:
            list(self.ends.values())[what % len(self.ends)].set()
        elif act == "pass":
            await asyncio.sleep(what)
        elif act in {"add", "urgent"}:
            self.wanted.add(what)
            self.queue.add(what, urgent=act == "urgent")
        elif act == "defer" and self.queue.defer(what):
            self.wanted.add(what)
        if act != "add":
            await asyncio.sleep(0.001)

    async def finish(self) -> None:
        await asyncio.sleep(0.001)
        while self.wanted or self.ends:
            before = len(self.wanted) + len(self.ends)
            for end in self.ends.values():
                end.set()
            await asyncio.sleep(0.001)
            assert len(self.wanted) + len(self.ends) < before, "keys wait although workers are free"
        assert len(self.queue) == self.queue.working == 0


@given(st.lists(ACTS, max_size=80))
def test_no_key_is_lost_none_has_two_workers_and_nobody_waits_for_a_full_share(acts: list[tuple[str, Any]]) -> None:
    async def main() -> None:
        crew = Crew()
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(crew.work()) for _ in range(WORKERS)]
            for act, what in acts:
                await crew.act(act, what)
            await crew.finish()
            for worker in workers:
                worker.cancel()

    virtual.run(main())
