"""Logins at a real Vault: every method, their number as Vault's own audit log has it, renewal, revocation."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.clients.vault.conftest import KUBERNETES, Stores, fixed
from tests.lab.http import ApiError
from voicekeys.clients.vault import AppRoleLogin, JwtLogin, KubernetesLogin, StaticToken
from voicekeys.model.errors import ApiForbidden, ApiNotFound, ApiUnreachable, SourceDenied, SourceError
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.asyncio
Audit = Callable[[], "collections.Counter[str]"]


@pytest.fixture
def audit(lab: Lab, tmp_path: Path) -> Iterator[Audit]:
    """Let Vault write down every request; gives the number of each path (keys' last segments cut)."""
    file = tmp_path / "audit.log"
    lab.vault("PUT", "sys/audit/test", {"type": "file", "options": {"file_path": str(file)}})

    def counted() -> collections.Counter[str]:
        lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        paths = [line["request"]["path"] for line in lines if line["type"] == "request"]
        return collections.Counter(
            path.rsplit("/", 1)[0] if "/data/" in path else path for path in paths if not path.startswith("sys/audit")
        )

    yield counted
    lab.vault("DELETE", "sys/audit/test")


@pytest.fixture
def role(lab: Lab) -> Iterator[Callable[..., KubernetesLogin]]:
    """Make roles like the lab's own, with differences: ``role(token_type="batch")``."""
    made: list[str] = []

    def make(**differences: object) -> KubernetesLogin:
        name = f"role-{len(made)}"
        made.append(name)
        known = lab.vault("GET", "auth/kubernetes/role/voicekeys")["data"]
        lab.vault("POST", f"auth/kubernetes/role/{name}", {**known, **differences})
        return KubernetesLogin("kubernetes", name, "vault")

    yield make
    for name in made:
        lab.vault("DELETE", f"auth/kubernetes/role/{name}")


def tokens(lab: Lab) -> int:
    """Count the tokens that Vault knows."""
    return len(lab.vault("GET", "auth/token/accessors?list=true")["data"]["keys"])


async def test_a_thousand_first_reads_at_once_are_one_login(
    lab: Lab, lab_stores: Stores, tenant: Identity, audit: Audit
) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr, timeout=30.0)
    await asyncio.gather(*(store.read(tenant, f"{tenant.namespace}/frejun") for _ in range(1000)))
    counted = audit()
    assert counted["auth/kubernetes/login"] == 1
    assert counted[f"secret/data/{tenant.namespace}"] == 1000 + 1  # ours, and the put
    assert lab_stores.minted == [(tenant, "vault")]


async def test_a_hundred_paths_are_a_hundred_reads_and_one_login_and_nothing_else(
    lab: Lab, lab_stores: Stores, tenant: Identity, audit: Audit
) -> None:
    for number in range(100):
        lab.put_key(f"{tenant.namespace}/{number}", api_key=str(number))
    before = audit()
    store = lab_stores(lab.vault_addr)
    await asyncio.gather(*(store.read(tenant, f"{tenant.namespace}/{number}") for number in range(100)))
    assert audit() - before == {"auth/kubernetes/login": 1, f"secret/data/{tenant.namespace}": 100}
    assert lab_stores.seen == {("login", "ok"): 1, ("read", "ok"): 100}


