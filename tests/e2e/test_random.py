"""Random events, all that can happen at once; in the end everything is as the last specs and Vault say.

A run prints its seed; `hatch run e2e --seed N` plays the same events in their order again (at the machine's own pace:
what event number n is, depends on the seed and on n alone), and `--seconds N` makes them last.
"""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.laws import Watcher
from tests.e2e.players import Tenant, Weather
from tests.faults.proxy import Proxy
from tests.reconcilers.harness import Operator, errors, install
from tests.reconcilers.world import condition_of, is_true

if TYPE_CHECKING:
    from tests.e2e.truth import Bound
    from tests.lab import Lab

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane]

SETTLE = 90  # seconds for everything to come to its end once it is calm


@pytest.mark.timeout(0)
def test_whatever_happens_the_end_is_what_specs_and_vault_say(lab: Lab, seed: int, seconds: float) -> None:
    print(f"\nseed {seed}, {seconds:g} s: repeat with --seed {seed} --seconds {seconds:g}")
    install(lab)
    random = Random(seed)
    with Proxy(lab.api_url, lab.ca_file) as api, Proxy(lab.vault_addr) as vault:
        file = api.kubeconfig(lab, f"random-{seed}")
        operator = Operator(lab, "random", kubeconfig=file, log_level="INFO", sweep_seconds=10).start()
        tenant = Tenant(lab, operator, vault, random)
        weather = Weather(lab, operator, api, vault, random)
        watcher = Watcher(tenant)
        watcher.start()
        story = play(tenant, weather, seed, seconds)
        weather.calm()
        tenant.settle()
        try:
            for bound in tenant.truth.bindings.values():
                settled(tenant, bound)
            templates(tenant, watcher)
            tenant.world.check()
            assert operator.running
            wrong = [line for line in errors(operator) if not _of_weather(line)]
            assert not wrong, wrong[:3]
        except AssertionError as error:
            told = "\n".join(story[-60:])
            raise AssertionError(f"seed {seed}: {error}\n--- laws\n{watcher.broken[:5]}\n--- story\n{told}") from error
        finally:
            watcher.stop()
        assert watcher.looks > seconds, "too few looks to say that the laws held"
        assert not watcher.broken, f"seed {seed}: {watcher.broken[:10]}"
        print(f"{len(story)} events, {watcher.looks} looks, {len(api.requests)} requests to the API server")
        tenant.world.close()
        operator.kill()


def _of_weather(line: dict[str, Any]) -> bool:
    """Whether an error in the log is about a fault of ours: kopf's watch cut, the key of /notify out of reach."""
    return str(line.get("logger", "")).startswith("kopf") or line.get("path") == "/notify"


def play(tenant: Tenant, weather: Weather, seed: int, seconds: float) -> list[str]:
    """Let things happen for so long; give the story."""
    story: list[str] = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        # A generator for each event: how many numbers one draws, which depends on the moment, moves no later one.
        random = tenant.random = weather.random = Random(f"{seed}/{len(story)}")
        deed = random.choices([tenant.act, weather.act], [4, 1])[0]
        story.append(f"{now:6.1f} s {deed()}")
        time.sleep(random.choice([0, 0.05, 0.2, 0.8]))
    return story


def settled(tenant: Tenant, bound: Bound) -> None:
    """Hold one binding against what its spec and Vault say."""
    key = tenant.truth.keys[bound.path]
    world = tenant.world
    if key.now is not None:
        value = key.now.encode()
        has = lambda: (world.data(bound.name) or {}).get("api_key") == value  # noqa: E731
        world.wait(f"Secret {bound.name} holds what Vault has at {bound.path}", has, seconds=SETTLE)
        world.idle(bound.name, len(key.versions), seconds=SETTLE)
        return
    # Vault has nothing usable: the last good key stays, and it is said.
    world.wait(f"{bound.name} says what is wrong", lambda: _complains(tenant, bound), seconds=SETTLE)
    data = world.data(bound.name)
    if data is not None:
        good = {one for path in tenant.truth.keys.values() for one in path.good}
        assert data["api_key"].decode() in good | bound.edited


def _complains(tenant: Tenant, bound: Bound) -> bool:
    raw = tenant.world.binding(bound.name)
    reachable = condition_of(raw, "SourceReachable")
    return is_true(raw, "Stalled") or (reachable is not None and reachable["status"] == "False")


def templates(tenant: Tenant, watcher: Watcher) -> None:
    """No workload had more templates than changes of content, bindings and its own template explain."""
    for name, workload in tenant.truth.workloads.items():
        had = len(watcher.templates.get(name, ()))
        assert had <= workload.causes, f"{name} had {had} templates for {workload.causes} causes"
