"""One leader at a time, on a real Lease and with an API server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.kube.faulty import FaultServer, Reply, status_of
from voicekeys.clients.kube.lease import Elector, LeaseTimes, candidacy
from voicekeys.model.errors import ApiError, ApiForbidden, ApiThrottled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab import Lab
    from voicekeys.clients.kube.session import KubeSession


QUICK = LeaseTimes(duration=2.0, deadline=1.0, retry=0.2)
SLOW = LeaseTimes(duration=6.0, deadline=4.0, retry=0.2)
POD = "pod-1_uid-1_"


def lease_of(lab: Lab, namespace: str) -> dict[str, Any]:
    spec: dict[str, Any] = lab.api("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/leader")["spec"]
    return spec


def candidate(session: KubeSession, namespace: str, identity: str, **options: Any) -> Elector:
    return Elector(session, namespace, "leader", identity, **{"times": QUICK, **options})


def kill(leader: Elector) -> None:
    """End a leader without a word."""
    assert leader._renewer is not None
    leader._renewer.cancel()


@contextlib.asynccontextmanager
async def led_by(leader: Elector) -> AsyncIterator[Elector]:
    """A leader, and its end."""
    async with asyncio.timeout(10):
        await leader.acquire()
    try:
        yield leader
    finally:
        await leader.release()


@pytest.mark.parametrize(
    "times", [(10, 10, 2), (15, 2, 2), (15, 10, 0), (15, 2.3, 2)], ids=["duration", "deadline", "retry", "jitter"]
)
async def test_times_that_make_two_leaders_are_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must fall"):
        LeaseTimes(*times)


async def test_the_first_one_makes_the_lease(session: KubeSession, lab: Lab, namespace: str) -> None:
    async with led_by(candidate(session, namespace, "a")) as leader:
        assert leader.is_leader
        assert (leader.holder, leader.transitions) == ("a", 0)
        first = lease_of(lab, namespace)
        assert (first["holderIdentity"], first["leaseDurationSeconds"]) == ("a", 2)
        await asyncio.sleep(1.5)
        later = lease_of(lab, namespace)
        assert later["renewTime"] > first["renewTime"]
        assert later["acquireTime"] == first["acquireTime"]
        assert leader.is_leader


async def test_a_clean_end_hands_over_at_once(session: KubeSession, lab: Lab, namespace: str) -> None:
    first, second = candidate(session, namespace, "a"), candidate(session, namespace, "b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(1.0)
    assert not waiting.done()
    await first.release()
    assert not first.is_leader
    started = time.monotonic()
    await asyncio.wait_for(waiting, 5)
    assert time.monotonic() - started < 1.0
    assert (second.holder, second.transitions) == ("b", 1)
    assert lease_of(lab, namespace)["leaseTransitions"] == 1
    await second.release()
    assert not lease_of(lab, namespace)["holderIdentity"]


async def test_a_killed_leader_is_replaced_after_the_duration_and_not_before(
    session: KubeSession, namespace: str
) -> None:
    first, second = candidate(session, namespace, "a"), candidate(session, namespace, "b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.5)
    kill(first)
    started = time.monotonic()
    await asyncio.wait_for(waiting, 10)
    waited = time.monotonic() - started
    assert QUICK.duration - 0.3 <= waited <= QUICK.duration + 2 * 0.24 + 0.5
    await second.release()


async def test_a_leader_restarted_in_its_container_leads_again_at_once(
    session: KubeSession, lab: Lab, namespace: str
) -> None:
    """Its former self has ended, or it would not run; another pod's process waits as ever."""
    first, again = (
        candidate(session, namespace, name, times=SLOW, predecessors=POD) for name in (f"{POD}a", f"{POD}b")
    )
    other = candidate(session, namespace, "pod-2_uid-2_c", times=SLOW, predecessors="pod-2_uid-2_")
    await first.acquire()
    has_led_since(lab, namespace, "2026-01-01T00:00:00.000000Z")
    waiting = asyncio.create_task(other.acquire())
    await asyncio.sleep(0.5)
    kill(first)
    async with asyncio.timeout(5), led_by(again):
        assert not waiting.done()
        assert lease_of(lab, namespace)["leaseTransitions"] == 1
    await asyncio.wait_for(waiting, 10)
    await other.release()


async def test_a_leader_that_did_not_last_leaves_the_lease_to_others(session: KubeSession, namespace: str) -> None:
    """Its container ends again and again: each time it would take the Lease before anybody else could."""
    first, again = (candidate(session, namespace, name, predecessors=POD) for name in (f"{POD}a", f"{POD}b"))
    await first.acquire()
    kill(first)
    waiting = asyncio.create_task(again.acquire())
    await asyncio.sleep(1.0)
    assert not waiting.done()
    await asyncio.wait_for(waiting, 10)
    await again.release()


async def test_two_processes_of_one_pod_never_both_lead(session: KubeSession, lab: Lab, namespace: str) -> None:
    """A runtime that lost sight of a container: the one that led takes nothing back, and ends."""
    first, again = (candidate(session, namespace, name, predecessors=POD) for name in (f"{POD}a", f"{POD}b"))
    await first.acquire()
    kill(first)
    has_led_since(lab, namespace, "2026-01-01T00:00:00.000000Z")
    first._renewer = asyncio.create_task(first._renew())
    first._renewer.add_done_callback(first._ended)
    async with led_by(again):
        await asyncio.wait_for(first.lost(), 2)
        assert not first.is_leader
        await asyncio.sleep(0.5)
        assert again.is_leader
        assert lease_of(lab, namespace)["leaseTransitions"] == 1


