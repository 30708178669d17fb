"""What a leader does while it cannot renew its Lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.actions import answer, cut_after, cut_before, garbage, slow
from tests.faults.leaders import LOST, holder, leads, start
from tests.faults.proxy import Proxy
from tests.lab.processes import eventually
from tests.reconcilers.harness import install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane]


@pytest.fixture
def proxy(lab: Lab) -> Iterator[Proxy]:
    """Make a proxy before the API server."""
    install(lab)
    with Proxy(lab.api_url, lab.ca_file) as made:
        yield made


def _renewed(lab: Lab, lease: str, before: str) -> None:
    eventually(lambda: holder(lab, lease)["renewTime"] != before, "the Lease is renewed", 8)


FAULTS = {
    "500": answer(500),
    "429": answer(429, retry_after=1),
    "409": answer(409),
    "cut before": cut_before(),
    "cut after": cut_after(),
    "5 s late": slow(5),
    "garbage": garbage(),
}


def test_faults_of_the_lease_shorter_than_its_deadline_change_nothing(lab: Lab, proxy: Proxy) -> None:
    operator = start(lab, proxy, "shaky", "shaky")
    eventually(lambda: leads(operator), "it leads", 10)
    before = holder(lab, "shaky")
    for name, fault in FAULTS.items():
        with proxy.fault(fault, "", "/leases/shaky", times=1) as rule:
            assert rule.hit.wait(6), f"{name}: the Lease was not renewed"
        renewed = holder(lab, "shaky").get("renewTime")
        _renewed(lab, "shaky", str(renewed))
        assert operator.running, name
        assert leads(operator), name
    after = holder(lab, "shaky")
    assert (after["holderIdentity"], after["leaseTransitions"]) == (
        before["holderIdentity"],
        before["leaseTransitions"],
    )
    # Longer than the deadline: another may lead by then, so this one must be gone.
    began = time.monotonic()
    with proxy.fault(answer(500), "", "/leases/shaky"):
        eventually(lambda: not operator.running, "it has ended", 15)
    assert lab.processes.code(operator.name) == LOST
    assert 5 < time.monotonic() - began < 13
