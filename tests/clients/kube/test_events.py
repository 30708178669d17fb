"""Events that people see with kubectl, and that never get in anyone's way."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.kube.faulty import FaultServer, Reply, status_of
from voicekeys.clients.kube import events as module
from voicekeys.clients.kube.events import EventEmitter

if TYPE_CHECKING:
    from tests.lab import Lab
    from voicekeys.clients.kube.session import KubeSession

pytestmark = pytest.mark.asyncio


def regarding(namespace: str = "shop", name: str = "frejun", uid: str = "u1") -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "namespace": namespace, "name": name, "uid": uid}


async def drained(emitter: EventEmitter) -> None:
    async with asyncio.timeout(5):
        await emitter._idle.wait()


class Time:
    """A clock to set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_kubectl_describe_shows_them_counted(session: KubeSession, lab: Lab, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    uid = lab.api("POST", path, {"metadata": {"name": "thing"}})["metadata"]["uid"]
    emitter = EventEmitter(session, instance="pod-1")
    emitter.start()
    about = regarding(namespace, "thing", uid)
    emitter.emit(about, "Normal", "SecretSynced", "key version 7 is in the Secret")
    await drained(emitter)
    for _ in range(2):
        emitter.emit(about, "Normal", "SecretSynced", "key version 7 is in the Secret")
    emitter.emit(about, "Warning", "RolloutStuck", "é" * 2000)
    await emitter.close()
    assert (emitter.dropped, emitter.failed) == (0, 0)
    shown = lab.kubectl("describe", "configmap", "thing", "-n", namespace)
    line = next(line for line in shown.splitlines() if "SecretSynced" in line)
    assert "x3" in line
    assert "voicekeys" in line
    assert "key version 7 is in the Secret" in line
    assert "RolloutStuck" in shown


async def test_a_cluster_scoped_object_has_its_events_in_default(session: KubeSession, lab: Lab) -> None:
    emitter = EventEmitter(session)
    emitter.start()
    emitter.emit({"kind": "VoiceKeyStore", "name": "vault", "uid": "cluster-1"}, "Warning", "Sealed", "unseal it")
    await emitter.close()
    assert emitter.failed == 0
    assert "unseal it" in lab.kubectl("get", "events", "-n", "default")


async def test_repeats_become_one_patch(faulty: FaultServer, shaky: KubeSession) -> None:
    emitter = EventEmitter(shaky)
    emitter.emit(regarding(), "Normal", "A", "one")
    emitter.start()
    await drained(emitter)
    for _ in range(4):
        emitter.emit(regarding(), "Normal", "A", "one")
    emitter.emit(regarding(), "Warning", "A", "one")
    await emitter.close()
    assert [request.method for request in faulty.requests] == ["POST", "PATCH", "POST"]
    assert json.loads(faulty.requests[1].body)["series"]["count"] == 5
    assert faulty.requests[1].target.startswith("/apis/events.k8s.io/v1/namespaces/shop/events/frejun.")


async def test_after_ten_quiet_minutes_it_is_news_again(faulty: FaultServer, shaky: KubeSession) -> None:
    clock = Time()
    emitter = EventEmitter(shaky, monotonic=clock)
    emitter.start()
    emitter.emit(regarding(), "Normal", "A", "one")
    await drained(emitter)
    clock.now += module.AGGREGATE_SECONDS
    emitter.emit(regarding(), "Normal", "A", "one")
    await emitter.close()
    assert [request.method for request in faulty.requests] == ["POST", "POST"]
    assert len(emitter._known) == 1


async def test_an_event_that_expired_at_the_server_is_made_again(faulty: FaultServer, shaky: KubeSession) -> None:
    emitter = EventEmitter(shaky)
    emitter.start()
    emitter.emit(regarding(), "Normal", "A", "one")
    await drained(emitter)
    faulty.script(Reply(404, body=status_of(404, "NotFound", name="x")), Reply(201))
    emitter.emit(regarding(), "Normal", "A", "one")
    await emitter.close()
    assert [request.method for request in faulty.requests] == ["POST", "PATCH", "POST"]
    assert json.loads(faulty.requests[2].body)["series"]["count"] == 2
    assert emitter.failed == 0


async def test_one_object_cannot_flood(faulty: FaultServer, shaky: KubeSession) -> None:
    clock = Time()
    emitter = EventEmitter(shaky, monotonic=clock)
    for n in range(100):
        emitter.emit(regarding(), "Normal", "A", f"message {n}")
    assert emitter.dropped == 100 - module.BURST
    emitter.emit(regarding(uid="u2"), "Normal", "A", "another object is not its victim")
    assert emitter.dropped == 100 - module.BURST
    clock.now += module.REFILL_SECONDS
    emitter.emit(regarding(), "Normal", "A", "again")
    emitter.emit(regarding(), "Normal", "A", "and again")
    assert emitter.dropped == 100 - module.BURST + 1
    emitter.start()
    await emitter.close()
    assert len(faulty.requests) == module.BURST + 2


async def test_a_full_queue_drops_the_oldest_and_counts(faulty: FaultServer, shaky: KubeSession) -> None:
    emitter = EventEmitter(shaky)
    for n in range(module.QUEUE + 10):
        emitter.emit(regarding(uid=f"u{n}"), "Normal", "A", f"message {n}")
    assert emitter.dropped == 10
    emitter.start()
    while not faulty.requests:
        await asyncio.sleep(0.01)
    assert json.loads(faulty.requests[0].body)["note"] == "message 10"
    await emitter.close()


@pytest.mark.parametrize("fault", [Reply(403), Reply(409), Reply(500), Reply(body=b"garbage"), Reply(422)])
async def test_a_refused_event_is_counted_and_forgotten(fault: Reply, faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(fault, Reply(201))
    emitter = EventEmitter(shaky)
    emitter.start()
    emitter.emit(regarding(), "Normal", "A", "one")
    emitter.emit(regarding(), "Normal", "B", "two")
    await emitter.close()
    assert emitter.failed == 1
    assert json.loads(faulty.requests[-1].body)["reason"] == "B"


async def test_a_server_that_is_away_for_a_moment_costs_no_event(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(503), Reply(cut=True), Reply(201))
    emitter = EventEmitter(shaky, retry_seconds=0.05)
    emitter.start()
    emitter.emit(regarding(), "Normal", "A", "one")
    await emitter.close()
    assert emitter.failed == 0
    assert len(faulty.requests) == 3


async def test_close_waits_two_seconds_at_most(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(delay=30))
    emitter = EventEmitter(shaky)
    emitter.start()
    emitter.emit(regarding(), "Normal", "A", "one")
    started = time.monotonic()
    await emitter.close()
    assert 1.9 <= time.monotonic() - started < 2.5
    await emitter.close()


@pytest.mark.parametrize(
    ("about", "kind", "reason", "message"),
    [
        ({}, "Normal", "A", "x"),
        ({"name": "n" * 300, "uid": ""}, "Normal", "A" * 300, "x"),
        ({"name": "a", "uid": 7}, "Weird", "", "\ud800"),
    ],
)
async def test_emit_never_raises(about: Any, kind: str, reason: str, message: str, shaky: KubeSession) -> None:
    EventEmitter(shaky).emit(about, kind, reason, message)


async def test_long_words_fit_the_api(session: KubeSession, namespace: str) -> None:
    emitter = EventEmitter(session, instance="p" * 300)
    emitter.start()
    emitter.emit(regarding(namespace, "n" * 253), "Normal", "R" * 300, "€" * 1000)
    await emitter.close()
    assert emitter.failed == 0
