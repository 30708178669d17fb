"""Every field of a store's spec that is about Vault arrives in what Vault is asked, or in how long it may take."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.vault.faulty import FaultyVault, slow, status
from voicekeys.api.store import parse_store_spec
from voicekeys.clients.vault.connect import connect
from voicekeys.model.errors import StoreDown
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    from tests.clients.vault.conftest import Stores
    from voicekeys.clients.vault import VaultStore

pytestmark = pytest.mark.asyncio
TENANT = Identity("tenant", "voicekeys-reader")
AS_THEMSELVES = {"role": "a-role", "mountPath": "a/login", "audience": "an-audience"}
METHODS: dict[str, dict[str, Any]] = {
    "kubernetes": {"kubernetes": AS_THEMSELVES},
    "jwt": {"jwt": AS_THEMSELVES},
    "appRole": {"appRole": {"roleId": "a-role-id", "mountPath": "a/login", "secretRef": {"name": "own", "key": "sid"}}},
    "token": {"token": {"secretRef": {"name": "own", "key": "tok"}}},
}


class Own:
    """The operator's own namespace, and the API server that mints tokens."""

    def __init__(self) -> None:
        self.minted: list[tuple[Identity, str]] = []

    async def read_own(self, kind: str, name: str, key: str) -> str | None:
        return f"{kind}-{name}-{key}\n"

    async def mint_token(self, identity: Identity, audience: str) -> str:
        self.minted.append((identity, audience))
        return "a-jwt"


async def connected(stores: Stores, faulty: FaultyVault, own: Own, auth: dict[str, Any], **vault: Any) -> VaultStore:
    rules = [{"name": "all", "namespaceSelector": {}, "pathPrefixes": ["k"], "environment": "production"}]
    spec = parse_store_spec({"vault": {"address": faulty.address, **vault}, "auth": auth, "rules": rules})
    store = await connect("vault", spec, own, observe=lambda *_: None, clock=stores.clock, rng=random.Random(1))
    stores.made.append(store)
    return store


@pytest.mark.parametrize("method", METHODS)
async def test_a_whole_spec_is_what_vault_is_asked(stores: Stores, faulty: FaultyVault, method: str) -> None:
    own, bodies = Own(), list[dict[str, str]]()
    grant = faulty._login

    async def login(request: Any) -> Any:
        bodies.append(json.loads(await request.read()))
        return await grant(request)

    faulty.logins.append(login)
    store = await connected(stores, faulty, own, METHODS[method], namespace="team/voice", mount="keys/kv")
    who = TENANT if method in {"kubernetes", "jwt"} else OPERATOR
    assert (await store.read(who, "voice/frejun", 3)).version == 3
    assert {headers["X-Vault-Namespace"] for _, _, headers in faulty.requests} == {"team/voice"}
    reads = [(path, headers["X-Vault-Token"]) for verb, path, headers in faulty.requests if verb == "GET"]
    token = "Secret-own-tok" if method == "token" else "hvs.canary-token-1"
    assert reads == [("/v1/keys/kv/data/voice/frejun?version=3", token)]
    logins = [path for _, path, _ in faulty.requests if path.endswith("/login")]
    assert logins == ([] if method == "token" else ["/v1/auth/a/login/login"])
    if who is TENANT:
        assert bodies == [{"role": "a-role", "jwt": "a-jwt"}]
        assert own.minted == [(TENANT, "an-audience")]
    elif method == "appRole":
        assert bodies == [{"role_id": "a-role-id", "secret_id": "Secret-own-sid"}]


async def test_a_spec_that_says_little_asks_by_the_defaults(stores: Stores, faulty: FaultyVault) -> None:
    own = Own()
    store = await connected(stores, faulty, own, {"kubernetes": {"role": "a-role"}})
    await store.read(TENANT, "voice/frejun")
    assert [path for _, path, _ in faulty.requests] == ["/v1/auth/kubernetes/login", "/v1/secret/data/voice/frejun"]
    assert not any("X-Vault-Namespace" in headers for _, _, headers in faulty.requests)
    assert own.minted == [(TENANT, "vault")]


async def test_the_timeout_is_the_specs(stores: Stores, faulty: FaultyVault) -> None:
    faulty.always = slow(5, status(500))
    store = await connected(stores, faulty, Own(), METHODS["kubernetes"], timeout="1s")
    began = time.monotonic()
    with pytest.raises(StoreDown) as raised:
        await store.read(TENANT, "voice/frejun")
    assert raised.value.reason == "VaultTimeout"
    assert 0.9 < time.monotonic() - began < 4, "a read with its retries ends within twice the timeout"
