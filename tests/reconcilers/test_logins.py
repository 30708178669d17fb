"""Every way to log in, whose identity reads, and one key seen in two environments."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.http import ApiError
from tests.reconcilers import objects
from tests.reconcilers.harness import HOME
from tests.reconcilers.world import condition_of, is_true, message_of

if TYPE_CHECKING:
    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes


def own_secret(world: World, key: str, value: str) -> str:
    """Put a credential of a store into the operator's namespace; return the Secret's name."""
    name = f"credential-{world.namespace}"
    metadata = {"name": name, "namespace": HOME}
    world.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}})
    return name


def lent(world: World) -> None:
    """Hold that a store says that its identity is lent."""
    raw = world.wait("lent", lambda: one if is_true(one := world.store_object(), "IdentityLent") else None)
    assert "only this store's rules keep tenants apart" in message_of(raw, "IdentityLent")


@pytest.mark.tenant(reader=False)
def test_approle_reads_and_says_that_its_identity_is_lent(world: World) -> None:
    role_id, secret_id = world.lab.enable_approle()
    name = own_secret(world, "secret-id", secret_id)
    world.store(auth={"kubernetes": None, "appRole": {"roleId": role_id, "secretRef": {"name": name}}})
    world.put(api_key="k-0001")
    world.bind()
    world.ready(version=1)
    assert world.data() == {"api_key": b"k-0001"}
    lent(world)
    world.change(api_key="k-0002")
    world.ready(version=2)


@pytest.mark.tenant(reader=False)
def test_a_token_reads_and_says_that_its_identity_is_lent(world: World) -> None:
    policy = f'path "secret/data/{world.namespace}/*" {{ capabilities = ["read"] }}'
    world.lab.vault("PUT", f"sys/policies/acl/{world.namespace}", {"policy": policy})
    made = world.lab.vault("POST", "auth/token/create", {"policies": [world.namespace], "ttl": "1h"})
    name = own_secret(world, "token", made["auth"]["client_token"])
    world.store(auth={"kubernetes": None, "token": {"secretRef": {"name": name}}})
    world.put()
    world.bind()
    world.ready(version=1)
    lent(world)


@pytest.mark.tenant(reader=False)
def test_a_stores_missing_credential_is_said_until_it_is_there(world: World) -> None:
    world.store(auth={"kubernetes": None, "token": {"secretRef": {"name": f"credential-{world.namespace}"}}})
    world.put()
    world.bind()
    raw = world.until("SourceReachable", "False", "CredentialUnavailable")
    assert f"credential-{world.namespace}" in message_of(raw, "SourceReachable")
    own_secret(world, "token", world.lab.vault_token)
    world.ready(version=1)


def test_jwt_reads_with_the_tenants_own_identity(world: World) -> None:
    world.lab.enable_jwt()
    world.store(auth={"kubernetes": None, "jwt": {"role": "voicekeys"}})
    world.put()
    world.bind()
    world.ready(version=1)
    assert condition_of(world.store_object(), "IdentityLent") is None


def test_keys_of_another_mount_are_read(world: World) -> None:
    mount, role = f"keys/{world.namespace}", world.namespace
    world.vault("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    policy = f'path "{mount}/data/{world.namespace}/*" {{ capabilities = ["read"] }}'
    world.vault("PUT", f"sys/policies/acl/{role}", {"policy": policy})
    bound = {"bound_service_account_names": ["*"], "bound_service_account_namespaces": [world.namespace]}
    world.vault("POST", f"auth/kubernetes/role/{role}", {**bound, "audience": "vault", "token_policies": [role]})

    def put(value: str) -> bool:
        try:
            world.vault("POST", f"{mount}/data/{{}}/key", {"data": {"api_key": value}})
        except ApiError as error:
            if "Upgrading" not in str(error):  # a mount that is new is made KV v2 in the background
                raise
            return False
        return True

    world.put(api_key="k-of-the-usual-mount")
    world.wait("the mount takes keys", lambda: put("k-0001"), seconds=20)
    world.store(vault={"mount": mount}, auth={"kubernetes": {"role": role}})
    world.bind()
    world.ready(version=1)
    assert world.data() == {"api_key": b"k-0001"}
    put("k-0002")
    world.notify()
    world.ready(version=2)
    assert world.data() == {"api_key": b"k-0002"}


def test_a_ca_that_is_missing_is_said_at_the_store(world: World) -> None:
    reference = {"name": f"ca-{world.namespace}"}
    world.store(vault={"insecure": None, "address": "https://127.0.0.1:1", "caConfigMapRef": reference})
    world.put()
    world.bind()
    raw = world.wait("said", lambda: one if is_true(one := world.store_object(), "Stalled") else None)
    assert f"ca-{world.namespace}" in message_of(raw, "Stalled")
    raw = world.until("SecretSynced", "False", "StoreNotUsable")
    assert f"kubectl describe vks {world.store_name}" in message_of(raw, "Ready")
    world.store()
    world.ready(version=1)


def test_tls_that_cannot_be_trusted_is_said(world: World) -> None:
    world.store(vault={"insecure": None, "address": world.lab.api_url})
    world.bind()
    raw = world.until("SourceReachable", "False", "TLSFailed")
    assert "caBundle" in message_of(raw, "SourceReachable")


def test_tls_that_breaks_later_leaves_secret_and_agents(world: World) -> None:
    world.put()
    world.bind(agents=[objects.agent()])
    world.deploy()
    world.idle(version=1)
    secret, pods = world.get("Secret", "voice"), {pod["metadata"]["uid"] for pod in world.pods()}
    world.store(vault={"insecure": None, "address": world.lab.api_url})
    raw = world.until("SourceReachable", "False", "TLSFailed")
    assert is_true(raw, "Ready")
    assert condition_of(raw, "Stalled") is None
    time.sleep(2)
    assert world.get("Secret", "voice") == secret
    assert {pod["metadata"]["uid"] for pod in world.pods()} == pods
    world.store()
    world.until("SourceReachable", "True")
    world.idle(version=world.change())


def test_one_key_in_two_environments_is_told_on_both(world: World) -> None:
    rules = [
        objects.rule("own", world.namespace, world.namespace),
        objects.rule("stage", world.namespace, world.namespace, "staging"),
    ]
    world.store(rules=rules)
    world.put("one", api_key="one-and-the-same-key-0001")
    world.put("two", other_key="one-and-the-same-key-0001")
    world.bind("prod", "one")
    world.bind("stage", "two", environment="staging")
    for name, other in (("prod", "stage"), ("stage", "prod")):
        raw = world.until("SharedAcrossEnvironments", "True", name=name)
        assert f"{world.namespace}/{other}" in message_of(raw, "SharedAcrossEnvironments")
        assert is_true(raw, "Ready")
    metric = "voicekeys_key_shared_across_environments"
    assert world.operator.metric(metric, namespace=world.namespace) == 2
    world.change("two", other_key="a-key-of-its-own-0001")

    def told() -> list[str]:
        return [name for name in ("prod", "stage") if condition_of(world.binding(name), "SharedAcrossEnvironments")]

    world.wait("neither says that its key is shared", lambda: not told())


def test_one_tenant_cannot_read_anothers_key(world: World) -> None:
    theirs = f"{world.namespace}-other"
    world.lab.put_key(f"{theirs}/key", api_key="theirs")
    world.store(rules=[objects.rule("wide", world.namespace, theirs)])
    world.bind(source={"path": f"{theirs}/key"})
    world.until("SourceReachable", "False", "ReadDenied")
    assert world.data() is None
    with pytest.raises(ApiError):
        world.lab.vault("GET", f"secret/data/{theirs}/key", token=world.lab.login(world.namespace))