async def test_each_identity_has_a_login_of_its_own(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    other = Identity("default", "voicekeys-reader")
    for identity in (tenant, other):
        lab.put_key(f"{identity.namespace}/own", api_key=identity.namespace)
    store = lab_stores(lab.vault_addr)
    for identity in (tenant, other, tenant, other):
        assert (await store.read(identity, f"{identity.namespace}/own")).fields.reveal(
            "api_key"
        ) == identity.namespace.encode()
    with pytest.raises(SourceDenied):
        await store.read(other, f"{tenant.namespace}/own")
    assert lab_stores.requests("login") == 2


async def test_jwt_auth(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    with contextlib.suppress(ApiError):  # mounted by an earlier test
        lab.enable_jwt()
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr, JwtLogin("jwt", "voicekeys", "vault"))
    assert (await store.read(tenant, f"{tenant.namespace}/frejun")).fields.reveal("api_key") == b"v"
    wrong = lab_stores(lab.vault_addr, JwtLogin("jwt", "voicekeys", "elsewhere"))
    with pytest.raises(SourceDenied) as raised:
        await wrong.read(tenant, f"{tenant.namespace}/frejun")
    assert raised.value.reason == "LoginDenied"
    assert "audience elsewhere" in raised.value.message


async def test_app_role_reads_its_secret_id_anew_at_each_login(lab: Lab, stores: Stores) -> None:
    with contextlib.suppress(ApiError):
        lab.vault("DELETE", "sys/auth/approle")
    role_id, secret_id = lab.enable_approle("lent")
    lab.put_key("lent/frejun", api_key="v")
    given = [secret_id]

    async def read() -> str:
        return given[-1] + "\n"

    store = stores(lab.vault_addr, AppRoleLogin("approle", role_id, read))
    assert (await store.read(OPERATOR, "lent/frejun")).fields.reveal("api_key") == b"v"
    lab.vault("POST", "auth/approle/role/voicekeys/secret-id/destroy", {"secret_id": secret_id})
    stores.clock.ahead += 3601
    with pytest.raises(SourceDenied) as raised:
        await store.read(OPERATOR, "lent/frejun")
    assert raised.value.reason == "LoginDenied"
    given.append(lab.vault("POST", "auth/approle/role/voicekeys/secret-id", {})["data"]["secret_id"])
    stores.clock.ahead += 10
    assert (await store.read(OPERATOR, "lent/frejun")).fields.reveal("api_key") == b"v"
    assert not stores.minted


async def test_a_static_token_is_read_again_when_vault_rejects_it_and_never_revoked(lab: Lab, stores: Stores) -> None:
    lab.put_key("lent/frejun", api_key="v")

    def create() -> str:
        return str(lab.vault("POST", "auth/token/create", {"policies": ["root"], "ttl": "1h"})["auth"]["client_token"])

    given = [create()]

    async def read() -> str:
        return given[-1]

    store = stores(lab.vault_addr, StaticToken(read))
    await store.read(OPERATOR, "lent/frejun")
    lab.vault("POST", "auth/token/revoke", {"token": given[0]})
    stores.clock.ahead += 6
    with pytest.raises(SourceDenied) as raised:
        await store.read(OPERATOR, "lent/frejun")
    assert raised.value.reason == "TokenRejected"
    given.append(create())
    stores.clock.ahead += 6
    await store.read(OPERATOR, "lent/frejun")
    await store.close()
    assert lab.vault("GET", "auth/token/lookup-self", token=given[-1])["data"]["ttl"] > 0
    assert stores.requests("login") == 0


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        (KubernetesLogin("kubernetes", "nobody", "vault"), "role nobody exists"),
        (KubernetesLogin("kubernetes", "voicekeys", "elsewhere"), "audience elsewhere"),
        (KubernetesLogin("nowhere", "voicekeys", "vault"), "auth/nowhere"),
    ],
)
async def test_a_refused_login_names_what_to_check(
    lab: Lab, lab_stores: Stores, tenant: Identity, auth: KubernetesLogin, words: str
) -> None:
    with pytest.raises(SourceDenied) as raised:
        await lab_stores(lab.vault_addr, auth).read(tenant, "a")
    assert raised.value.reason == "LoginDenied"
    assert words in raised.value.message
    assert str(tenant) in raised.value.message


async def test_an_account_that_the_role_does_not_bind_is_refused(
    lab: Lab, lab_stores: Stores, tenant: Identity
) -> None:
    with pytest.raises(SourceDenied) as raised:
        await lab_stores(lab.vault_addr).read(tenant._replace(service_account="default"), "a")
    assert raised.value.reason == "LoginDenied"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (ApiNotFound("NotFound", "not found", status=404), SourceDenied, "Create it"),
        (ApiForbidden("Forbidden", "forbidden", status=403), SourceDenied, "by a Role in namespace"),
        (ApiUnreachable("Unreachable", "the API server does not answer"), SourceError, "does not answer"),
    ],
)
async def test_a_token_that_cannot_be_minted_says_why(
    lab: Lab, stores: Stores, fault: Exception, kind: type[SourceError], words: str
) -> None:
    def refuse(*_: object) -> str:
        raise fault

    stores.mint = refuse
    with pytest.raises(SourceError) as raised:
        await stores(lab.vault_addr).read(Identity("default", "voicekeys-reader"), "a")
    assert (type(raised.value), raised.value.reason) == (kind, "CredentialUnavailable")
    assert not raised.value.answered
    assert words in raised.value.message


