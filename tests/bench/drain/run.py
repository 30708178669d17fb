"""The run: rotations of all arms in turns under one load, and one JSON object of what came of it."""

from __future__ import annotations

import os
import secrets
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

SETUP_SECONDS = 150
ROUND_SECONDS = 110
"""Beside warming up and the longest call, on two quiet cores."""
Say = Callable[[str], None]


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
    """One run in a world that stands."""

    def __init__(self, world: World, load: LoadProcess, plan: Plan, say: Say) -> None:
        self.world = world
        self.load = load
        self.plan = plan
        self.say = say
        self.arms = arms(plan.longest_call, secrets.token_urlsafe(24))
        self.rotations: list[Rotation] = []
        self.results: dict[str, Any] = {}

    def measure(self) -> dict[str, Any]:
        """Rotate the arms in turns, then drain for a long call, and give the results."""
        begun, load_average = time.time(), os.getloadavg()[0]
        for number in range(1, self.plan.rotations + 1):
            for arm in self.arms:
                self._rotate(arm, number)
        if self.plan.long_call:
            ours = self.arms[0]
            self.results["long_drain"] = long_drain(self.world, self.load, ours, self.plan.long_call, self.say)
        if self.plan.rotations or self.plan.long_call:
            self.say("waiting for the last calls …")
            self.results |= self.load.stop()
        self._count()
        self.results |= {
            "seconds": round(time.time() - begun),
            "machine": {
                "cpus": os.cpu_count(),
                "load_average_before_and_after": [round(load_average, 1), round(os.getloadavg()[0], 1)],
            },
        }
        return self.results

    def _rotate(self, arm: Arm, number: int) -> None:
        self.load.place_on(arm.app)
        time.sleep(self.plan.warm_up)
        rotation = rotate(self.world, arm, self.plan.longest)
        self.rotations.append(rotation)
        calls = [call for call in self._calls(arm) if call.was_live(rotation.began, rotation.ended)]
        dropped = sum(call.outcome is Outcome.DROPPED for call in calls)
        load = os.getloadavg()[0]
        self.say(
            f"rotation {number}/{self.plan.rotations} {arm.name}: {rotation.seconds:.1f} s, {len(calls)} calls ended "
            f"so far that were live in it, {dropped} dropped (load average {load:.1f})"
        )

    def _calls(self, arm: Arm) -> list[Call]:
        calls, _ = read(self.load.settings.book)
        return [call for call in calls if call.arm == arm.app and not call.long]

    def _count(self) -> None:
        """The numbers of each arm, once all calls have ended."""
        checks = self.world.provider.counts()
        _, pods = read(self.load.settings.book)
        for arm in self.arms if self.plan.rotations else ():
            calls, own = self._calls(arm), [each for each in self.rotations if each.arm == arm.name]
            names = {call.call for call in calls}
            heard = [each for each in self.world.journal.all(arm.name, "ended") if each.details["call"] in names]
            told = checks.get(arm.name, {"checks": 0, "refused": 0, "calls": {}})
            self.results.setdefault("arms", {})[arm.name] = {
                **results.of_rotations(own),
                **results.of_calls(calls, own),
                "key_checks": told["checks"],
                "auth_failures_on_live_calls": told["refused"],
                "calls_with_auth_failures": len(told["calls"]),
                **results.of_audio(calls, heard),
                **results.of_pods([each for each in pods if each.arm == arm.app], own, self.plan.replicas),
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
            settings = _load_settings(world, plan, host, name)
            with LoadProcess(settings) as load:
                run = Run(world, load, plan, say)
                say(f"making {len(run.arms)} arms of {plan.replicas} agents")
                world.make_arms(run.arms, plan.longest_call)
                measured = run.measure()
            nodes.processes.check()
            nodes.lab.processes.check()
            return {"benchmark": "drain", **asdict(plan), **measured}


def _load_settings(world: World, plan: Plan, host: str, folder: str) -> Settings:
    lab = world.lab
    # sipp takes the port after next as well.
    media = (lab.ports.take(), lab.ports.take())
    rates = (plan.rate, plan.shortest, plan.longest)
    return Settings(lab.api_url, str(lab.ca_file), lab.admin_token, NAMESPACE, host, folder, *rates, media)
