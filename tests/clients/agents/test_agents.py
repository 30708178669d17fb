"""The client against the project's own library: each call of the contract, from another process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.clients.agents.pods import PORT, agent_pod, client, own_host
from voicekeys.model.calls import DrainState
from voicekeys.model.errors import AgentRefused, AgentUnreachable
from voicekeys.model.hook import Endpoint, Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.clients.agents.pods import AgentPod
    from voicekeys.clients.agents import AgentsClient

WRONG = Token("another-token")


@pytest.fixture
async def agents() -> AsyncIterator[AgentsClient]:
    made = client()
    yield made
    await made.close()


@pytest.fixture
def pod() -> Iterator[AgentPod]:
    with agent_pod() as made:
        yield made


async def test_a_pod_tells_its_calls(agents: AgentsClient, pod: AgentPod) -> None:
    pod.do("begin", "begin")
    report = await agents.calls(pod.endpoint)
    assert (report.active, report.complete, report.state) == (2, True, DrainState.SERVING)
    assert report.oldest_seconds is not None
    assert report.tally is not None
    assert report.tally.started == 2
    assert report.checks_token


async def test_it_is_told_of_a_change_at_once(agents: AgentsClient, pod: AgentPod) -> None:
    pod.do("begin")
    report = await agents.calls(pod.endpoint)
    began = time.monotonic()
    waiting = asyncio.create_task(agents.calls(pod.endpoint, report.revision, 20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    pod.do("end")
    later = await waiting
    assert time.monotonic() - began < 10
    assert (later.active, later.none_live) == (0, True)
    assert later.revision != report.revision


async def test_without_a_change_it_waits_as_long_as_asked(agents: AgentsClient, pod: AgentPod) -> None:
    report = await agents.calls(pod.endpoint)
    began = time.monotonic()
    assert (await agents.calls(pod.endpoint, report.revision, 0.5)).revision == report.revision
    assert time.monotonic() - began >= 0.5


async def test_a_release_says_how_many_calls_it_forces(agents: AgentsClient, pod: AgentPod) -> None:
    pod.do("begin", "begin", "drain")
    while (await agents.calls(pod.endpoint)).state is not DrainState.REFUSING:
        await asyncio.sleep(0.02)
    assert await agents.release(pod.endpoint) == 2


async def test_a_pod_that_does_not_drain_is_not_released(agents: AgentsClient, pod: AgentPod) -> None:
    with pytest.raises(AgentRefused) as refused:
        await agents.release(pod.endpoint)
    assert refused.value.reason == "NotDraining"


async def test_another_token_releases_nothing(agents: AgentsClient, pod: AgentPod) -> None:
    with pytest.raises(AgentRefused) as refused:
        await agents.release(pod.endpoint._replace(token=WRONG))
    assert refused.value.reason == "TokenRefused"
    assert "another-token" not in repr(refused.value)


async def test_a_probe_starts_no_drain(agents: AgentsClient, pod: AgentPod) -> None:
    probe = await agents.probe(pod.endpoint)
    assert (probe.checks_token, probe.takes_token) == (True, True)
    assert (await agents.calls(pod.endpoint)).state is DrainState.SERVING


async def test_a_probe_finds_an_agent_without_a_token() -> None:
    agents = client()
    with agent_pod(token="") as pod:
        probe = await agents.probe(pod.endpoint)
        assert (probe.checks_token, probe.takes_token) == (False, True)
        assert (await agents.calls(pod.endpoint)).state is DrainState.SERVING
        assert not probe.report.checks_token
    await agents.close()


@pytest.mark.parametrize("token", [WRONG, None])
async def test_a_probe_finds_a_hook_whose_token_is_not_the_agent_s(pod: AgentPod, token: Token | None) -> None:
    agents = client()
    probe = await agents.probe(pod.endpoint._replace(token=token))
    assert (probe.checks_token, probe.takes_token) == (True, False)
    await agents.close()


async def test_a_probe_of_a_draining_pod_changes_nothing(agents: AgentsClient, pod: AgentPod) -> None:
    pod.do("begin", "drain")
    while (await agents.calls(pod.endpoint)).state is not DrainState.REFUSING:
        await asyncio.sleep(0.02)
    probe = await agents.probe(pod.endpoint)
    assert (probe.checks_token, probe.takes_token) == (True, True)
    assert (await agents.calls(pod.endpoint)).state is DrainState.REFUSING


async def test_a_probe_leaves_a_cordoned_pod_cordoned() -> None:
    """Also where its agent takes any token: it is cordoned again, not uncordoned."""
    agents = client()
    with agent_pod(token="") as pod:
        await agents._ask(pod.endpoint, "POST", "cordon", None)
        assert (await agents.probe(pod.endpoint)).report.cordoned
        assert (await agents.calls(pod.endpoint)).cordoned
    await agents.close()


async def test_a_pod_that_ends_hangs_up_on_who_waits(agents: AgentsClient, pod: AgentPod) -> None:
    pod.do("begin")
    report = await agents.calls(pod.endpoint)
    waiting = asyncio.create_task(agents.calls(pod.endpoint, report.revision, 20))
    await asyncio.sleep(0.2)
    pod.program.process.kill()
    with pytest.raises(AgentUnreachable) as gone:
        await waiting
    assert gone.value.hung_up


async def test_a_closed_port(agents: AgentsClient) -> None:
    with pytest.raises(AgentUnreachable) as refused:
        await agents.calls(Endpoint("receptionist-a", own_host(), PORT))
    assert refused.value.reason == "HookPortClosed"
    assert not refused.value.hung_up
    assert refused.value.message == f"pod receptionist-a refuses connections to port {PORT}"


async def test_a_closed_client_asks_nobody(pod: AgentPod) -> None:
    agents = client()
    await agents.calls(pod.endpoint)
    await agents.close()
    with pytest.raises(AgentUnreachable):
        await agents.calls(pod.endpoint)


async def test_a_request_in_flight_ends_with_the_client(pod: AgentPod) -> None:
    agents = client()
    report = await agents.calls(pod.endpoint)
    waiting = asyncio.create_task(agents.calls(pod.endpoint, report.revision, 20))
    await asyncio.sleep(0.2)
    await agents.close()
    with pytest.raises(AgentUnreachable):
        await asyncio.wait_for(waiting, 10)


async def test_a_cancelled_wait_ends(agents: AgentsClient, pod: AgentPod) -> None:
    report = await agents.calls(pod.endpoint)
    waiting = asyncio.create_task(agents.calls(pod.endpoint, report.revision, 20))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