def has_led_since(lab: Lab, namespace: str, time: str) -> None:
    """Have the holder of the Lease be an old one."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/leader"
    lab.api("PATCH", path, {"spec": {"acquireTime": time}})


def test_who_is_the_first_process_of_a_container_knows_its_predecessors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one, by `kubectl exec`, runs beside a leader that lives, and must not take its Lease."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    identity, former = candidacy("pod-1", "uid-1")
    assert (former, identity.startswith(former)) == ("pod-1_uid-1_", True)
    assert candidacy("pod-1", "uid-1")[0] != identity
    assert candidacy("pod-1", "")[1] == ""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    identity, former = candidacy("pod-1", "uid-1")
    assert former == ""
    assert not identity.startswith("pod-1_uid-1_")


async def test_of_many_one_leads(session: KubeSession, lab: Lab, namespace: str) -> None:
    candidates = [candidate(session, namespace, str(n)) for n in range(5)]
    tasks = [asyncio.create_task(each.acquire()) for each in candidates]
    await asyncio.sleep(2.5)
    leaders = [each for each in candidates if each.is_leader]
    assert [each.identity for each in leaders] == [lease_of(lab, namespace)["holderIdentity"]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await leaders[0].release()


async def test_a_stolen_lease_is_lost(session: KubeSession, lab: Lab, namespace: str) -> None:
    leader = candidate(session, namespace, "a")
    await leader.acquire()
    now = "2026-01-01T00:00:00.000000Z"
    lab.api(
        "PATCH",
        f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/leader",
        {"spec": {"holderIdentity": "thief", "renewTime": now}},
    )
    await asyncio.wait_for(leader.lost(), 2)
    assert not leader.is_leader
    await leader.release()  # takes nothing from the thief
    assert lease_of(lab, namespace)["holderIdentity"] == "thief"


async def test_a_deleted_lease_is_made_again(session: KubeSession, lab: Lab, namespace: str) -> None:
    async with led_by(candidate(session, namespace, "a")) as leader:
        lab.api("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/leader")
        await asyncio.sleep(0.8)
        assert leader.is_leader
        assert lease_of(lab, namespace)["holderIdentity"] == "a"


async def test_a_record_with_wrong_clocks_is_still_respected(session: KubeSession, lab: Lab, namespace: str) -> None:
    spec = {"holderIdentity": "b", "leaseDurationSeconds": 2, "renewTime": "2001-01-01T00:00:00.000000Z"}
    lab.apply(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "leader", "namespace": namespace, "labels": {"kept": "yes"}},
            "spec": spec,
        }
    )
    started = time.monotonic()
    async with led_by(candidate(session, namespace, "a")):
        assert time.monotonic() - started >= 2
    found = lab.api("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/leader")
    assert found["metadata"]["labels"] == {"kept": "yes"}


# Against a server that misbehaves


def lease(holder: str = "a", version: str = "1") -> Reply:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 2, "leaseTransitions": 3}
    return Reply(body={"metadata": {"name": "leader", "resourceVersion": version}, "spec": spec})


MISSING = Reply(404, body=status_of(404, "NotFound", name="leader"))


@pytest.mark.parametrize(
    "fault",
    [
        Reply(500),
        Reply(cut=True),
        Reply(delay=30),
        Reply(429, headers={"Retry-After": "60"}),
        Reply(403),
        Reply(body=b"x"),
    ],
    ids=["500", "cut", "hang", "429", "403", "garbage"],
)
async def test_a_leader_that_cannot_renew_stops_within_the_deadline(
    fault: Reply, faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(MISSING, lease(), fault)
    leader = candidate(shaky, "x", "a")
    await leader.acquire()
    started = time.monotonic()
    await asyncio.wait_for(leader.lost(), 5)
    assert 0.7 <= time.monotonic() - started <= 1.0 + 0.24 + 0.3
    assert not leader.is_leader


async def test_one_failed_renewal_is_no_loss(faulty: FaultServer, shaky: KubeSession) -> None:
    errors: list[ApiError] = []
    faulty.script(MISSING, lease(), Reply(403), Reply(429, headers={"Retry-After": "9"}), lease())
    leader = candidate(shaky, "x", "a", on_error=errors.append)
    await leader.acquire()
    await asyncio.sleep(1.5)
    assert leader.is_leader
    assert [type(error) for error in errors] == [ApiForbidden, ApiThrottled]
    await leader.release()


async def test_release_gives_up_after_two_seconds(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(MISSING, lease(), Reply(delay=30))
    leader = candidate(shaky, "x", "a")
    await leader.acquire()
    started = time.monotonic()
    await leader.release()
    assert time.monotonic() - started < 2.5
    assert leader._lost.is_set()


async def test_release_takes_nothing_from_another(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(MISSING, lease(), lease("b"))
    leader = candidate(shaky, "x", "a")
    await leader.acquire()
    await leader.release()
    assert [request.method for request in faulty.requests] == ["GET", "POST", "GET"]


async def test_renewing_costs_one_write_and_counts_no_transition(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(MISSING, lease())
    leader = candidate(shaky, "x", "a")
    await leader.acquire()
    await asyncio.sleep(0.7)
    kill(leader)
    renewals = faulty.requests[2:]
    assert {request.method for request in renewals} == {"PUT"}
    assert json.loads(renewals[-1].body)["spec"]["leaseTransitions"] == 3
