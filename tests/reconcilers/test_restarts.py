"""The operator's own restarts: nothing is written, done twice, forgotten or restarted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.reconcilers import objects
from tests.reconcilers.harness import HOME, Operator
from tests.reconcilers.test_rollbacks import break_new_pods, mend
from tests.reconcilers.world import World, condition_of, is_true, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab
    from tests.reconcilers.together import StatusWatch

pytestmark = pytest.mark.simulated_nodes


@pytest.fixture
def tenant(cluster: Lab, operator: Operator, statuses: StatusWatch) -> Iterator[World]:
    """A tenant whose test has the operator to itself."""
    world = World(cluster, operator)
    world.statuses = statuses
    yield world
    world.check()
    world.close()


def versions(world: World) -> dict[str, str]:
    """The resourceVersion of all that the operator writes."""
    found = {"store": world.store_object()["metadata"]["resourceVersion"]}
    for raw in world.bindings():
        found[raw["metadata"]["name"]] = raw["metadata"]["resourceVersion"]
    for kind, name in (("Secret", "voice"), ("Deployment", "agent")):
        raw_object = world.get(kind, name)
        assert raw_object is not None
        found[kind] = raw_object["metadata"]["resourceVersion"]
    return found


def settled(world: World) -> dict[str, str]:
    """Wait until nothing is written any more, and return the versions."""
    last: list[dict[str, str]] = []

    def same() -> bool:
        last.append(versions(world))
        return len(last) > 8 and all(one == last[-1] for one in last[-8:])

    world.wait("nothing written for a while", same, 60, pause=0.5)
    return last[-1]


def back(world: World) -> None:
    """Restart the operator, and wait until it has read this tenant's key and has had time to act on it."""
    world.operator.restart()
    metric = "voicekeys_source_last_read_timestamp_seconds"
    world.wait("the key read again", lambda: (world.operator.metric(metric, namespace=world.namespace) or 0) > 0)
    time.sleep(4)


def test_a_restart_writes_nothing(tenant: World) -> None:
    tenant.put()
    tenant.bind(agents=[objects.agent()])
    tenant.deploy()
    tenant.idle(version=tenant.change())
    before = settled(tenant)
    back(tenant)
    assert versions(tenant) == before
    tenant.steady(lambda: versions(tenant), 7, "something over a poll")


def test_a_key_changed_while_the_operator_was_down_is_taken_up(tenant: World) -> None:
    tenant.put()
    tenant.bind(agents=[objects.agent()])
    tenant.deploy()
    tenant.idle(version=1)
    tenant.operator.stop()
    tenant.put(api_key="while-down")
    tenant.operator.start()
    raw = tenant.idle(version=2)
    assert tenant.data() == {"api_key": b"while-down"}
    assert raw["status"]["history"][-1]["pods"] == 3
    assert len(tenant.replica_sets()) == 2


def test_old_pods_are_known_across_a_restart(tenant: World) -> None:
    tenant.put()
    tenant.bind(agents=[objects.agent()])
    tenant.deploy(replicas=2, drain="15s")
    tenant.idle(version=1)
    version = tenant.change()
    tenant.ready(version=version)
    tenant.operator.restart(kill=True)
    time.sleep(2)
    raw = tenant.binding()
    assert condition_of(raw, "CallsDrained")["status"] == "False"  # type: ignore[index]
    assert raw["status"]["rotation"]["podsOnOldKey"] == 2
    raw = tenant.idle(version=version)
    assert (raw["status"]["history"][-1]["pods"], raw["status"]["history"][-1]["unwitnessed"]) == (2, 0)


def test_pods_that_end_while_the_operator_is_down_are_unwitnessed(tenant: World) -> None:
    tenant.put()
    tenant.bind(agents=[objects.agent()])
    tenant.deploy(replicas=2, drain="5s", pod={"terminationGracePeriodSeconds": 6})
    tenant.idle(version=1)
    version = tenant.change()
    tenant.ready(version=version)
    tenant.operator.kill()
    tenant.wait("the old pods gone", lambda: len(tenant.pods()) == 2)
    tenant.operator.start()
    tenant.until("CallsDrained", "Unknown", "Unwitnessed")
    raw = tenant.idle(version=version)
    assert raw["status"]["history"][-1]["unwitnessed"] > 0


