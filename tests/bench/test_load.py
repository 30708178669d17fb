"""The load against agents that are processes here, each with its own address: what it says of calls that were cut."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.bench.drain import sipp
from tests.bench.drain.follow import SERVICE_LABEL, Cluster
from tests.bench.drain.load import Load, Settings
from tests.bench.drain.provider import ProviderProcess
from tests.bench.drain.records import Book, Call, Outcome, read
from tests.bench.drain.world import Journal
from tests.lab.processes import Ports, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing()))
ROOT = Path(__file__).parents[2]
TOKEN = "a token of this test"
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
CALLS = {"rate": 8.0, "shortest": 2.0, "longest": 3.0}


class Agents:
    """Two agents of an arm with the drain library, as pods would have them."""

    def __init__(self, folder: Path, ports: Ports, journal: Journal, provider: ProviderProcess) -> None:
        host = f"127.{random.randrange(1, 255)}.{random.randrange(256)}."
        self.addresses = [f"{host}1", f"{host}2"]
        self.drains = {address: ports.take() for address in self.addresses}
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ARM": "arm",
            "LIBRARY": "on",
            "PROVIDER": provider.address,
            "WITNESS": journal.address,
            "PROVIDER_API_KEY": "valid",
            "VOICEKEYS_DRAIN_TOKEN": TOKEN,
        }
        self.processes = {
            address: subprocess.Popen(
                [sys.executable, "-m", "tests.bench.drain.agent"],
                env={
                    **env,
                    "POD_NAME": address,
                    "POD_UID": address,
                    "POD_IP": address,
                    "VOICEKEYS_DRAIN_PORT": str(self.drains[address]),
                },
            )
            for address in self.addresses
        }
        eventually(lambda: len(journal.all("arm", "started")) == len(self.addresses), "both agents started")
        self.folder = folder

    def ask(self, address: str, call: str) -> None:
        """Send a POST of the drain contract to an agent."""
        url = f"http://127.0.0.1:{self.drains[address]}/voicekeys/v1/{call}"
        request = urllib.request.Request(url, method="POST", headers={"X-Voicekeys-Token": TOKEN})
        urllib.request.urlopen(request, timeout=5).close()

    def close(self) -> None:
        """End both."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def ports() -> Iterator[Ports]:
    made = Ports()
    yield made
    made.close()


@pytest.fixture
def agents(tmp_path: Path, ports: Ports) -> Iterator[Agents]:
    with ExitStack() as stack:
        journal = stack.enter_context(Journal("127.0.0.1"))
        provider = stack.enter_context(ProviderProcess("127.0.0.1"))
        provider.add("valid")
        made = Agents(tmp_path, ports, journal, provider)
        stack.callback(made.close)
        yield made
        assert set(provider.counts()) == {"arm"}
        assert provider.counts()["arm"]["refused"] == 0


async def load_of(agents: Agents, ports: Ports, after: float, happening: str) -> list[Call]:
    """Place calls on both agents, let something happen to the first after some seconds, and return all calls."""
    first = agents.addresses[0]
    settings = Settings("", "", "", "", "127.0.0.1", str(agents.folder), **CALLS, media=(ports.take(), ports.take()))
    async with aiohttp.ClientSession() as unused:
        with settings.book.open("w") as file:
            cluster = Cluster(unused, "none", Book(file))
            endpoints = [{"addresses": [each], "conditions": {"ready": True}} for each in agents.addresses]
            piece = {"metadata": {"labels": {SERVICE_LABEL: "arm"}}, "endpoints": endpoints}
            cluster._slices.objects = {"piece": piece}
            load = Load(settings, cluster, Book(file))
            await load.obey({"arm": "arm"})
            await asyncio.sleep(after)
            if happening in SIGNALS:
                agents.processes[first].send_signal(SIGNALS[happening])
            else:
                await asyncio.to_thread(agents.ask, first, happening)
            await asyncio.sleep(3)
            told = await load.obey({"stop": True})
    calls, _ = read(settings.book)
    by_sipp = [call for call in calls if call.kind == "sip"]
    assert told["sipp"]["created"] == len(by_sipp)
    assert told["sipp"]["successful"] == sum(call.outcome is Outcome.COMPLETED for call in by_sipp)
    return calls


@pytest.mark.parametrize("happening", SIGNALS)
async def test_calls_of_a_dead_agent_are_dropped_and_new_ones_go_to_the_other(
    agents: Agents, ports: Ports, happening: str
) -> None:
    calls = await load_of(agents, ports, 3, happening)
    dropped = [call for call in calls if call.outcome is Outcome.DROPPED]
    assert {call.kind for call in dropped} == {"sip", "stream"}
    assert {call.pod for call in dropped} == {agents.addresses[0]}
    assert {call.outcome for call in calls if call.pod == agents.addresses[1]} == {Outcome.COMPLETED}
    assert {call.kind for call in calls if call.retries} == {"sip", "stream"}
    cut = [call for call in dropped if call.kind == "sip"]
    assert max(call.gap_ms for call in cut) > 500, "the silence after the kill was not heard"
    whole = [call for call in calls if call.outcome is Outcome.COMPLETED]
    assert not [call for call in whole if call.frames < 0.5 * 50 * (call.ended - call.began)]


async def test_an_agent_that_takes_no_calls_is_passed_over_and_cuts_none(agents: Agents, ports: Ports) -> None:
    calls = await load_of(agents, ports, 3, "cordon")
    assert {call.outcome for call in calls} == {Outcome.COMPLETED}
    assert {call.kind for call in calls if call.retries} == {"sip", "stream"}
    late = [call for call in calls if call.retries]
    assert {call.pod for call in late} == {agents.addresses[1]}