async def test_two_thirds_into_its_lease_a_token_is_renewed_not_replaced(
    lab: Lab, lab_stores: Stores, tenant: Identity, audit: Audit
) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr)
    for ahead in (0, 0.55 * 3600, 0.15 * 3600, 0.5 * 3600):
        lab_stores.clock.ahead += ahead
        await asyncio.gather(*(store.read(tenant, f"{tenant.namespace}/frejun") for _ in range(20)))
    counted = audit()
    assert counted["auth/kubernetes/login"] == 1
    assert counted["auth/token/renew-self"] == 1


async def test_batch_tokens_and_others_that_cannot_be_renewed_are_replaced(
    lab: Lab, lab_stores: Stores, tenant: Identity, role: Callable[..., KubernetesLogin], audit: Audit
) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr, role(token_type="batch", alias_name_source="serviceaccount_uid"))
    await store.read(tenant, f"{tenant.namespace}/frejun")
    lab_stores.clock.ahead += 0.7 * 3600
    await store.read(tenant, f"{tenant.namespace}/frejun")
    await store.close()
    counted = audit()
    assert counted["auth/kubernetes/login"] == 2
    assert counted["auth/token/renew-self"] == counted["auth/token/revoke-self"] == 0


async def test_a_token_at_its_max_ttl_is_replaced(
    lab: Lab, lab_stores: Stores, tenant: Identity, role: Callable[..., KubernetesLogin]
) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr, role(token_ttl=4, token_max_ttl=5))
    await store.read(tenant, f"{tenant.namespace}/frejun")
    await asyncio.sleep(3.2)
    await store.read(tenant, f"{tenant.namespace}/frejun")  # renewed, but Vault grants two seconds only
    await asyncio.sleep(1.4)
    await store.read(tenant, f"{tenant.namespace}/frejun")
    assert (lab_stores.requests("renew"), lab_stores.requests("login")) == (1, 2)
    assert lab_stores.seen["read", "ok"] == 3


async def test_a_revoked_token_is_replaced_by_one_login_for_all_readers(
    lab: Lab, lab_stores: Stores, tenant: Identity, audit: Audit
) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr)
    await store.read(tenant, f"{tenant.namespace}/frejun")
    lab.vault("POST", "sys/leases/revoke-force/auth/kubernetes/login", {})
    lab_stores.clock.ahead += 6
    await asyncio.gather(*(store.read(tenant, f"{tenant.namespace}/frejun") for _ in range(100)))
    assert audit()["auth/kubernetes/login"] == 2
    assert lab_stores.minted == [(tenant, "vault")] * 2


async def test_closing_revokes_the_tokens_that_were_ours(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    before = tokens(lab)
    store = lab_stores(lab.vault_addr, KUBERNETES)
    await store.read(tenant, f"{tenant.namespace}/frejun")
    assert tokens(lab) == before + 1
    await store.close()
    assert tokens(lab) == before
    with pytest.raises(SourceError) as raised:
        await store.read(tenant, f"{tenant.namespace}/frejun")
    assert raised.value.reason == "StoreClosed"
    await store.close()


async def test_the_operator_cannot_read_as_itself_where_tenants_log_in(lab: Lab, lab_stores: Stores) -> None:
    with pytest.raises(ValueError, match="not as the operator"):
        await lab_stores(lab.vault_addr).read(OPERATOR, "a")


async def test_a_lent_token_serves_any_identity_with_one_session(lab: Lab, stores: Stores) -> None:
    lab.put_key("lent/frejun", api_key="v")
    store = stores(lab.vault_addr, fixed(lab.vault_token + "\n"))
    for identity in (OPERATOR, Identity("default", "voicekeys-reader")):
        await store.read(identity, "lent/frejun")
    assert stores.seen == {("read", "ok"): 2}