def test_a_handled_sync_now_and_a_refused_key_stay_so_across_a_restart(tenant: World) -> None:
    tenant.put(api_key="good-0001")
    tenant.bind(agents=[objects.agent()], rollout={"timeout": "6s"})
    tenant.deploy(replicas=2)
    tenant.idle(version=1)
    tenant.sync_now(value="once")
    tenant.wait("handled", lambda: tenant.binding()["status"].get("handled", {}).get("syncNow") == "once")
    tenant.aged()
    break_new_pods(tenant)
    tenant.change(api_key="bad-0002")
    tenant.wait("rolled back", lambda: tenant.binding()["status"].get("history"))
    tenant.until("Stalled", "True", "NewKeyRefused")
    mend(tenant)
    before = settled(tenant)
    back(tenant)
    assert versions(tenant) == before, "neither is the refused key tried again, nor the annotation acted on"
    assert tenant.data() == {"api_key": b"good-0001"}
    tenant.sync_now(value="twice")
    tenant.idle(version=2)
    assert tenant.data() == {"api_key": b"bad-0002"}


def test_a_lost_fingerprint_key_takes_a_new_baseline_and_restarts_nothing(tenant: World) -> None:
    tenant.put()
    tenant.bind(agents=[objects.agent()])
    tenant.deploy()
    tenant.idle(version=tenant.change())
    digest = tenant.binding()["status"]["secret"]["digest"]
    sets = len(tenant.replica_sets())
    trigger = tenant.trigger()
    tenant.operator.stop()
    tenant.lab.api("DELETE", f"/api/v1/namespaces/{HOME}/secrets/voicekeys-fingerprint-key")
    tenant.operator.start()
    tenant.wait("a new digest", lambda: tenant.binding()["status"]["secret"]["digest"] != digest)
    raw = tenant.idle(version=2)
    time.sleep(4)
    assert len(tenant.replica_sets()) == sets
    assert tenant.trigger() == trigger
    assert is_true(raw, "Ready")
    assert not tenant.events("PayloadDiffers")
    tenant.idle(version=tenant.change())
    assert len(tenant.replica_sets()) == sets + 1


def test_a_fingerprint_key_lost_together_with_a_change_still_restarts(tenant: World) -> None:
    tenant.put()
    tenant.bind(agents=[objects.agent()])
    tenant.deploy()
    tenant.idle(version=1)
    tenant.operator.stop()
    tenant.lab.api("DELETE", f"/api/v1/namespaces/{HOME}/secrets/voicekeys-fingerprint-key")
    tenant.put(api_key="changed meanwhile")
    tenant.operator.start()
    tenant.wait("a restart", lambda: len(tenant.replica_sets()) == 2)
    tenant.idle(version=2)
    assert tenant.data() == {"api_key": b"changed meanwhile"}


def test_in_a_rush_secrets_come_before_statuses(tenant: World) -> None:
    count = 160
    tenant.put()
    tenant.operator.stop()
    for number in range(count):
        tenant.bind(f"voice-{number}", target={"secretName": f"rush-{number}"})
    tenant.operator.start()
    for number in range(count):
        tenant.ready(f"voice-{number}")
    # Versions are the store's own count of writes: what was written before what, whatever the pace of the machine.
    written = [tenant.get("Secret", f"rush-{number}") for number in range(count)]
    last = max(int(secret["metadata"]["resourceVersion"]) for secret in written if secret is not None)
    statuses = [int(raw["metadata"]["resourceVersion"]) for raw in tenant.bindings()]
    earlier = sum(1 for one in statuses if one < last)
    # The last ones have nobody to wait for: as many as there are workers, and some.
    assert earlier <= count // 3, f"{earlier} of {count} statuses were written before the last Secret"
    assert tenant.operator.metric("voicekeys_api_requests_total", verb="patch", resource="secrets") == count


def test_a_secret_that_was_written_and_not_recorded_is_not_taken_for_the_old_key(tenant: World) -> None:
    tenant.put(api_key="value-0001")
    tenant.bind(agents=[objects.agent()])
    tenant.deploy()
    before = tenant.idle(version=1)["status"]
    tenant.idle(version=tenant.change(api_key="value-0002"))
    tenant.operator.kill()
    # As if it had been killed between the Secret and the status, with Vault down ever since.
    raw = tenant.binding()
    old = {key: before[key] for key in ("key", "secret")}
    tenant.lab.api("PATCH", tenant.path("VoiceKeyBinding", "voice") + "/status", {"status": old})
    tenant.lab.vault.seal()
    try:
        tenant.operator.start()
        raw = tenant.until("SecretSynced", "False", "VaultSealed")
        assert "version 2" in message_of(raw, "SecretSynced")
        assert not is_true(raw, "Ready"), "which key the pods have is not known"
    finally:
        tenant.lab.vault.unseal()
    tenant.idle(version=2)
