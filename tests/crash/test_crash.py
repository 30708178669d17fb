"""Killed before and after each of its writes, and started anew, the operator comes to the same end as unharmed.

The writes are listed at a proxy, in tenants that nobody disturbs; each of them is then the last (or the first lost) one
of a tenant of its own. A kill point that is not reached fails the test: a list of writes that is not true any more
proves nothing.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash.endstate import end_state
from tests.crash.kills import Kills, Point
from tests.crash.scenarios import SCENARIOS, Scenario, install_fussy_nodes
from tests.faults.proxy import Proxy
from tests.reconcilers.harness import Operator, errors, install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab import Lab
    from tests.reconcilers.world import World

# The longest scenario takes five minutes on a quiet machine: three tries at a point, each with tenants of its own.
pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane, pytest.mark.timeout(1200)]

HELD = 13  # of the operator's 16 workers: the others go on working for tenants that are not at their point yet
BATCH = 24  # tenants at a time
TRIES = 3  # for a point: of two bindings at once, which status is written in between is a matter of milliseconds
_numbers = itertools.count(1)


class Bench:
    """The operator behind a proxy that knows kill points, and tenants to kill it under."""

    def __init__(self, lab: Lab, operator: Operator, kills: Kills) -> None:
        self.lab = lab
        self.operator = operator
        self.kills = kills
        self.pool = ThreadPoolExecutor(6)

    def tenants(self, scenario: Scenario, count: int) -> list[World]:
        """Make tenants, ready for what is to happen."""

        def make(number: int) -> World:
            world = scenario.make(self.lab, self.operator, number)
            scenario.prepare(world)
            return world

        return self.each(make, [next(_numbers) for _ in range(count)])

    def each(self, work: Callable[[Any], Any], on: Sequence[Any]) -> list[Any]:
        """Do something to several at a time."""
        return list(self.pool.map(work, on))

    def reference(self, scenario: Scenario) -> tuple[dict[str, Any], list[str]]:
        """Let two tenants come to their end undisturbed; give that end and the writes that both saw."""
        worlds = self.tenants(scenario, 2)
        for world in worlds:
            self.kills.watch(world.namespace)
        self.each(scenario.act, worlds)
        ends = self.each(lambda world: ended(scenario, world), worlds)
        if scenario.told:
            event = f"event {scenario.told}"
            for world in worlds:
                world.wait(event, lambda world=world: event in self.kills.recorded[world.namespace])  # type: ignore[misc]
        first, second = (self.kills.recorded[world.namespace] for world in worlds)
        assert ends[0] == ends[1], "two undisturbed runs end differently: what differs must not be compared"
        self.kills.forget()
        self.each(lambda world: world.close(), worlds)
        common = [name for name in first if name in second and not _is_chance(name, scenario)]
        return ends[0], [*common, *scenario.also]

    def kill(self, scenario: Scenario, worlds: Sequence[World], points: Sequence[Point]) -> dict[Point, list[str]]:
        """Bring each tenant to its kill point, kill, and start anew.

        Returns:
            The points that their tenants did not come by, with what those wrote instead.
        """
        for world, point in zip(worlds, points, strict=True):
            self.kills.watch(world.namespace, point)
        self.each(scenario.act, worlds)
        end = time.monotonic() + 30
        missed = {
            point: self.kills.recorded[world.namespace]
            for world, point in zip(worlds, points, strict=True)
            if not point.reached.wait(max(0.0, end - time.monotonic()))
        }
        self.operator.kill()
        self.kills.forget()
        self.operator.start()
        return missed


def _is_chance(name: str, scenario: Scenario) -> bool:
    """Whether a write is made only when two bindings happen to write at one instant, or a store's turn has come."""
    turn = name.startswith("voicekeystores") and not scenario.store
    return "Conflict" in name or turn or any(part in name for part in scenario.chance)


def ended(scenario: Scenario, world: World) -> dict[str, Any]:
    """Wait for a tenant's end; give its state, which keeps the laws of a status, once two looks at it agree."""
    world.wait(f"{scenario} came to its end", lambda: scenario.done(world), seconds=45)
    # A store's status waits for the burst of its bindings to pass.
    world.wait("the store is told of", lambda: world.store_object().get("status", {}).get("observedGeneration", -1) > 0)
    state: dict[str, Any] = world.wait("steady", lambda: _steady(world, scenario), seconds=15)
    world.check()
    return state


def _steady(world: World, scenario: Scenario) -> dict[str, Any] | None:
    before = end_state(world, scenario.chance)
    world.wait("a moment", iter((False, False, True)).__next__, pause=0.3)
    after = end_state(world, scenario.chance)
    return after if before == after else None


def batches(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Split kill points so that no batch holds more writes than the operator has workers to spare."""
    batch: list[Point] = []
    for point in points:
        held = sum(not one.write.startswith("event") for one in batch)
        if held >= HELD or len(batch) >= BATCH:
            yield batch
            batch = []
        batch.append(point)
    yield batch


@pytest.fixture(scope="module")
def bench(lab: Lab) -> Iterator[Bench]:
    """Start the operator behind the proxy."""
    install(lab)
    install_fussy_nodes(lab)
    with Proxy(lab.api_url, lab.ca_file) as api:
        kills = Kills()
        api.add(kills, "(?!GET)")
        operator = Operator(lab, "crashing", kubeconfig=api.kubeconfig(lab, "crashing"), log_level="INFO").start()
        made = Bench(lab, operator, kills)
        yield made
        made.pool.shutdown()
        operator.kill()
        assert not errors(operator)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_killed_at_each_write_it_comes_to_the_same_end(bench: Bench, scenario: Scenario) -> None:
    wanted, writes = bench.reference(scenario)
    assert len(writes) >= 2, writes
    # Events are written in a line of their own, so that after one of them is before the next.
    points = [Point(write, after) for write in writes for after in (False, True) if not (after and "event" in write)]
    left: list[tuple[World, Point]] = []
    wrong: list[str] = []

    def look(pair: tuple[World, Point]) -> None:
        world, point = pair
        state = ended(scenario, world)
        if state != wanted:
            wrong.append(f"{point}:\n" + "\n".join(differences(wanted, state)))
        world.close()

    for _ in range(TRIES):
        missed: dict[Point, list[str]] = {}
        for batch in batches(points):
            worlds = bench.tenants(scenario, len(batch))
            bench.each(look, left)  # the batch before has had the time to come to its end
            missed |= bench.kill(scenario, worlds, batch)
            left = list(zip(worlds, batch, strict=True))
        points = list(missed)
        if not points:
            break
    bench.each(look, left)
    assert not points, "\n".join(f"never reached: {point}; writes were {missed[point]}" for point in points)
    assert not wrong, f"{len(wrong)} kill points end differently\n" + "\n".join(wrong)


def differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Say in lines what differs between two JSON values."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from differences(wanted.get(key), found.get(key), f"{where}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif wanted != found:
        yield f"  {where}: {wanted!r} became {found!r}"
