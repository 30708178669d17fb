"""The work queue: what client-go's promises, and what is wanted months ahead."""

from __future__ import annotations

import asyncio

import pytest

from voicekeys.model.identity import Name
from voicekeys.reconcilers import queue as module
from voicekeys.reconcilers.queue import WorkQueue

A, B = Name("voice", "a"), Name("voice", "b")


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
