"""A CA that is exchanged while the store runs: trusted by itself, with tokens kept, and never for nothing."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.vault.faulty import FaultyVault, hang_up
from voicekeys.api.store import parse_store_spec
from voicekeys.clients.vault.connect import connect
from voicekeys.clients.vault.trust import LOOK_AFTER_FAILURE, LOOK_EVERY
from voicekeys.model.errors import ApiUnreachable, StoreDown, Terminal, VoiceKeysError
from voicekeys.model.identity import Identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.clients.vault.conftest import Stores
    from tests.lab.vault import Vault
    from voicekeys.clients.vault import VaultStore

pytestmark = pytest.mark.asyncio
TENANT = Identity("tenant", "voicekeys-reader")


@pytest.fixture(scope="module")
def authorities(bare_vault: Callable[..., Vault]) -> list[Path]:
    """Two folders, each with a CA and a certificate of it for 127.0.0.1."""
    made = [bare_vault(tls=True, initialise=False).ca_file for _ in range(2)]
    return [file.parent for file in made if file is not None]


class Exchange:
    """A Vault under one CA and then another, and the ConfigMap from which the store reads its CA."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self.cas = [(folder / "vault-ca.pem").read_text() for folder in folders]
        self.server = FaultyVault()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.held: str | VoiceKeysError | None = self.cas[0]
        self.looks = 0
        self.serve(0)

    def serve(self, number: int) -> None:
        """Show the certificate of a CA from the next connection on, and close the open one at the next read."""
        folder = self.folders[number]
        self.context.load_cert_chain(folder / "vault-cert.pem", folder / "vault-key.pem")
        if number:
            self.server.reads.append(hang_up)

    async def read_own(self, *_: str) -> str | None:
        self.looks += 1
        await asyncio.sleep(0)
        if isinstance(self.held, VoiceKeysError):
            raise self.held
        return self.held

    async def mint_token(self, *_: Any) -> str:
        return "canary-jwt"


@pytest.fixture
async def exchange(authorities: list[Path]) -> AsyncIterator[Exchange]:
    """Start it."""
    made = Exchange(authorities)
    await made.server.start(made.context)
    yield made
    await made.server.stop()


def store_of(exchange: Exchange, stores: Stores) -> VaultStore:
    return stores(exchange.server.address, ca_pem=exchange.cas[0], read_ca=exchange.read_own)


async def fails(store: VaultStore) -> None:
    with pytest.raises(StoreDown) as raised:
        await store.read(TENANT, "frejun")
    assert raised.value.reason == "TLSFailed"
    for _ in range(5):
        await asyncio.sleep(0)  # the look goes on beside the reads


async def test_a_new_ca_is_trusted_at_the_next_read_and_the_login_is_kept(exchange: Exchange, stores: Stores) -> None:
    store = store_of(exchange, stores)
    assert (await store.read(TENANT, "frejun")).version == 1
    exchange.serve(1)
    exchange.held = exchange.cas[1]
    await fails(store)
    assert (await store.read(TENANT, "frejun")).version == 1
    assert (exchange.looks, exchange.server.count("/login")) == (1, 1)


async def test_a_failing_connection_looks_now_and_then_only(exchange: Exchange, stores: Stores) -> None:
    store = store_of(exchange, stores)
    await store.read(TENANT, "frejun")
    exchange.serve(1)
    for _ in range(20):
        await fails(store)
    assert exchange.looks == 1
    exchange.held = exchange.cas[1]
    stores.clock.ahead += LOOK_AFTER_FAILURE + 1
    await fails(store)
    assert (await store.read(TENANT, "frejun")).version == 1
    assert exchange.looks == 2


async def test_a_ca_is_looked_at_every_few_minutes_while_all_is_well(exchange: Exchange, stores: Stores) -> None:
    store = store_of(exchange, stores)
    for _ in range(30):
        stores.clock.ahead += LOOK_EVERY / 10 + 0.1
        assert (await store.read(TENANT, "frejun")).version == 1
    assert 2 <= exchange.looks <= 3
    exchange.held = exchange.cas[0] + exchange.cas[1]  # both, before Vault changes
    stores.clock.ahead += LOOK_EVERY + 1
    await store.read(TENANT, "frejun")
    await asyncio.sleep(0.01)
    exchange.serve(1)
    assert (await store.read(TENANT, "frejun")).version == 1, "no read failed"


@pytest.mark.parametrize(
    "held", [None, "", "garbage", ApiUnreachable("Unreachable", "the API server does not answer")], ids=repr
)
async def test_a_ca_that_is_gone_or_none_leaves_the_one_before(
    exchange: Exchange, stores: Stores, held: str | VoiceKeysError | None
) -> None:
    store = store_of(exchange, stores)
    exchange.held = held
    stores.clock.ahead += LOOK_EVERY + 1
    for _ in range(3):
        assert (await store.read(TENANT, "frejun")).version == 1
    exchange.server.reads.append(hang_up)
    assert (await store.read(TENANT, "frejun")).version == 1
    assert exchange.looks == 1


async def test_a_ca_that_was_no_certificate_from_the_start_is_put_right(exchange: Exchange, stores: Stores) -> None:
    store = stores(exchange.server.address, ca_pem="garbage", read_ca=exchange.read_own)
    await fails(store)
    assert (await store.read(TENANT, "frejun")).version == 1


async def test_a_store_with_its_ca_in_a_config_map_reads_it_again(exchange: Exchange, stores: Stores) -> None:
    spec = parse_store_spec(
        {
            "vault": {"address": exchange.server.address, "caConfigMapRef": {"name": "vault-ca"}},
            "auth": {"kubernetes": {"role": "voicekeys"}},
            "rules": [{"name": "all", "namespaceSelector": {}, "pathPrefixes": ["k"], "environment": "production"}],
        }
    )

    async def made() -> VaultStore:
        return await connect("vault", spec, exchange, observe=lambda *_: None, clock=stores.clock, rng=random.Random(1))

    store = await made()
    stores.made.append(store)
    assert (await store.read(TENANT, "frejun")).version == 1
    exchange.serve(1)
    exchange.held = exchange.cas[1]
    await fails(store)
    assert (await store.read(TENANT, "frejun")).version == 1
    exchange.held = None
    with pytest.raises(Terminal):
        await made()
