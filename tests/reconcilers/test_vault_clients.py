"""How many clients Vault's licence counts, by Vault's own counter: README's number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.reconcilers import objects
from tests.reconcilers.harness import HOME
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab
    from tests.reconcilers.harness import Operator

KEYS = ("first", "second", "third")


@pytest.fixture(scope="module")
def tenants(cluster: Lab, operator: Operator) -> Iterator[list[World]]:
    """Two namespaces with three keys each; nothing reads them yet. Vault counts clients from here on."""
    cluster.vault("POST", "sys/internal/counters/config", {"enabled": "enable"})
    made = [World(cluster, operator, store=False) for _ in range(2)]
    for world in made:
        for key in KEYS:
            world.put(key)
    yield made
    for world in made:
        world.close()


def clients(lab: Lab) -> int:
    """What Vault has counted in this month."""
    return int(lab.vault("GET", "sys/internal/counters/activity/monthly")["data"]["clients"])


def read_all(tenants: list[World], store: str, **auth: Any) -> int:
    """Let both namespaces read all keys by a store; return how many clients Vault counts for that."""
    lab = tenants[0].lab
    before = clients(lab)
    rules = [objects.rule(world.namespace, world.namespace, world.namespace) for world in tenants]
    tenants[0].store(store, rules, **auth)
    for world in tenants:
        for key in KEYS:
            world.bind(f"{store}-{key}", key, source={"storeRef": {"name": store}})
    for world in tenants:
        for key in KEYS:
            world.ready(f"{store}-{key}", version=1)
            read_again(world, f"{store}-{key}")
    return clients(lab) - before


def read_again(world: World, name: str) -> None:
    """Let a binding read a second time, by the same client."""
    world.sync_now(name, "again")
    world.wait("read again", lambda: world.binding(name)["status"].get("handled", {}).get("syncNow") == "again")


def credential(lab: Lab, name: str, key: str, value: str) -> dict[str, Any]:
    """Put a store's credential into the operator's namespace; return the reference to it."""
    metadata = {"name": name, "namespace": HOME}
    lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}})
    return {"secretRef": {"name": name}}


def test_one_for_each_service_account_whatever_the_number_of_keys(tenants: list[World], operator: Operator) -> None:
    assert read_all(tenants, "counted-kubernetes") == len(tenants)
    assert operator.metric("voicekeys_vault_identities", store="counted-kubernetes") == len(tenants)


def test_one_for_a_store_with_approle(tenants: list[World], cluster: Lab, operator: Operator) -> None:
    role_id, secret_id = cluster.enable_approle()
    reference = credential(cluster, "counted-approle", "secret-id", secret_id)
    lent = {"kubernetes": None, "appRole": {"roleId": role_id, **reference}}
    assert read_all(tenants, "counted-approle", auth=lent) == 1
    assert operator.metric("voicekeys_vault_identities", store="counted-approle") == 1


def test_one_for_a_store_with_a_token(tenants: list[World], cluster: Lab, operator: Operator) -> None:
    policy = 'path "secret/data/+/*" { capabilities = ["read"] }'
    cluster.vault("PUT", "sys/policies/acl/counted-token", {"policy": policy})
    made = cluster.vault("POST", "auth/token/create", {"policies": ["counted-token"], "ttl": "1h"})
    lent = {"kubernetes": None, "token": credential(cluster, "counted-token", "token", made["auth"]["client_token"])}
    assert read_all(tenants, "counted-token", auth=lent) == 1
    assert operator.metric("voicekeys_vault_identities", store="counted-token") == 1
