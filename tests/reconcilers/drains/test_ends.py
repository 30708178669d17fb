"""Real agents, each in a process of its own, followed to their end: what became of their calls."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests import gen
from tests.agent.support import TOKEN
from tests.clients.agents.pods import agent_pod
from tests.reconcilers.drains.stage import FREJUN, GONE, RECEPTIONIST, TWILIO, pod_at, stage, until
from voicekeys.model.calls import DrainState
from voicekeys.model.errors import AgentRefused
from voicekeys.policies.ends import End
from voicekeys.policies.sights import Ended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.agents.pods import AgentPod
    from voicekeys.model.workload import Pod


def over(agent: AgentPod, exit_code: int) -> Pod:
    """The pod as its last object shows it: its container has ended just now, long before its deadline."""
    stop = {"terminated": {"exitCode": exit_code, "finishedAt": gen.text(datetime.now(UTC))}}
    status = [{"name": "agent", "restartCount": 0, "state": stop}]
    deadline = gen.terminating(datetime.now(UTC) + timedelta(seconds=600))
    return pod_at(agent.endpoint, deadline, gen.put("status.containerStatuses", status))


@pytest.fixture
def agent() -> Iterator[AgentPod]:
    with agent_pod() as made:
        yield made


async def test_calls_that_end_by_themselves(agent: AgentPod) -> None:
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do("begin", "begin", "begin")
        on.follow(pod)
        await until(lambda: on.calls(pod) == 3)
        agent.do("drain", "end", "end")
        await until(lambda: on.calls(pod) == 1)
        assert on.drains.counted()[FREJUN].calls == 1
        await asyncio.sleep(0.3)  # it waits at the pod by now
        agent.program.tell("end")
        agent.program.end()
        await until(lambda: on.fails(pod) in {"DrainUnreachable", "HookPortClosed"})
        sight = on.drains.sight(pod.uid)
        assert sight is not None
        assert (sight.is_over, on.calls(pod)) == (True, 0)
        assert on.drains.finish(FREJUN, pod.uid, over(agent, 0)) == End(3, 0, 0, 0)
        assert on.drains.ended(FREJUN) == Ended(3, 0, 0)
        assert FREJUN not in on.drains.counted()


async def test_calls_that_end_faster_than_one_can_ask(agent: AgentPod) -> None:
    """The process may be gone before its last word is heard: none of these is said to have been cut."""
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do(*["begin"] * 20, "drain")
        on.follow(pod)
        await until(lambda: (s := on.drains.sight(pod.uid)) and s.report and s.report.state is DrainState.REFUSING)
        for _ in range(20):
            agent.program.tell("end")
        agent.program.end()
        await until(lambda: on.fails(pod))
        assert on.drains.finish(FREJUN, pod.uid, over(agent, 0)) == End(20, 0, 0, 0)


async def test_the_last_call_s_end_wakes_at_once(agent: AgentPod) -> None:
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do("begin", "begin", "drain")
        on.follow(pod)
        await until(lambda: (s := on.drains.sight(pod.uid)) and s.report and s.report.state is DrainState.REFUSING)
        agent.do("end")
        await until(lambda: on.calls(pod) == 1)
        await asyncio.sleep(0.5)  # it waits at the pod by now
        on.wakes.clear()
        asked = time.monotonic()
        agent.program.tell("end")
        await until(lambda: on.wakes)
        assert on.wakes[0][1:] == (RECEPTIONIST, {FREJUN})
        assert on.wakes[0][0] - asked < 4.0


async def test_a_process_that_is_killed_cuts_its_calls(agent: AgentPod) -> None:
    """Whatever its exit code says: 137 is also that of an orderly end that came too late."""
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do("begin", "begin")
        on.follow(pod)
        await until(lambda: on.calls(pod) == 2)
        agent.program.process.kill()
        agent.program.end()
        last = over(agent, 137)
        await until(lambda: on.fails(pod))
        assert on.calls(pod) is None
        assert on.drains.finish(FREJUN, pod.uid, last) == End(0, 2, 0, 0)
        assert on.drains.ended(FREJUN) == Ended(0, 2, 0)


async def test_who_hangs_up_is_known_until_then(agent: AgentPod) -> None:
    """A pod whose calls did not change for long has said nothing new; that it waited with us counts."""
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do("begin")
        on.follow(pod)
        await until(lambda: on.calls(pod) == 1)
        before = on.drains.sight(pod.uid)
        assert before is not None
        assert before.confirmed is not None
        await asyncio.sleep(1.5)  # it has waited at the pod for that long
        agent.program.process.kill()
        await until(lambda: on.fails(pod))
        after = on.drains.sight(pod.uid)
        assert after is not None
        assert after.confirmed is not None
        assert after.confirmed > before.confirmed


async def test_a_pod_that_is_released(agent: AgentPod) -> None:
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do("begin", "begin")
        on.follow(pod)
        await until(lambda: on.calls(pod) == 2)
        with pytest.raises(AgentRefused):
            await on.drains.release(RECEPTIONIST, pod)
        agent.do("drain")
        await until(lambda: (s := on.drains.sight(pod.uid)) and s.report and s.report.state is DrainState.REFUSING)
        assert await on.drains.release(RECEPTIONIST, pod) == 2
        agent.program.end()
        await until(lambda: on.fails(pod))
        assert on.drains.finish(FREJUN, pod.uid, over(agent, 0)) == End(0, 2, 0, 0)


async def test_two_bindings_share_the_asking(agent: AgentPod) -> None:
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        on.follow(pod)
        on.follow(pod, binding=TWILIO)
        await until(lambda: on.calls(pod) == 0)
        on.drains.forget(RECEPTIONIST, FREJUN)
        agent.do("begin")
        await until(lambda: on.calls(pod) == 1)
        assert set(on.drains.counted()) == {TWILIO}
        # Whoever has forgotten it has no word on its end.
        assert on.drains.finish(FREJUN, pod.uid).doubt is None
        on.drains.forget_all(TWILIO)
        assert on.drains.sight(pod.uid) is None
        assert on.drains.ended(TWILIO) is None


async def test_the_pod_s_last_object_tells_when_it_ended(agent: AgentPod) -> None:
    """`follow` sees it ended: nobody asks any more, and the end is as the pod's status has it."""
    async with stage() as on:
        pod = pod_at(agent.endpoint, GONE)
        agent.do("begin")
        on.follow(pod)
        await until(lambda: on.calls(pod) == 1)
        agent.program.process.kill()
        agent.program.end()
        last = over(agent, 137)
        assert last.ended
        await until(lambda: on.fails(pod))
        on.follow(last)
        assert on.drains.finish(FREJUN, pod.uid).forced == 1
        assert on.drains.finish(FREJUN, pod.uid).doubt is None


