"""Calls as agents write them: from threads, from any loop, cancelled, decorated, by hand."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from typing import TYPE_CHECKING

import pytest

from voicekeys.agent import Agent, Refused
from voicekeys.agent.drain import cordoned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def agent() -> Agent:
    """An agent that serves nothing: counting needs no server."""
    return Agent()


def cordon(agent: Agent) -> None:
    agent._ledger.decide(lambda drain: cordoned(drain, 0.0, wanted=True))


def completed(agent: Agent) -> int:
    return agent._ledger.report().tally.completed


def test_a_call_counts_from_with_to_its_end(agent: Agent) -> None:
    with agent.call("a"):
        assert agent.active() == 1
        with agent.call("a"):
            assert agent.active() == 2
    assert (agent.active(), completed(agent)) == (0, 2)


async def test_the_same_asynchronously(agent: Agent) -> None:
    async with agent.call("a") as call:
        assert agent.active() == 1
        assert call.loop is asyncio.get_running_loop()
    assert (agent.active(), completed(agent)) == (0, 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_call_that_fails_has_ended_too(agent: Agent, error: type[BaseException]) -> None:
    with pytest.raises(error), agent.call():
        raise error
    assert (agent.active(), completed(agent)) == (0, 1)


async def test_a_cancelled_call_ends_once(agent: Agent) -> None:
    started = asyncio.Event()

    async def talk() -> None:
        async with agent.call():
            started.set()
            await asyncio.sleep(60)

    for _ in range(10):
        started.clear()
        task = asyncio.create_task(talk())
        await started.wait()
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (agent.active(), completed(agent)) == (0, 10)


async def test_a_call_cancelled_before_it_began_never_began(agent: Agent) -> None:
    async def talk() -> None:
        async with agent.call():
            await asyncio.sleep(60)

    task = asyncio.create_task(talk())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert agent._ledger.report().tally.started == 0


async def test_calls_that_are_torn_down_at_random_moments_leave_nothing(agent: Agent) -> None:
    async def talk(pauses: int) -> None:
        async with agent.call(), agent.call():
            for _ in range(pauses):
                await asyncio.sleep(0)

    for turns in range(6):
        tasks = [asyncio.create_task(talk(pauses)) for pauses in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    tally = agent._ledger.report().tally
    assert agent.active() == 0
    assert tally.started == tally.completed > 0


def test_begin_and_end_by_hand(agent: Agent) -> None:
    call = agent.call("sip-1")
    call.end()  # before its beginning: nothing
    call.begin()
    assert agent.active() == 1
    call.end()
    call.end()
    assert (agent.active(), completed(agent)) == (0, 1)


def test_a_call_begins_once(agent: Agent) -> None:
    call = agent.call()
    with call:
        with pytest.raises(RuntimeError, match="begins once"):
            call.begin()
        assert agent.active() == 1
    with pytest.raises(RuntimeError, match="begins once"):
        call.begin()


def test_a_call_that_nobody_holds_any_more_is_still_live(agent: Agent) -> None:
    """Only its end is an end: it will show as leaked, not vanish."""
    agent.call().begin()
    gc.collect()
    assert agent.active() == 1


def test_a_refused_call_runs_no_code_and_can_be_tried_again(agent: Agent) -> None:
    cordon(agent)
    call = agent.call()
    with pytest.raises(Refused) as caught, call:
        pytest.fail("must not run")
    assert (caught.value.phase, caught.value.retry_after) == ("cordoned", 1)
    assert not agent.is_taking_calls()
    agent._ledger.decide(lambda drain: cordoned(drain, 0.0, wanted=False))
    assert agent.is_taking_calls()
    with call:
        assert agent.active() == 1


def test_refused_can_cross_a_process_boundary() -> None:
    again = pickle.loads(pickle.dumps(Refused("idle", 7)))
    assert (again.phase, again.retry_after) == ("idle", 7)


def test_a_decorated_function_is_a_call_each_time(agent: Agent) -> None:
    @agent.call("outer")
    def talk(depth: int) -> int:
        """Talk."""
        return agent.active() if depth == 0 else talk(depth - 1)

    assert [talk(0), talk(2)] == [1, 3]
    assert (talk.__name__, talk.__doc__) == ("talk", "Talk.")
    assert (agent.active(), completed(agent)) == (0, 4)


async def test_a_decorated_coroutine_function_stays_one(agent: Agent) -> None:
    @agent.call()
    async def talk() -> int:
        live = agent.active()
        await asyncio.sleep(0)
        return live

    assert asyncio.iscoroutinefunction(talk)
    assert agent.active() == 0
    assert list(await asyncio.gather(talk(), talk())) == [1, 2]
    assert agent.active() == 0


async def test_a_decorated_stream_counts_until_it_is_closed(agent: Agent) -> None:
    @agent.call()
    async def frames() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert [frame async for frame in frames()] == [1, 2]
    stream = frames()
    assert await anext(stream) == 1
    assert agent.active() == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert agent.active() == 0


def test_a_generator_function_is_no_call(agent: Agent) -> None:
    def frames() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="inside it"):
        agent.call()(frames)


async def test_a_decorated_call_is_refused_like_any_other(agent: Agent) -> None:
    @agent.call()
    async def talk() -> None:
        pytest.fail("must not run")

    cordon(agent)
    with pytest.raises(Refused):
        await talk()


def test_threads_and_loops_count_together(agent: Agent) -> None:
    def in_thread() -> None:
        for _ in range(200):
            with agent.call():
                pass

    async def many() -> None:
        async def one() -> None:
            for _ in range(50):
                async with agent.call():
                    await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(4)))

    threads = [threading.Thread(target=in_thread) for _ in range(3)]
    threads += [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (agent.active(), completed(agent)) == (0, 3 * 200 + 2 * 200)


def test_what_a_call_shows_of_itself(agent: Agent) -> None:
    call = agent.call("caller's number", key_version="7")
    assert repr(call) == "<Call not begun, key version 7>"
    with call:
        assert repr(call) == "<Call live, key version 7>"
