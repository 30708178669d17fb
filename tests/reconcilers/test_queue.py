"""The work queue: what client-go's promises, and what is wanted months ahead."""

from __future__ import annotations

import asyncio

import pytest

from voicekeys.model.identity import Name
from voicekeys.reconcilers import queue as module
from voicekeys.reconcilers.queue import WorkQueue

A, B, C = Name("voice", "a"), Name("voice", "b"), Name("voice", "c")


async def next_of(queue: WorkQueue, seconds: float = 1.0) -> Name:
    return await asyncio.wait_for(queue.get(), seconds)


async def is_quiet(queue: WorkQueue, seconds: float = 0.05) -> bool:
    try:
        await asyncio.wait_for(queue.get(), seconds)
    except TimeoutError:
        return True
    return False


async def test_a_key_waits_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(A)
    assert len(queue) == 1
    assert await next_of(queue) == A
    queue.done(A)
    assert await is_quiet(queue)


async def test_an_urgent_key_goes_first_also_when_it_waited_already() -> None:
    queue = WorkQueue()
    for key in (A, B):
        queue.add(key)
    queue.add(B, urgent=True)
    assert await next_of(queue) == B
    assert await next_of(queue) == A


async def test_a_key_asked_for_while_it_is_worked_on_comes_again_and_not_to_two_workers() -> None:
    queue = WorkQueue()
    queue.add(A)
    await next_of(queue)
    queue.add(A)
    assert await is_quiet(queue)
    queue.done(A)
    assert await next_of(queue) == A


async def test_the_earliest_time_stands() -> None:
    queue = WorkQueue()
    queue.add_after(A, 0.02)
    queue.add_after(A, 30)
    assert await next_of(queue) == A
    queue.done(A)
    queue.add_after(A, 30)
    queue.add_after(A, 0.02)
    assert await next_of(queue) == A
    queue.close()


async def test_a_key_that_is_no_more_does_not_come_back() -> None:
    queue = WorkQueue()
    queue.add_after(A, 0.02)
    queue.forget(A)
    assert await is_quiet(queue)


@pytest.mark.parametrize("forgotten", [False, True])
async def test_what_is_wanted_long_after_comes_in_its_time(monkeypatch: pytest.MonkeyPatch, *, forgotten: bool) -> None:
    monkeypatch.setattr(module, "FAR_SECONDS", 0.1)
    queue = WorkQueue()
    loop = asyncio.get_running_loop()
    began = loop.time()
    queue.add_after(A, 0.25)
    queue.add_after(B, 0.35)
    if forgotten:
        queue.forget(A)
    else:
        assert await next_of(queue) == A
        assert loop.time() - began >= 0.24
    assert await next_of(queue) == B
    assert loop.time() - began >= 0.34
    queue.close()


async def test_a_deferred_key_waits_for_all_others_and_is_not_lost() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert await next_of(queue) == A
    assert not queue.defer(A), "nothing else waits: go on"
    queue.add(B)
    assert queue.defer(A)
    queue.done(A)
    assert await next_of(queue) == B
    assert not queue.defer(B), "what was deferred itself is nothing to wait for"
    assert await next_of(queue) == A


async def test_a_deferred_key_that_is_asked_for_goes_into_the_faster_line_and_comes_once() -> None:
    queue = WorkQueue()
    for key in (A, B, C):
        queue.add(key)
    assert await next_of(queue) == A
    assert queue.defer(A)
    queue.done(A)
    queue.add(A, urgent=True)
    assert [await next_of(queue) for _ in range(3)] == [A, B, C]
    for key in (A, B, C):
        queue.done(key)
    assert await is_quiet(queue)


async def test_a_deferred_key_has_its_turn_in_the_longest_rush() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(B)
    assert await next_of(queue) == A
    assert queue.defer(A)
    queue.done(A)
    for turn in range(2 * module.FAIRNESS):
        key = await next_of(queue)
        if key == A:
            assert turn
            return
        queue.done(key)
        queue.add(key)
    pytest.fail("it never came")