async def test_a_look_asks_now(agent: AgentPod) -> None:
    async with stage() as on:
        agent.do("begin")
        pod = pod_at(agent.endpoint)
        unarmed = gen.pod("bare", gen.put("status.podIP", agent.endpoint.ip))
        sights = await on.drains.look(RECEPTIONIST, [pod, unarmed])
        assert sights[pod.uid].calls == 1
        assert sights[unarmed.uid].calls is None
        assert on.drains.sight(pod.uid) is None
        sights = await on.drains.look(RECEPTIONIST, [unarmed], agent.endpoint.port)
        assert sights[unarmed.uid].calls == 1
        agent.program.process.kill()
        agent.program.end()
        assert (await on.drains.look(RECEPTIONIST, [pod]))[pod.uid].calls is None


async def test_a_probe_of_several(agent: AgentPod) -> None:
    async with stage() as on:
        there = pod_at(agent.endpoint)
        other = pod_at(agent.endpoint._replace(pod="b"), token="another")
        gone = pod_at(agent.endpoint._replace(pod="c", port=1))
        probed = await on.drains.probe(RECEPTIONIST, [there, other, gone, gen.pod("bare")])
        found = {name: probe.takes_token for name, probe in probed.answers.items()}
        assert found == {there.name: True, "b": False}
        assert {name: error.reason for name, error in probed.failures.items()} == {"c": "HookPortClosed"}
        assert TOKEN not in repr(probed)
