"""One leader at a time: what it does while it cannot renew its Lease, and who writes when it was killed or stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.actions import answer, cut_after, cut_before, garbage, slow
from tests.faults.proxy import Proxy
from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.reconcilers.harness import HOME, Operator, found, install
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane]

FAILOVER_SECONDS = 20
LOST = 3  # the exit code of a process that lost its Lease
LEASES = "/apis/coordination.k8s.io/v1"


@pytest.fixture
def proxies(lab: Lab) -> Iterator[list[Proxy]]:
    """Make one proxy for each of two operators."""
    install(lab)
    with Proxy(lab.api_url, lab.ca_file) as one, Proxy(lab.api_url, lab.ca_file) as other:
        yield [one, other]


def _operator(lab: Lab, proxy: Proxy, lease: str, name: str) -> Operator:
    file = proxy.kubeconfig(lab, f"{lease}-{name}")
    return Operator(lab, name, kubeconfig=file, leader_election=True, lease_name=lease, log_level="INFO")


def _holder(lab: Lab, lease: str) -> dict[str, Any]:
    raw = found(lambda: lab.api("GET", f"{LEASES}/namespaces/{HOME}/leases/{lease}"))
    spec: dict[str, Any] = (raw or {}).get("spec") or {}
    return spec


def _leads(operator: Operator) -> bool:
    return operator.metric("voicekeys_leader") == 1


def _writes(proxy: Proxy, since: int) -> list[str]:
    return [str(one) for one in proxy.writes(since=since) if one.status != 0]


def test_killed_and_stopped_leaders_are_followed_and_write_no_more(lab: Lab, proxies: list[Proxy]) -> None:
    """The first is killed, the second takes over; the second is stopped in its tracks, the third takes over."""
    first = _operator(lab, proxies[0], "failover", "first").start()
    eventually(lambda: _leads(first), "the first leads", 10)
    second = _operator(lab, proxies[1], "failover", "second").start()
    world = World(lab, first)
    world.put(api_key="first-value-0001-failover")
    world.deploy(replicas=1, wait=False)
    world.bind(agents=[objects.agent()])
    world.ready(version=1)
    assert not _leads(second)
    assert second.get("/readyz")[0] == 200, "a standby is ready"
    assert {one for one in _writes(proxies[1], 0) if "/leases" not in one} == set(), "a standby wrote"

    world.put(api_key="second-value-0002-failover")
    first.kill()
    killed = time.monotonic()
    world.operator = second
    eventually(lambda: _leads(second), "the second leads", FAILOVER_SECONDS + 10)
    took = time.monotonic() - killed
    assert took < FAILOVER_SECONDS, f"taking over took {took:.1f} s"
    world.idle(version=2)
    print(f"failover after a kill: {took:.1f} s to lead, {time.monotonic() - killed:.1f} s to the new key everywhere")

    third = _operator(lab, proxies[0], "failover", "third").start()
    lab.processes.signal(second.name, "STOP")
    stopped = time.monotonic()
    since = proxies[1].mark()
    eventually(lambda: _leads(third), "the third leads", FAILOVER_SECONDS + 10)
    assert time.monotonic() - stopped < FAILOVER_SECONDS
    assert _holder(lab, "failover")["leaseTransitions"] == 2
    world.operator = third
    world.change(api_key="third-value-0003-failover")
    lab.processes.signal(second.name, "CONT")
    eventually(lambda: not second.running, "the stopped one has ended", 10)
    assert lab.processes.code(second.name) == LOST
    assert _writes(proxies[1], since) == [], "the old leader wrote after another had taken over"
    world.idle(version=3)
    assert len(world.replica_sets()) == 3
    assert third.stop() == 0
    assert not _holder(lab, "failover").get("holderIdentity"), "an orderly end gives the Lease back"
    world.close()


def _renewed(lab: Lab, lease: str, before: str) -> None:
    eventually(lambda: _holder(lab, lease)["renewTime"] != before, "the Lease is renewed", 8)


FAULTS = {
    "500": answer(500),
    "429": answer(429, retry_after=1),
    "409": answer(409),
    "cut before": cut_before(),
    "cut after": cut_after(),
    "5 s late": slow(5),
    "garbage": garbage(),
}


def test_faults_of_the_lease_shorter_than_its_deadline_change_nothing(lab: Lab, proxies: list[Proxy]) -> None:
    operator = _operator(lab, proxies[0], "shaky", "shaky").start()
    eventually(lambda: _leads(operator), "it leads", 10)
    before = _holder(lab, "shaky")
    for name, fault in FAULTS.items():
        with proxies[0].fault(fault, "", "/leases/shaky", times=1) as rule:
            assert rule.hit.wait(6), f"{name}: the Lease was not renewed"
        renewed = _holder(lab, "shaky").get("renewTime")
        _renewed(lab, "shaky", str(renewed))
        assert operator.running, name
        assert _leads(operator), name
    after = _holder(lab, "shaky")
    assert (after["holderIdentity"], after["leaseTransitions"]) == (
        before["holderIdentity"],
        before["leaseTransitions"],
    )
    # Longer than the deadline: another may lead by then, so this one must be gone.
    began = time.monotonic()
    with proxies[0].fault(answer(500), "", "/leases/shaky"):
        eventually(lambda: not operator.running, "it has ended", 15)
    assert lab.processes.code(operator.name) == LOST
    assert 5 < time.monotonic() - began < 13
