"""Keys of a real Vault: what is read, what is missing, and what the messages tell one to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.clients.vault.conftest import Stores, fixed
from tests.crds.binding_cases import HIDDEN
from voicekeys.clients.vault import KubernetesLogin
from voicekeys.clients.vault import store as module
from voicekeys.model.errors import SourceDenied, SourceError, SourceGarbage, SourceMissing
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def old_mount(lab: Lab) -> Iterator[str]:
    """Mount a KV v1."""
    lab.vault("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    lab.vault("POST", "old/data/looks/new", {"api_key": "v"})
    yield "old"
    lab.vault("DELETE", "sys/mounts/old")


async def test_a_key_has_text_as_it_is_and_anything_else_as_compact_json(
    lab: Lab, lab_stores: Stores, tenant: Identity
) -> None:
    path = f"{tenant.namespace}/frejun"
    fields = {
        "api_key": "sk-é \n",
        "empty": "",
        "n": 30,
        "f": 1.5,
        "on": True,
        "none": None,
        "o": {"b": [1, None], "a": "x"},
    }
    lab.put_key(path, **fields)
    key = await lab_stores(lab.vault_addr).read(tenant, path)
    assert key.version == 1
    age = datetime.now(UTC) - key.created_time
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert key.created_time.tzinfo is UTC
    assert {name: key.fields.reveal(name) for name in key.fields} == {
        "api_key": "sk-é \n".encode(),
        "empty": b"",
        "n": b"30",
        "f": b"1.5",
        "on": b"true",
        "none": b"null",
        "o": b'{"a":"x","b":[1,null]}',
    }


async def test_the_latest_version_is_read_unless_one_is_pinned(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    path = f"{tenant.namespace}/frejun"
    for value in ("one", "two", "three"):
        lab.put_key(path, api_key=value)
    store = lab_stores(lab.vault_addr)
    read = [await store.read(tenant, path, version) for version in (0, 1, 2)]
    assert [(key.version, key.fields.reveal("api_key")) for key in read] == [(3, b"three"), (1, b"one"), (2, b"two")]


async def test_a_path_with_odd_characters_is_quoted(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    path = f"{tenant.namespace}/a b?c#d%2Fé+&=;"
    lab.vault("POST", f"secret/data/{tenant.namespace}/a%20b%3Fc%23d%252F%C3%A9%2B%26%3D%3B", {"data": {"k": "v"}})
    assert (await lab_stores(lab.vault_addr).read(tenant, path)).fields.reveal("k") == b"v"


async def missing(stores: Stores, lab: Lab, tenant: Identity, path: str, version: int = 0) -> SourceMissing:
    with pytest.raises(SourceMissing) as raised:
        await stores(lab.vault_addr).read(tenant, path, version)
    return raised.value


async def test_a_deleted_latest_version_is_undeleted_by_the_command_of_the_message(
    lab: Lab, lab_stores: Stores, tenant: Identity
) -> None:
    path = f"{tenant.namespace}/frejun"
    lab.put_key(path, api_key="one")
    lab.put_key(path, api_key="two")
    lab.vault("DELETE", f"secret/data/{path}")
    error = await missing(lab_stores, lab, tenant, path)
    assert error.reason == "VersionDeleted"
    assert f"`vault kv undelete -versions=2 -mount=secret {path}`" in error.message
    assert "put a new version" in error.message
    # An older, pinned version is still there.
    assert (await lab_stores.made[0].read(tenant, path, 1)).fields.reveal("api_key") == b"one"
    assert (await missing(lab_stores, lab, tenant, path, 2)).reason == "VersionDeleted"
    lab.vault("POST", f"secret/undelete/{path}", {"versions": [2]})
    assert (await lab_stores.made[0].read(tenant, path)).fields.reveal("api_key") == b"two"


async def test_a_destroyed_version_is_told_from_a_deleted_one(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    path = f"{tenant.namespace}/frejun"
    lab.put_key(path, api_key="one")
    lab.vault("POST", f"secret/destroy/{path}", {"versions": [1]})
    error = await missing(lab_stores, lab, tenant, path)
    assert (error.reason, "cannot come back" in error.message) == ("VersionDestroyed", True)
    error = await missing(lab_stores, lab, tenant, path, 1)
    assert (error.reason, "set spec.source.version" in error.message) == ("VersionDestroyed", True)


async def test_a_missing_version_is_told_from_a_missing_path(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    path = f"{tenant.namespace}/frejun"
    error = await missing(lab_stores, lab, tenant, path)
    assert (error.reason, f"`vault kv put -mount=secret {path} …`" in error.message) == ("PathNotFound", True)
    assert (await missing(lab_stores, lab, tenant, path, 7)).reason == "PathNotFound"
    lab.put_key(path, api_key="one")
    error = await missing(lab_stores, lab, tenant, path, 7)
    assert (error.reason, "no version 7" in error.message) == ("VersionNotFound", True)
    lab.vault("DELETE", f"secret/data/{path}")
    assert (await missing(lab_stores, lab, tenant, path, 7)).reason == "VersionNotFound"


async def test_a_wrong_mount_and_a_kv_v1_are_named(lab: Lab, stores: Stores, old_mount: str) -> None:
    async def fails(mount: str, path: str) -> SourceError:
        with pytest.raises(SourceError) as raised:
            await stores(lab.vault_addr, fixed(lab.vault_token), mount=mount).read(OPERATOR, path)
        return raised.value

    error = await fails("nowhere", "a")
    assert (type(error), error.reason) == (SourceMissing, "MountNotFound")
    assert "spec.vault.mount" in error.message
    error = await fails(old_mount, "a")
    assert (type(error), error.reason) == (SourceMissing, "NotKvV2")
    assert "vault kv enable-versioning old" in error.message
    error = await fails(old_mount, "looks/new")
    assert (type(error), error.reason) == (SourceGarbage, "NotKvV2")
    assert (await fails("cubbyhole", "a")).reason == "NotKvV2"


async def test_a_missing_key_asks_once_what_the_mount_is(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    store = lab_stores(lab.vault_addr)
    for number in range(5):
        with pytest.raises(SourceMissing):
            await store.read(tenant, f"{tenant.namespace}/{number}")
    assert lab_stores.requests("inspect") == 1


async def test_tenant_b_is_refused_tenant_a_s_key_until_the_policy_line_of_the_message_is_added(
    lab: Lab, lab_stores: Stores, tenant: Identity
) -> None:
    lab.put_key("tenant-a/frejun", api_key="theirs")
    role = lab.allow(tenant.namespace, tenant.namespace)
    store = lab_stores(lab.vault_addr, KubernetesLogin("kubernetes", role, "vault"))
    with pytest.raises(SourceDenied) as raised:
        await store.read(tenant, "tenant-a/frejun")
    assert raised.value.reason == "ReadDenied"
    for part in (str(tenant), f"role {role}", "auth/kubernetes", "tenant-a/frejun"):
        assert part in raised.value.message
    line = re.search(r'path ".*', raised.value.message)
    assert line is not None
    lab.vault("PUT", "sys/policies/acl/from-message", {"policy": line[0]})
    known = lab.vault("GET", f"auth/kubernetes/role/{role}")["data"]
    policies = [*known["token_policies"], "from-message"]
    lab.vault("POST", f"auth/kubernetes/role/{role}", {**known, "token_policies": policies})
    # The token in use has the old policies, and was tried a moment ago: no new login for each denied read.
    with pytest.raises(SourceDenied):
        await store.read(tenant, "tenant-a/frejun")
    assert lab_stores.requests("login") == 1
    lab_stores.clock.ahead += 301
    assert (await store.read(tenant, "tenant-a/frejun")).fields.reveal("api_key") == b"theirs"
    assert lab_stores.requests("login") == 2


@pytest.mark.parametrize("path", ["../sys/mounts", "a/../../b", "a//b", "/a", "a/", ".", ""])
async def test_a_path_that_could_leave_the_mount_s_data_never_reaches_vault(
    lab: Lab, lab_stores: Stores, path: str
) -> None:
    with pytest.raises(SourceMissing) as raised:
        await lab_stores(lab.vault_addr).read(Identity("default", "voicekeys-reader"), path)
    assert raised.value.reason == "PathInvalid"
    assert not raised.value.answered
    assert not lab_stores.seen


@pytest.mark.parametrize("hidden", [*HIDDEN, "\n", "\x7f"], ids=ascii)
async def test_a_path_with_what_is_not_to_be_seen_is_refused_before_vault_does(
    lab: Lab, lab_stores: Stores, tenant: Identity, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{tenant.namespace}/fre{hidden}jun"
    store = lab_stores(lab.vault_addr)
    with pytest.raises(SourceMissing) as raised:
        await store.read(tenant, path)
    assert (raised.value.reason, raised.value.answered) == ("PathInvalid", False)
    assert f"U+{ord(hidden):04X}" in raised.value.message
    assert hidden not in raised.value.message, "it is shown as an escape"
    assert not lab_stores.seen
    monkeypatch.setattr(module, "_check", lambda _: None)
    with pytest.raises(SourceError) as refused:
        await store.read(tenant, path)
    assert (type(refused.value), refused.value.reason) == (SourceError, "VaultRefused"), "of this path, not the store"
    assert "spec.source.path" in refused.value.message


async def test_a_path_in_another_script_is_read(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    path = f"{tenant.namespace}/голос/受付/e\u0301té"
    lab.put_key(path, api_key="theirs")
    assert (await lab_stores(lab.vault_addr).read(tenant, path)).version == 1
