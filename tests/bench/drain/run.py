"""The run: rotations of all arms in turns under one load, and one JSON object of what came of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.drain import results
from tests.bench.drain.arms import Arm, arms
from tests.bench.drain.load import LoadProcess, Settings
from tests.bench.drain.long import long_drain
from tests.bench.drain.provider import ProviderProcess
from tests.bench.drain.records import Call, Outcome, read
from tests.bench.drain.rotations import Rotation, rotate
from tests.bench.drain.world import NAMESPACE, Journal, World, agent_image, require
from tests.lab.nodes import RealNodes
from tests.lab.processes import LabError

SETUP_SECONDS = 90
ROUND_SECONDS = 60
"""Of one rotation of each arm, beside warming up and the longest call."""
Say = Callable[[str], None]
LoadMaker = Callable[[str], LoadProcess]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        rotations: of each arm; 0 leaves the comparison out.
        rate: calls placed in a second, half of them SIP, half of them streams.
        shortest, longest: seconds of a call, evenly spread; the longest outlive a pod's replacement.
        replicas: agents of each arm.
        warm_up: seconds of load on an arm before its key changes.
        long_call: minutes of a call in one drain of its own; 0 leaves it out.
    """

    rotations: int = 30
    rate: float = 3.0
    shortest: float = 2.0
    longest: float = 25.0
    replicas: int = 3
    warm_up: float = 12.0
    long_call: float = 0.0

    @property
    def longest_call(self) -> float:
        """Seconds that a pod must be able to wait for."""
        return max(self.longest, 60 * self.long_call)

    @property
    def expected_seconds(self) -> float:
        """How long it takes, roughly."""
        comparison = self.rotations * (ROUND_SECONDS + 3 * self.warm_up + self.longest)
        return SETUP_SECONDS + comparison + (60 * self.long_call + 60 if self.long_call else 0)


class Run:
    """One run in a world that stands.

    Args:
        world: with the arms in it.
        arms: ours first.
        load: makes the process that places calls; one for each part of the run.
        plan: what is measured.
        say: gets lines of progress.
    """

    def __init__(self, world: World, arms: tuple[Arm, ...], load: LoadMaker, plan: Plan, say: Say) -> None:
        self.world = world
        self.arms = arms
        self.plan = plan
        self.say = say
        self.rotations: list[Rotation] = []
        self.failures: list[str] = []
        self.book = Path()
        self._make_load = load

    def measure(self) -> dict[str, Any]:
        """Rotate the arms in turns, then drain for a long call, and give the results."""
        begun, load_average, before = time.time(), os.getloadavg()[0], _cpu_ticks()
        found: dict[str, Any] = {}
        if self.plan.rotations:
            found |= self._compare()
        if self.plan.long_call:
            with self._make_load("long") as load:
                found["long_drain"] = long_drain(self.world, load, self.arms[0], self.plan.long_call, self.say)
        seconds, (busy, idle) = time.time() - begun, _cpu_ticks()
        busy, idle = busy - before[0], idle - before[1]
        return found | {
            "seconds": round(seconds),
            "machine": {
                "cpus": os.cpu_count(),
                "load_average_before_and_after": [round(load_average, 1), round(os.getloadavg()[0], 1)],
                "cpu_busy_ratio": round(busy / (busy + idle), 2),
            },
        }

    def _compare(self) -> dict[str, Any]:
        with self._make_load("rotations") as load:
            self.book = load.settings.book
            for number in range(1, self.plan.rotations + 1):
                for arm in self.arms:
                    self._rotate(load, arm, number)
            self.say("waiting for the last calls …")
            own = load.stop()
        return {"arms": {arm.name: self._count(arm) for arm in self.arms}, "failures": self.failures, **own}

    def _rotate(self, load: LoadProcess, arm: Arm, number: int) -> None:
        load.place_on(arm.app)
        time.sleep(self.plan.warm_up)
        name = f"rotation {number}/{self.plan.rotations} {arm.name}"
        try:
            rotation = rotate(self.world, arm, self.plan.longest)
        except LabError as error:
            # It is reported, and the others are measured all the same.
            self.failures.append(f"{name}: {error}")
            self.say(f"{name}: FAILED: {error}")
            return
        self.rotations.append(rotation)
        calls = [call for call in self._calls(arm) if call.was_live(rotation.began, rotation.ended)]
        dropped = sum(call.outcome is Outcome.DROPPED for call in calls)
        self.say(
            f"{name}: {rotation.seconds:.1f} s; of the calls live in it {len(calls)} have ended, {dropped} dropped "
            f"(load average {os.getloadavg()[0]:.1f})"
        )

    def _calls(self, arm: Arm) -> list[Call]:
        return [call for call in read(self.book)[0] if call.arm == arm.app]

    def _count(self, arm: Arm) -> dict[str, Any]:
        """The numbers of an arm, once all calls have ended."""
        calls, own = self._calls(arm), [each for each in self.rotations if each.arm == arm.name]
        pods = [each for each in read(self.book)[1] if each.arm == arm.app]
        told = self.world.provider.counts().get(arm.name, {"checks": 0, "refused": 0, "calls": {}})
        return {
            **results.of_rotations(own),
            **results.of_calls(calls, own),
            "key_checks": told["checks"],
            "auth_failures_on_live_calls": told["refused"],
            "calls_with_auth_failures": len(told["calls"]),
            **results.of_audio(calls, self.world.journal.all(arm.name, "ended")),
            **results.of_pods(pods, own, self.plan.replicas),
            **results.of_drains(self.world.journal.all(arm.name, "sigterm")),
        }


def measure(plan: Plan, say: Say = print) -> dict[str, Any]:
    """Start nodes, operator and agents, measure, and give one JSON object. Raises LabError with what to install."""
    require()
    say(f"expected to take about {plan.expected_seconds / 60:.0f} min")
    with tempfile.TemporaryDirectory(prefix="voicekeys-bench-") as name, RealNodes.start(count=2, say=say) as nodes:
        folder = Path(name)
        host = nodes.network.address
        nodes.load(agent_image(folder, say))
        with ProviderProcess(host) as provider, Journal(host) as journal:
            world = World(nodes, provider, journal, plan.replicas)
            say("installing the operator")
            world.install_operator(folder, say)
            say(f"making three arms of {plan.replicas} agents each")
            all_arms = arms()
            world.make_arms(all_arms, plan.longest_call)
            measured = Run(world, all_arms, _load_maker(world, plan, folder), plan, say).measure()
            nodes.processes.check()
            nodes.lab.processes.check()
            version = nodes.lab.api("GET", "/version")["gitVersion"]
            return {"benchmark": "drain", **asdict(plan), "kubernetes": version, **measured}


def _load_maker(world: World, plan: Plan, folder: Path) -> LoadMaker:
    lab, host = world.lab, world.nodes.network.address

    def make(name: str) -> LoadProcess:
        own = folder / name
        own.mkdir()
        media = (lab.ports.take(), lab.ports.take())
        rates = (plan.rate, plan.shortest, plan.longest)
        cluster = (lab.api_url, str(lab.ca_file), lab.admin_token, NAMESPACE)
        return LoadProcess(Settings(*cluster, host, str(own), *rates, media))

    return make


def _cpu_ticks() -> tuple[int, int]:
    """Return the machine's busy and idle CPU time so far, in ticks; everything that runs here counts."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, idle
