"""A Vault that is sealed, frozen or gone: Secrets and agents stay, Ready stays True, one read at a time probes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.reconcilers import objects
from tests.reconcilers.world import World, condition_of, is_true, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab
    from tests.lab.vault import Vault
    from tests.reconcilers.harness import Operator
    from tests.reconcilers.together import StatusWatch

pytestmark = pytest.mark.simulated_nodes

KEYS = 12
Act = Callable[["Vault"], None]


@pytest.fixture(scope="module")
def shared_tenant(cluster: Lab, operator: Operator, statuses: StatusWatch) -> Iterator[World]:
    """A tenant with many keys of one store, and agents that use the first."""
    world = World(cluster, operator)
    world.statuses = statuses
    for number in range(KEYS):
        world.put(f"key-{number}")
        world.bind(f"voice-{number}", f"key-{number}", agents=[] if number else [objects.agent()])
    world.deploy(secrets=["voice-0"])
    for number in range(KEYS):
        world.idle(f"voice-{number}", 1)
    yield world
    world.close()


@pytest.fixture
def tenant(shared_tenant: World) -> Iterator[World]:
    """The tenant, well before and checked after each test."""
    for number in range(KEYS):
        shared_tenant.ready(f"voice-{number}")
        shared_tenant.until("SourceReachable", "True", name=f"voice-{number}")
    yield shared_tenant
    shared_tenant.check()


def requests(world: World) -> float:
    """How many requests Vault got from the operator, answered or not."""
    return world.operator.metric("voicekeys_vault_requests_total") or 0


def serving(world: World) -> set[str]:
    """The pods that nobody has asked to end, by UID."""
    return {pod["metadata"]["uid"] for pod in world.pods() if "deletionTimestamp" not in pod["metadata"]}


def start(vault: Vault) -> None:
    """Start a killed Vault again."""
    vault.restart()


OUTAGES = [
    pytest.param(lambda vault: vault.seal(), lambda vault: vault.unseal(), {"VaultSealed"}, id="sealed"),
    pytest.param(lambda vault: vault.freeze(), lambda vault: vault.thaw(), {"VaultTimeout"}, id="frozen"),
    pytest.param(lambda vault: vault.kill(), start, {"VaultUnreachable", "ConnectionCut"}, id="killed"),
]


@pytest.mark.parametrize(("break_it", "mend_it", "reasons"), OUTAGES)
def test_an_outage_touches_nothing_and_is_told(tenant: World, break_it: Act, mend_it: Act, reasons: set[str]) -> None:
    before = {name: tenant.get("Secret", name) for name in ("voice-0", "voice-5")}
    pods = serving(tenant)
    vault = tenant.lab.vault
    break_it(vault)
    try:
        told = [tenant.until("SourceReachable", "False", name=f"voice-{number}", seconds=60) for number in range(KEYS)]
        assert {condition_of(raw, "SourceReachable")["reason"] for raw in told} <= reasons  # type: ignore[index]
        assert all(is_true(raw, "Ready") for raw in told)
        assert all(condition_of(raw, "Stalled") is None for raw in told)
        raw = tenant.wait("the store says so", lambda: _down(tenant))
        assert condition_of(raw, "Reachable")["reason"] in reasons  # type: ignore[index]
        assert raw["status"]["lastError"]
        assert "Vault" in message_of(raw, "Reachable") or tenant.lab.vault_addr in message_of(raw, "Reachable")
        assert tenant.operator.metric("voicekeys_store_reachable", store=tenant.store_name) == 0
        asked = requests(tenant)
        time.sleep(8)
        # One probe at a time, with backoff: twelve keys polled every 5 s would be 20 and more.
        assert requests(tenant) - asked <= 8
        assert {name: tenant.get("Secret", name) for name in before} == before
        assert serving(tenant) == pods
    finally:
        mend_it(vault)
    for number in range(KEYS):
        tenant.until("SourceReachable", "True", name=f"voice-{number}", seconds=60)
    tenant.wait("the store is well", lambda: is_true(tenant.store_object(), "Reachable"))
    assert {name: tenant.get("Secret", name) for name in before} == before
    tenant.idle("voice-0", tenant.change("key-0"))
    left = [pod for pod in tenant.pods() if pod["metadata"]["uid"] in pods]
    assert all(pod["status"]["phase"] == "Succeeded" for pod in left), "drained means that their end was seen"


def _down(world: World) -> objects.Object | None:
    raw = world.store_object()
    return raw if (condition_of(raw, "Reachable") or {}).get("status") == "False" else None


def test_a_short_outage_is_nobodys_news(tenant: World) -> None:
    before = {raw["metadata"]["name"]: raw["metadata"]["resourceVersion"] for raw in tenant.bindings()}
    tenant.lab.vault.seal()
    time.sleep(4)
    tenant.lab.vault.unseal()
    time.sleep(6)
    after = {raw["metadata"]["name"]: raw["metadata"]["resourceVersion"] for raw in tenant.bindings()}
    assert after == before, "no status was written"


def test_an_operator_that_starts_while_vault_is_down_keeps_what_is_there(tenant: World) -> None:
    before = tenant.get("Secret", "voice-0")
    tenant.operator.stop()
    tenant.lab.vault.seal()
    try:
        tenant.operator.start()
        raw = tenant.until("SourceReachable", "False", "VaultSealed", name="voice-0")
        assert is_true(raw, "Ready")
        assert tenant.get("Secret", "voice-0") == before
        secret = tenant.get("Secret", "voice-5")
        assert secret is not None
        tenant.delete(secret)
        raw = tenant.until("SecretSynced", "False", "SecretMissing", name="voice-5")
        assert not is_true(raw, "Ready"), "the key is in memory no more, and the Secret is gone"
        assert "comes back by itself" in message_of(raw, "SecretSynced")
    finally:
        tenant.lab.vault.unseal()
    for number in range(KEYS):
        tenant.ready(f"voice-{number}")
        tenant.until("SourceReachable", "True", name=f"voice-{number}")
    assert tenant.data("voice-5") is not None
    assert tenant.get("Secret", "voice-0") == before


def test_a_secret_deleted_during_an_outage_comes_back_from_memory(tenant: World) -> None:
    tenant.lab.vault.seal()
    try:
        tenant.until("SourceReachable", "False", "VaultSealed", name="voice-3")
        secret = tenant.get("Secret", "voice-3")
        assert secret is not None
        tenant.delete(secret)
        tenant.wait("it is back", lambda: tenant.data("voice-3"))
        raw = tenant.binding("voice-3")
        assert is_true(raw, "Ready")
    finally:
        tenant.lab.vault.unseal()
