"""Stores that tests make, the clock that they hold, and the servers that they read from."""

from __future__ import annotations

import collections
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.clients.vault.faulty import FaultyVault
from tests.lab.processes import Ports, Processes
from tests.lab.vault import Vault
from voicekeys.clients.vault import AuthMethod, KubernetesLogin, StaticToken, VaultAccess, VaultStore
from voicekeys.model.identity import Identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.lab import Lab

KUBERNETES = KubernetesLogin("kubernetes", "voicekeys", "vault")


class Held:
    """A clock that real time moves and tests push ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        """Wall time."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead


@dataclass
class Stores:
    """Makes stores and remembers what they did: `seen` counts ``(operation, outcome)``, `minted` lists identities."""

    clock: Held = field(default_factory=Held)
    seen: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    minted: list[tuple[Identity, str]] = field(default_factory=list)
    made: list[VaultStore] = field(default_factory=list)
    mint: Callable[[Identity, str], str] = lambda identity, _: f"canary-jwt-of-{identity.namespace}"

    def __call__(self, address: str, auth: AuthMethod = KUBERNETES, **options: Any) -> VaultStore:
        """Make a store."""
        access = VaultAccess(
            address,
            options.get("namespace"),
            options.get("mount", "secret"),
            options.get("ca_pem"),
            options.get("timeout", 5.0),
            auth,
            options.get("read_ca"),
        )
        store = VaultStore(
            access,
            mint_token=self._mint,
            observe=self._observe,
            clock=self.clock,
            rng=random.Random(7),
        )
        self.made.append(store)
        return store

    async def _mint(self, identity: Identity, audience: str) -> str:
        self.minted.append((identity, audience))
        return self.mint(identity, audience)

    def _observe(self, operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen[operation, str(outcome)] += 1

    def requests(self, operation: str) -> int:
        """Requests of an operation, whatever came of them."""
        return sum(number for (name, _), number in self.seen.items() if name == operation)


@pytest_asyncio.fixture
async def stores() -> AsyncIterator[Stores]:
    """Make stores; they are closed after the test."""
    made = Stores()
    yield made
    for each in made.made:
        await each.close()


@pytest_asyncio.fixture
async def faulty() -> AsyncIterator[FaultyVault]:
    """Start a faulty Vault."""
    server = FaultyVault()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def lab_stores(stores: Stores, lab: Lab) -> Stores:
    """Make stores whose ServiceAccount tokens the lab's API server mints."""
    stores.mint = lambda identity, audience: lab.cluster.token_for(
        identity.namespace, identity.service_account, audience=audience
    )
    return stores


@pytest.fixture
def tenant(namespace: str) -> Identity:
    """Give the reader of the test's own namespace."""
    return Identity(namespace, "voicekeys-reader")


@pytest.fixture(scope="module")
def bare_vault(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Vault]]:
    """Start Vaults of the test's own, without a cluster: ``bare_vault(tls=True, initialise=False)``."""
    folder: Path = tmp_path_factory.mktemp("vaults")
    ports = Ports()
    started: list[Processes] = []

    def start(*, tls: bool, initialise: bool) -> Vault:
        home = folder / str(len(started))
        home.mkdir()
        processes = Processes(home, remove=True)
        started.append(processes)
        vault = Vault(lab.binaries, processes, ports, home)
        vault.launch(tls=tls)
        if initialise:
            vault.initialise()
        return vault

    yield start
    for processes in started:
        processes.close()
    ports.close()


def fixed(text: str) -> StaticToken:
    """Log in with one token."""

    async def token() -> str:
        return text

    return StaticToken(token)
