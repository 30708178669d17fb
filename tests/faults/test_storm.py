"""While a request fails, agents keep what they have; once it does not, everything comes to its end by itself.

All cases run side by side, each with its own binding: see `storm`. Each is then a test of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.proxy import Proxy
from tests.faults.storm import IN_STREAM, WINDOW, Case, Storm, api_cases, vault_cases
from tests.reconcilers.harness import Operator, errors, install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane]

# Faults that let something through: the request was done, or is done late.
LETS_THROUGH = {"cut after", "5 s late", IN_STREAM}
# Requests without which the new key does not get into the Secret, and without which no pod restarts.
BEFORE_SECRET = {"apply Secret", "write status", "read"}
BEFORE_RESTART = {*BEFORE_SECRET, "get workload", "list pods", "list quotas", "patch template"}


@pytest.fixture(scope="module")
def storm(lab: Lab) -> Iterator[Storm]:
    """Let all faults happen once."""
    install(lab)
    with Proxy(lab.api_url, lab.ca_file) as api, Proxy(lab.vault_addr) as vault:
        operator = Operator(lab, "stormy", kubeconfig=api.kubeconfig(lab, "stormy"), log_level="INFO").start()
        made = Storm(lab, operator, api, vault)
        made.prepare()
        made.blow()
        made.calm()
        yield made
        made.close()
        operator.kill()


@pytest.mark.parametrize("name", [str(case) for case in api_cases() + vault_cases()])
def test_agents_keep_what_they_have_and_the_end_is_reached(storm: Storm, name: str) -> None:
    case = storm.cases[name]
    hit = case.rule.hits > 0
    assert hit, "the fault never met its request"
    if storm.changes(case):
        _kept(case)
    # No hot loop. A try is three requests, six where a kept connection was cut; what changes meanwhile asks for a try.
    most = (2 if case.request == "watch pods" else 6) * WINDOW
    assert case.requests <= most, f"{case.requests} requests in {WINDOW:g} s"
    version = 2 if storm.changes(case) else 1
    raw = case.world.idle(case.name, version, seconds=60)
    case.world.check(case.name)
    assert case.world.data(case.name) == {"api_key": case.value(version).encode()}
    assert case.replica_sets() == version
    assert [one["outcome"] for one in raw["status"].get("history", [])] == ["Completed"] * (version - 1)


def _kept(case: Case) -> None:
    """Hold what was seen as the faults ended against what was before them."""
    before, during = case.before, case.during
    values = [{"api_key": case.value(version).encode()} for version in (1, 2)]
    assert during["data"] in values, "the Secret holds neither the old nor the new key"
    assert during["pods"], "no pod is left"
    if case.fault in LETS_THROUGH:
        return
    if case.request in BEFORE_SECRET:
        assert during["data"] == values[0], "the Secret was written"
    if case.request in BEFORE_RESTART:
        assert (during["pods"], during["replicaSets"]) == (before["pods"], 1), "agents were restarted"
    if case.request == "read":
        assert during["ready"] == "True", "the last good key is in place: that is Ready"
        assert during["reachable"]["status"] == "False", during["reachable"]


def test_the_process_lives_through_all_of_it(storm: Storm) -> None:
    assert storm.operator.running
    assert set(storm.health) == {200}
    assert not errors(storm.operator)
