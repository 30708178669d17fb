"""One leader at a time: a leader that was killed is followed in time, one that was stopped writes no more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.leaders import LOST, holder, leads, start
from tests.faults.proxy import Proxy
from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.reconcilers.harness import install
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from tests.lab import Lab

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane]

FAILOVER_SECONDS = 20


def _writes(proxy: Proxy, since: int) -> list[str]:
    return [str(one) for one in proxy.writes(since=since) if one.status != 0]


def test_killed_and_stopped_leaders_are_followed_and_write_no_more(lab: Lab) -> None:
    """The first is killed, the second takes over; the second is stopped in its tracks, the third takes over."""
    install(lab)
    with Proxy(lab.api_url, lab.ca_file) as one, Proxy(lab.api_url, lab.ca_file) as other:
        _play(lab, [one, other])


def _play(lab: Lab, proxies: list[Proxy]) -> None:
    first = start(lab, proxies[0], "failover", "first")
    eventually(lambda: leads(first), "the first leads", 10)
    second = start(lab, proxies[1], "failover", "second")
    world = World(lab, first)
    world.put(api_key="first-value-0001-failover")
    world.deploy(replicas=1, wait=False)
    world.bind(agents=[objects.agent()])
    world.ready(version=1)
    assert not leads(second)
    assert second.get("/readyz")[0] == 200, "a standby is ready"
    assert {one for one in _writes(proxies[1], 0) if "/leases" not in one} == set(), "a standby wrote"

    notified = (world.store_name, f"{world.namespace}/key")
    at = int(time.time())
    assert first.notify(*notified, at=at)[0] == 202

    world.put(api_key="second-value-0002-failover")
    first.kill()
    killed = time.monotonic()
    world.operator = second
    eventually(lambda: leads(second), "the second leads", FAILOVER_SECONDS + 10)
    took = time.monotonic() - killed
    assert took < FAILOVER_SECONDS, f"taking over took {took:.1f} s"
    assert second.notify(*notified, at=at)[0] == 409, "what the killed one took is taken again"
    world.idle(version=2)
    print(f"failover after a kill: {took:.1f} s to lead, {time.monotonic() - killed:.1f} s to the new key everywhere")

    third = start(lab, proxies[0], "failover", "third")
    lab.processes.signal(second.name, "STOP")
    stopped = time.monotonic()
    since = proxies[1].mark()
    eventually(lambda: leads(third), "the third leads", FAILOVER_SECONDS + 10)
    assert time.monotonic() - stopped < FAILOVER_SECONDS
    assert holder(lab, "failover")["leaseTransitions"] == 2
    world.operator = third
    world.change(api_key="third-value-0003-failover")
    lab.processes.signal(second.name, "CONT")
    eventually(lambda: not second.running, "the stopped one has ended", 10)
    assert lab.processes.code(second.name) == LOST
    assert _writes(proxies[1], since) == [], "the old leader wrote after another had taken over"
    world.idle(version=3)
    assert len(world.replica_sets()) == 3
    assert third.stop() == 0
    assert not holder(lab, "failover").get("holderIdentity"), "an orderly end gives the Lease back"
    world.close()
