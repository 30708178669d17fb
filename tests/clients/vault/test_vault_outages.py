"""A real Vault that is sealed, frozen, dead, empty, limited, or trusted wrongly."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from tests.clients.vault.conftest import Stores, fixed
from tests.clients.vault.faulty import FaultyVault, redirect
from voicekeys.model.errors import StoreDown
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab import Lab
    from tests.lab.vault import Vault
    from voicekeys.clients.vault import VaultStore

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def tls_vault(bare_vault: Callable[..., Vault]) -> Vault:
    """Start a Vault with TLS and a key in it."""
    vault = bare_vault(tls=True, initialise=True)
    vault.put("frejun", {"api_key": "v"})
    return vault


@pytest.fixture(scope="module")
def plain_vault(bare_vault: Callable[..., Vault]) -> Vault:
    """Start a Vault without TLS and a key in it."""
    vault = bare_vault(tls=False, initialise=True)
    vault.put("frejun", {"api_key": "v"})
    return vault


async def down(store: VaultStore, path: str = "frejun", identity: Identity = OPERATOR) -> StoreDown:
    with pytest.raises(StoreDown) as raised:
        await store.read(identity, path)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    return raised.value


async def test_sealed_then_unsealed(plain_vault: Vault, stores: Stores) -> None:
    store = stores(plain_vault.address, fixed(plain_vault.token))
    await store.read(OPERATOR, "frejun")
    plain_vault.seal()
    try:
        error = await down(store)
        assert error.reason == "VaultSealed"
        assert "vault operator unseal" in error.message
        # No retry in the call: a sealed Vault stays so until a person acts.
        assert stores.seen["read", "VaultSealed"] == 1
    finally:
        plain_vault.unseal()
    assert (await store.read(OPERATOR, "frejun")).version == 1


async def test_a_login_at_a_sealed_vault_says_sealed(lab: Lab, lab_stores: Stores, tenant: Identity) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr)
    lab.vault.seal()
    try:
        assert (await down(store, "a", tenant)).reason == "VaultSealed"
    finally:
        lab.vault.unseal()
    # It was the store that was ill, not the login: no waiting for a refusal to be forgotten.
    assert (await store.read(tenant, f"{tenant.namespace}/frejun")).version == 1


async def test_never_initialised(bare_vault: Callable[..., Vault], stores: Stores) -> None:
    vault = bare_vault(tls=False, initialise=False)
    vault._await("started", lambda status: not status["initialized"])
    error = await down(stores(vault.address, fixed("hvs.any")))
    assert error.reason == "VaultUninitialized"
    assert "vault operator init" in error.message


async def test_frozen_is_a_timeout_within_twice_the_store_s(plain_vault: Vault, stores: Stores) -> None:
    store = stores(plain_vault.address, fixed(plain_vault.token), timeout=0.5)
    await store.read(OPERATOR, "frejun")
    plain_vault.freeze()
    try:
        await asyncio.sleep(0.2)  # its threads stop one by one
        started = time.monotonic()
        failures = await asyncio.gather(*(down(store) for _ in range(50)))
        assert time.monotonic() - started < 1.5
        assert {failure.reason for failure in failures} == {"VaultTimeout"}
    finally:
        plain_vault.thaw()
    assert (await store.read(OPERATOR, "frejun")).version == 1


async def test_dead_is_unreachable_and_alive_again_is_read(plain_vault: Vault, stores: Stores) -> None:
    store = stores(plain_vault.address, fixed(plain_vault.token))
    await store.read(OPERATOR, "frejun")
    plain_vault.kill()
    try:
        error = await down(store)
        assert error.reason == "VaultUnreachable"
        assert "Connection refused" in error.message
    finally:
        plain_vault.restart()
    assert (await store.read(OPERATOR, "frejun")).version == 1


async def test_a_name_that_does_not_resolve(stores: Stores) -> None:
    error = await down(stores("http://vault.invalid:8200", fixed("hvs.any")))
    assert error.reason == "VaultUnreachable"
    assert "does not resolve" in error.message


@pytest.fixture
def quota(plain_vault: Vault) -> Iterator[None]:
    """Allow one request in two seconds below the KV mount."""
    plain_vault("POST", "sys/quotas/rate-limit/tight", {"path": "secret/", "rate": 1, "interval": "2s"})
    yield
    plain_vault("DELETE", "sys/quotas/rate-limit/tight")


@pytest.mark.usefixtures("quota")
async def test_a_rate_limit_quota(plain_vault: Vault, stores: Stores) -> None:
    store = stores(plain_vault.address, fixed(plain_vault.token))
    await store.read(OPERATOR, "frejun")
    error = await down(store)
    assert error.reason == "RateLimited"
    assert "readsPerSecond" in error.message


async def test_tls_with_the_right_ca(tls_vault: Vault, stores: Stores) -> None:
    assert tls_vault.ca_file is not None
    store = stores(tls_vault.address, fixed(tls_vault.token), ca_pem=tls_vault.ca_file.read_text())
    assert (await store.read(OPERATOR, "frejun")).version == 1


@pytest.mark.parametrize("which", ["another", "the system's", "none", "broken"])
async def test_tls_with_any_other_ca_says_what_to_set(lab: Lab, tls_vault: Vault, stores: Stores, which: str) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n"
    ca = {"another": lab.ca_file.read_text(), "the system's": None, "none": "not a PEM", "broken": broken}[which]
    store = stores(tls_vault.address, fixed(tls_vault.token), ca_pem=ca)
    error = await down(store)
    assert error.reason == "TLSFailed"
    assert "spec.vault.caBundle" in error.message
    assert "spec.vault.caConfigMapRef" in error.message


async def test_a_certificate_for_another_name(tls_vault: Vault, stores: Stores) -> None:
    assert tls_vault.ca_file is not None
    address = tls_vault.address.replace("127.0.0.1", "127.0.0.2")
    # Listening on 127.0.0.1 only: reached through a forwarder of our own.
    port = int(tls_vault.address.rsplit(":", 1)[1])

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.wait(
            [asyncio.ensure_future(pump(reader, there[1])), asyncio.ensure_future(pump(there[0], writer))]
        )

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.2", port)
    try:
        error = await down(stores(address, fixed("hvs.any"), ca_pem=tls_vault.ca_file.read_text()))
    finally:
        server.close()
    assert error.reason == "TLSFailed"
    assert "127.0.0.2" in error.message


async def test_a_redirect_from_https_to_http_never_shows_the_token(
    tls_vault: Vault, faulty: FaultyVault, stores: Stores
) -> None:
    assert tls_vault.ca_file is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    folder = tls_vault.ca_file.parent
    context.load_cert_chain(folder / "vault-cert.pem", folder / "vault-key.pem")
    standby = FaultyVault()
    await standby.start(context)
    standby.always = redirect(f"{faulty.address}/v1/secret/data/frejun")
    store = stores(standby.address, fixed("hvs.canary"), ca_pem=tls_vault.ca_file.read_text())
    error = await down(store)
    standby.always = redirect(f"{tls_vault.address}/v1/secret/data/frejun")
    followed = stores(standby.address, fixed(tls_vault.token), ca_pem=tls_vault.ca_file.read_text())
    assert (await followed.read(OPERATOR, "frejun")).version == 1
    await standby.stop()
    assert error.reason == "VaultRedirect"
    assert faulty.requests == []


async def test_the_wrong_scheme_is_named(tls_vault: Vault, plain_vault: Vault, stores: Stores) -> None:
    error = await down(stores(tls_vault.address.replace("https:", "http:"), fixed("hvs.any")))
    assert error.reason == "TLSFailed"
    assert "https://" in error.message
    error = await down(stores(plain_vault.address.replace("http:", "https:"), fixed("hvs.any")))
    assert error.reason == "TLSFailed"
    assert "does it speak TLS there?" in error.message


async def test_closing_a_store_whose_vault_is_frozen_takes_two_seconds(
    lab: Lab, lab_stores: Stores, tenant: Identity
) -> None:
    lab.put_key(f"{tenant.namespace}/frejun", api_key="v")
    store = lab_stores(lab.vault_addr, timeout=30.0)
    await store.read(tenant, f"{tenant.namespace}/frejun")
    lab.vault.freeze()
    try:
        started = time.monotonic()
        await store.close()
        assert 1.5 < time.monotonic() - started < 4
    finally:
        lab.vault.thaw()
