"""Two replicas: one leads, the other stands by, is ready, and does nothing; what each asks for is in the audit log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.deploy.conftest import own_pods
from tests.lab.processes import eventually
from tests.reconcilers.harness import HOME, Operator
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.audit import Audit, Request
    from tests.lab import Lab

LEADER = "voicekeys.dev/leader"
ACCOUNT = f"{HOME}/voicekeys-operator"
FAILOVER_SECONDS = 20
HANDOVER_SECONDS = 6
STOP_SECONDS = 4  # kopf by itself would wait five for tasks of ours

pytestmark = pytest.mark.simulated_nodes


class Pair(NamedTuple):
    """The leader and its standby, each with a pod and a token of its own."""

    leader: Operator
    standby: Operator
    world: World
    mark: int


def replica(lab: Lab, pod: str) -> Operator:
    """Return an operator that takes part in the election, as the pod of that name."""
    file = lab.dir / f"{pod}.kubeconfig"
    lab.kubeconfig_for(ACCOUNT).rename(file)  # a new token each time, by which the audit log tells the two apart
    return Operator(lab, pod, kubeconfig=file, leader_election=True, pod_name=pod)


def labelled(lab: Lab) -> list[str]:
    """Return the pods that /notify would reach."""
    found = lab.api("GET", f"/api/v1/namespaces/{HOME}/pods?labelSelector={LEADER}%3Dtrue")["items"]
    return [each["metadata"]["name"] for each in found]


def leads(operator: Operator) -> bool:
    """Tell whether an operator took the lead since its last start."""
    lines = [line.get("event") for line in operator.logs()]
    return "leading" in lines[len(lines) - lines[::-1].index("started") :]


@pytest.fixture(scope="module")
def pair(cluster: Lab, audit: Audit) -> Iterator[Pair]:
    """One leads, the other has started after it."""
    first, second = own_pods(cluster)[:2]
    mark = audit.mark()
    leader = replica(cluster, first).start()
    eventually(lambda: leads(leader), "the first to lead", seconds=20)
    standby = replica(cluster, second).start()
    world = World(cluster, leader)
    world.put()
    world.bind()
    world.ready(version=1)
    yield Pair(leader, standby, world, mark)
    for operator in (leader, standby):
        if operator.running:
            operator.stop()
    world.close()


def of_standby(audit: Audit, pair: Pair) -> list[Request]:
    """Return the requests of the standby: those whose token is not the leader's."""
    requests = audit.since(pair.mark, lambda each: each.user.endswith(":voicekeys-operator"))
    leading = {each.credential for each in requests if each.verb == "watch"}
    assert len(leading) == 1
    return [each for each in requests if each.credential not in leading]


def test_the_standby_is_ready_and_alive(pair: Pair) -> None:
    assert pair.standby.get("/readyz")[0] == 200
    assert pair.standby.get("/healthz")[0] == 200
    assert not leads(pair.standby)


def test_the_standby_does_not_start_kopf_and_asks_for_the_lease_alone(pair: Pair, audit: Audit) -> None:
    eventually(lambda: len(of_standby(audit, pair)) > 1, "the standby asks for the Lease", seconds=10)

    asked = {(each.verb, each.resource) for each in of_standby(audit, pair)}

    # Taking the leader's label off its own pod is the one thing that it does beside, once, at its start.
    assert asked == {("get", "leases"), ("patch", "pods")}
    assert [line for line in pair.standby.logs() if "kopf" in str(line)] == []


def test_a_notification_to_the_standby_is_sent_back(pair: Pair) -> None:
    code, text = pair.standby.notify(pair.world.store_name, f"{pair.world.namespace}/key")

    assert code == 503
    assert "not the leader" in text
    assert pair.leader.notify(pair.world.store_name, f"{pair.world.namespace}/key")[0] == 202


def test_only_the_leaders_pod_is_labelled(pair: Pair, cluster: Lab) -> None:
    assert labelled(cluster) == [pair.leader.env["VOICEKEYS_POD_NAME"]]


def test_a_leader_that_is_told_to_stop_hands_over(pair: Pair, cluster: Lab) -> None:
    """SIGTERM gives the Lease back, so that nobody waits for it to run out; the label moves with it."""
    started = time.monotonic()
    assert pair.leader.stop() == 0
    assert time.monotonic() - started < STOP_SECONDS
    eventually(lambda: leads(pair.standby), "the standby leads", seconds=HANDOVER_SECONDS, pause=0.05)
    taken = time.monotonic() - started

    pair.world.operator = pair.standby
    version = pair.world.put()
    eventually(lambda: labelled(cluster) == [pair.standby.env["VOICEKEYS_POD_NAME"]], "the label moved", seconds=5)
    eventually(lambda: pair.standby.metric("voicekeys_binding_ready"), "the new leader knows the binding", seconds=10)
    pair.world.notify()
    pair.world.ready(version=version)
    assert taken < HANDOVER_SECONDS


def test_a_killed_leader_is_followed_and_its_label_taken_off(pair: Pair, cluster: Lab) -> None:
    """The killed one could not take its label off: the new leader does. Back again in the same pod, it stands by."""
    pair.leader.start()
    dead, alive = pair.standby, pair.leader
    started = time.monotonic()
    dead.kill()
    eventually(lambda: leads(alive), "the other leads", seconds=FAILOVER_SECONDS, pause=0.1)
    eventually(lambda: labelled(cluster) == [alive.env["VOICEKEYS_POD_NAME"]], "the label moved", seconds=5)
    assert time.monotonic() - started < FAILOVER_SECONDS

    dead.start()
    assert dead.notify("any", "path")[0] == 503
    assert labelled(cluster) == [alive.env["VOICEKEYS_POD_NAME"]]


def test_a_leader_restarted_in_its_pod_before_anyone_follows_takes_its_own_label_off(pair: Pair, cluster: Lab) -> None:
    """The container starts again while its former self still holds the Lease: a standby, and not to be notified."""
    leader = pair.leader
    pair.standby.stop()
    leader.kill()
    assert labelled(cluster) == [leader.env["VOICEKEYS_POD_NAME"]]

    leader.start()

    eventually(lambda: labelled(cluster) == [], "the label is off", seconds=5, pause=0.05)
    assert leader.notify("any", "path")[0] == 503
    assert not leads(leader)
