"""What the load knows of the cluster: the ready endpoints of each arm's Service, and each arm's pods; by watches.

The callers balance their calls themselves, over the endpoints that the EndpointSlices show as ready: what kube-proxy, a
SIP proxy's dispatcher or an ingress does, with the same information and no later.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from tests.bench.drain.records import Book, Pods

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

ARM_LABEL = "bench.voicekeys.dev/arm"
SERVICE_LABEL = "kubernetes.io/service-name"
Object = dict[str, Any]


class Follower:
    """Lists and watches what a path of the API gives, and keeps it in `objects` by name."""

    def __init__(self, session: aiohttp.ClientSession, path: str, changed: Callable[[], None]) -> None:
        self.objects: dict[str, Object] = {}
        self._session = session
        self._path = path
        self._changed = changed

    async def run(self) -> None:
        """Follow until cancelled; a watch that ends is begun anew with a list."""
        while True:
            try:
                await self._watch(await self._list())
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await asyncio.sleep(0.2)

    async def _list(self) -> str:
        async with self._session.get(self._path) as answer:
            answer.raise_for_status()
            found = await answer.json()
        self.objects = {each["metadata"]["name"]: each for each in found["items"]}
        self._changed()
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, position: str) -> None:
        query = {"watch": "1", "resourceVersion": position, "timeoutSeconds": "3600"}
        async with self._session.get(self._path, params=query) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return
                name = event["object"]["metadata"]["name"]
                if event["type"] == "DELETED":
                    self.objects.pop(name, None)
                else:
                    self.objects[name] = event["object"]
                self._changed()


class Cluster:
    """The arms' endpoints and pods; `run` keeps them up to date.

    Args:
        session: with the API server's address and the credentials.
        namespace: of all arms.
        book: gets each change of an arm's pods.
    """

    def __init__(self, session: aiohttp.ClientSession, namespace: str, book: Book) -> None:
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._slices = Follower(session, slices, lambda: None)
        self._pods = Follower(session, f"/api/v1/namespaces/{namespace}/pods", self._note)
        self._book = book
        self._noted: dict[str, tuple[int, int]] = {}
        self._turn = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._slices.run())
            group.create_task(self._pods.run())

    def choose(self, arm: str, tried: Collection[str]) -> str | None:
        """Return the address of a ready pod, each in its turn; None when there is none that was not tried."""
        found = sorted(self._ready(arm) - set(tried))
        self._turn += 1
        return found[self._turn % len(found)] if found else None

    def _ready(self, arm: str) -> set[str]:
        return {
            address
            for each in self._slices.objects.values()
            if each["metadata"]["labels"].get(SERVICE_LABEL) == arm
            for endpoint in each.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        }

    def _note(self) -> None:
        now = time.time()
        counts: dict[str, list[int]] = {arm: [0, 0] for arm in self._noted}
        for pod in self._pods.objects.values():
            arm = pod["metadata"]["labels"].get(ARM_LABEL, "")
            count = counts.setdefault(arm, [0, 0])
            count[0] += pod["status"].get("phase") not in {"Succeeded", "Failed"}
            count[1] += is_available(pod)
        for arm, (pods, available) in counts.items():
            if self._noted.get(arm) != (pods, available):
                self._noted[arm] = (pods, available)
                self._book.write(Pods(arm, now, pods, available))


def is_available(pod: Object) -> bool:
    """Whether a pod is ready and not being deleted."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def session(api_url: str, ca_file: Path, token: str) -> aiohttp.ClientSession:
    """Return a session with the API server."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(ca_file)))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    headers = {"Authorization": f"Bearer {token}"}
    # A pod as a line of a watch is longer than the usual limit.
    return aiohttp.ClientSession(api_url, headers=headers, connector=connector, timeout=timeout, read_bufsize=1 << 20)
