"""The CA of a store in a ConfigMap: Vault's certificate is exchanged, then the CA, and nobody restarts anything."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.http import Http
from tests.lab.processes import Ports, Processes
from tests.lab.vault import Vault
from tests.reconcilers.harness import HOME
from tests.reconcilers.test_logins import own_secret
from tests.reconcilers.world import is_true

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.reconcilers.world import World

pytestmark = pytest.mark.simulated_nodes


@contextlib.contextmanager
def two_vaults(world: World) -> Iterator[tuple[Vault, Vault]]:
    """Two Vaults with a CA each; the first has a KV mount."""
    with contextlib.ExitStack() as ends:
        ports = Ports()
        ends.callback(ports.close)
        made = []
        for _ in range(2):
            folder = Path(ends.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            processes = Processes(folder, remove=False)
            ends.callback(processes.close)
            made.append(Vault(world.lab.binaries, processes, ports, folder))
            made[-1].launch(tls=True)
        made[0].initialise()
        yield made[0], made[1]


def folder_of(vault: Vault) -> Path:
    assert vault.ca_file is not None
    return vault.ca_file.parent


def publish(world: World, name: str, vault: Vault) -> None:
    metadata = {"name": name, "namespace": HOME}
    data = {"ca.crt": (folder_of(vault) / "vault-ca.pem").read_text()}
    world.lab.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


@pytest.mark.tenant(reader=False)
def test_an_exchanged_ca_is_taken_up_without_a_restart(world: World) -> None:
    with two_vaults(world) as (vault, other):
        exchange(world, vault, other)


def exchange(world: World, vault: Vault, other: Vault) -> None:
    path, name = f"{world.namespace}/key", f"ca-{world.namespace}"
    vault.put(path, {"api_key": "under-the-first-ca"})
    publish(world, name, vault)
    credential = own_secret(world, "token", vault.token)
    world.store(
        vault={"insecure": None, "address": vault.address, "caConfigMapRef": {"name": name}},
        auth={"kubernetes": None, "token": {"secretRef": {"name": credential}}},
    )
    world.bind()
    world.ready(version=1)
    vault.kill()
    for file in ("vault-ca.pem", "vault-cert.pem", "vault-key.pem"):
        (folder_of(vault) / file).write_bytes((folder_of(other) / file).read_bytes())
    vault._http = Http(vault.address, vault.ca_file)
    vault.restart()
    raw = world.until("SourceReachable", "False", "TLSFailed", seconds=60)
    assert is_true(raw, "Ready")
    secret = world.get("Secret", "voice")
    assert secret is not None
    world.delete(secret)
    world.wait("it is back from memory", lambda: world.data() == {"api_key": b"under-the-first-ca"})
    publish(world, name, vault)
    world.until("SourceReachable", "True", seconds=90)
    vault.put(path, {"api_key": "under-the-second-ca"})
    world.ready(version=2, seconds=30)
    assert world.data() == {"api_key": b"under-the-second-ca"}
