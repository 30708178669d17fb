"""A session to the lab's API server, and one to a server that misbehaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.clients.kube.faulty import FaultServer
from voicekeys.clients.kube.cluster import KubeCluster
from voicekeys.clients.kube.credentials import Credentials, load_credentials
from voicekeys.clients.kube.session import KubeSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab import Lab

CRDS = Path(__file__).parents[3] / "crds"


@pytest_asyncio.fixture
async def session(lab: Lab) -> AsyncIterator[KubeSession]:
    """The lab's API server, as its administrator."""
    connected = KubeSession(load_credentials(str(lab.kubeconfig)))
    yield connected
    await connected.close()


@pytest_asyncio.fixture
async def cluster(session: KubeSession, namespace: str) -> KubeCluster:
    """The same, as the reconcilers see it; the operator's own namespace is the test's."""
    return KubeCluster(session, namespace=namespace)


@pytest_asyncio.fixture
async def faulty() -> AsyncIterator[FaultServer]:
    """The server that misbehaves."""
    async with FaultServer() as server:
        yield server


@pytest_asyncio.fixture
async def shaky(faulty: FaultServer) -> AsyncIterator[KubeSession]:
    """A session to it."""
    connected = KubeSession(Credentials(faulty.url, authorization="Bearer canary-token"), timeout=2.0)
    yield connected
    await connected.close()


@pytest.fixture(scope="session")
def crds(lab: Lab) -> None:
    """Our two kinds, served."""
    for file in sorted(CRDS.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            lab.apply(file)


def secret(namespace: str, name: str, uid: str = "", **data: str) -> dict[str, Any]:
    """A manifest to apply; ``data`` is base64 text already."""
    metadata = {"name": name, "namespace": namespace, **({"uid": uid} if uid else {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
