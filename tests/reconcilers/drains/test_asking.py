"""Who is asked, how often and how many at once: while it is followed, and only then."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests import gen
from tests.clients.agents.pods import PORT, answers, harmful_pod, own_host
from tests.reconcilers.drains.stage import (
    CLERK,
    FREJUN,
    GONE,
    RECEPTIONIST,
    TWILIO,
    Contract,
    pod_at,
    stage,
    until,
)
from voicekeys.model.errors import AgentUnreachable
from voicekeys.model.hook import Endpoint
from voicekeys.policies.drain import Counted
from voicekeys.policies.sights import Ended

if TYPE_CHECKING:
    from voicekeys.model.workload import Pod


async def test_a_pod_is_asked_while_it_is_followed_and_only_then() -> None:
    agent = Contract()
    async with stage() as on, agent.pod() as pod:
        await asyncio.sleep(0.1)
        assert agent.asked == []
        on.follow(pod)
        await until(lambda: on.calls(pod) == 0)
        agent.say(active=1)
        await until(lambda: on.calls(pod) == 1)
        on.follow()
        # What was heard of it stays until it is forgotten: somebody may still want to know how it ended.
        assert on.calls(pod) == 1
        await asyncio.sleep(0.5)  # what was under way has arrived
        asked = len(agent.asked)
        agent.say(active=2)
        await asyncio.sleep(0.3)
        assert len(agent.asked) == asked
        on.follow(pod)
        await until(lambda: on.calls(pod) == 2)
        on.drains.forget(RECEPTIONIST, FREJUN)
        assert on.drains.sight(pod.uid) is None


async def test_another_workload_s_pods_stay() -> None:
    one, other = Contract(), Contract(active=2)
    async with stage() as on, one.pod("a") as first, other.pod("b") as second:
        on.follow(first)
        on.follow(second, workload=CLERK)
        await until(lambda: on.calls(second) == 2 and on.calls(first) == 0)
        on.drains.forget(RECEPTIONIST, FREJUN)
        other.say(active=3)
        await until(lambda: on.calls(second) == 3)


async def test_it_waits_at_the_pod_for_a_change() -> None:
    agent = Contract()
    async with stage() as on, agent.pod() as pod:
        on.follow(pod)
        await until(lambda: len(agent.asked) == 2)
        await asyncio.sleep(0.5)
        assert agent.asked == ["/voicekeys/v1/calls?wait=0", "/voicekeys/v1/calls?wait=20&since=1"]


async def test_a_pod_without_an_address_is_asked_when_it_has_one() -> None:
    agent = Contract()
    async with stage() as on, agent.pod() as pod:
        early = pod_at(Endpoint(pod.name, "", PORT))
        on.follow(early)
        await asyncio.sleep(0.05)
        assert on.calls(pod) is None
        on.follow(pod)
        await until(lambda: on.calls(pod) == 0)
        agent.say(active=2)
        await until(lambda: on.calls(pod) == 2)


async def test_a_pod_without_a_hook_is_asked_at_the_binding_s_port() -> None:
    agent = Contract(active=1)
    async with stage() as on, agent.pod() as pod:
        bare = gen.pod("bare", gen.put("status.podIP", pod.ip))
        on.follow(bare)
        await asyncio.sleep(0.05)
        assert agent.asked == []
        with pytest.raises(AgentUnreachable, match="no drain hook"):
            await on.drains.release(RECEPTIONIST, bare)
        on.drains.follow(RECEPTIONIST, FREJUN, [bare], PORT)
        await until(lambda: on.calls(bare) == 1)


async def test_a_pod_that_does_not_answer_is_asked_less_and_less() -> None:
    async with stage() as on:
        asked = 0

        async def hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            nonlocal asked
            await reader.readuntil(b"\r\n\r\n")
            asked += 1

        async with harmful_pod(hangs_up) as endpoint:
            pod = pod_at(endpoint, GONE)
            on.follow(pod)
            await until(lambda: on.fails(pod) == "DrainUnreachable")
            await asyncio.sleep(2.5)
            assert 2 <= asked <= 10
            assert on.drains.counted() == {FREJUN: Counted(None, None, 1)}
            assert on.wakes


async def test_it_is_heard_again_after_it_was_away() -> None:
    async with stage() as on:
        endpoint = Endpoint("receptionist-a", own_host(), PORT)
        pod = pod_at(endpoint)
        on.follow(pod)
        await until(lambda: on.fails(pod))
        server = await asyncio.start_server(Contract(active=4).serve, endpoint.ip, PORT)
        await until(lambda: on.calls(pod) == 4)
        assert on.fails(pod) is None
        server.close()


@pytest.mark.parametrize("restless", [False, True])
async def test_a_pod_that_never_waits_is_asked_with_pauses(restless: bool) -> None:  # noqa: FBT001
    """One that means harm, or an agent that does not know ``since``."""
    agent = Contract()
    agent.waits = False
    async with stage() as on, agent.pod() as pod:
        on.follow(pod)
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            if restless:
                agent.say(active=len(agent.asked))
            await asyncio.sleep(0.01)
        assert 2 < len(agent.asked) <= 40


async def test_a_pod_that_says_another_thing_all_the_time_wakes_rarely() -> None:
    agent = Contract()
    async with stage() as on, agent.pod() as pod:
        on.follow(pod)
        await until(lambda: on.wakes)
        for number in range(1, 120):
            agent.say(active=number)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0)
        gaps = [after[0] - before[0] for before, after in zip(on.wakes, on.wakes[1:], strict=False)]
        assert gaps
        assert min(gaps) > 4.5


async def test_that_none_is_live_any_more_wakes_soon() -> None:
    agent = Contract(active=1)
    async with stage() as on, agent.pod() as pod:
        on.follow(pod)
        await until(lambda: on.wakes)
        on.wakes.clear()
        began = time.monotonic()
        agent.say(active=0)
        await until(lambda: on.wakes)
        assert time.monotonic() - began < 4.0


async def test_another_pod_that_got_the_address_is_not_believed() -> None:
    agent = Contract(active=2, state="refusing")
    async with stage() as on, agent.pod("a", GONE) as pod:
        on.follow(pod)
        await until(lambda: on.calls(pod) == 2)
        agent.say(active=0, state="serving", instance="i2")
        await until(lambda: on.fails(pod) == "AnotherAnswers")
        assert on.calls(pod) is None
        await asyncio.sleep(1.0)
        assert len(agent.asked) < 12


async def test_what_is_not_the_contract_is_an_unknown_number() -> None:
    async with stage() as on, harmful_pod(answers(b'{"active": 0}')) as endpoint:
        pod = pod_at(endpoint)
        on.follow(pod)
        await until(lambda: on.fails(pod) == "ContractBroken")
        assert on.calls(pod) is None


async def test_counters_are_there_before_they_count() -> None:
    """A counter that is 1 when it is first scraped raises no alert: its increase is not seen."""
    agent = Contract()
    async with stage() as on, agent.pod("a", GONE) as pod:
        assert on.drains.ended(FREJUN) is None
        on.follow(pod)
        assert on.drains.ended(FREJUN) == Ended(0, 0, 0)


async def test_more_pods_than_may_be_waited_for_take_turns() -> None:
    """No more at once than agreed; each is asked again and again; a workload of two is not behind one of forty."""
    agent = Contract(active=1)
    async with stage(waits=4) as on, AsyncExitStack() as stack:
        many: list[Pod] = [await stack.enter_async_context(agent.pod(f"r-{n}")) for n in range(40)]
        few: list[Pod] = [await stack.enter_async_context(agent.pod(f"c-{n}")) for n in range(2)]
        on.follow(*many)
        on.follow(*few, workload=CLERK, binding=TWILIO)
        await until(lambda: all(on.calls(pod) == 1 for pod in (*many, *few)))
        assert agent.most <= 4
        assert not any("since" in path for path in agent.asked)
        began = time.monotonic()
        agent.say(active=2)
        await until(lambda: all(on.calls(pod) == 2 for pod in (*many, *few)))
        assert time.monotonic() - began < 8
        # Fewer now: they are waited for again.
        on.follow(*many[:2])
        await until(lambda: any("since" in path for path in agent.asked))


async def test_a_reconcile_s_own_question_does_not_wait_for_the_waits() -> None:
    agent = Contract(active=1)
    async with stage(waits=1) as on, agent.pod() as pod:
        on.follow(pod)
        await until(lambda: len(agent.asked) == 2)
        began = time.monotonic()
        assert (await on.drains.look(RECEPTIONIST, [pod]))[pod.uid].calls == 1
        assert time.monotonic() - began < 5


async def test_a_fault_of_ours_is_begun_anew_by_the_next_look() -> None:
    agent = Contract(active=1)
    async with stage() as on, agent.pod() as pod:

        class Odd(Exception):
            pass

        good = on.agents.calls

        async def odd(*_: object) -> None:
            raise Odd

        on.agents.calls = odd  # type: ignore[method-assign, assignment]
        on.follow(pod)
        await asyncio.sleep(0.1)
        on.agents.calls = good  # type: ignore[method-assign]
        on.follow(pod)
        await until(lambda: on.calls(pod) == 1)
