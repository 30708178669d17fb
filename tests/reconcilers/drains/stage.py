"""A `Drains` with a real client, what it said, and pods as the API server would show them."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from tests import gen
from tests.agent.support import PATIENCE, TOKEN
from tests.clients.agents.pods import PORT, client, harmful_pod
from voicekeys.clients.clock import SystemClock
from voicekeys.model.identity import Name, WorkloadId
from voicekeys.reconcilers.drains import Drains

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from voicekeys.clients.agents import AgentsClient
    from voicekeys.model.hook import Endpoint
    from voicekeys.model.workload import Pod

FREJUN = Name("voice", "frejun")
TWILIO = Name("voice", "twilio")
RECEPTIONIST = WorkloadId("Deployment", "voice", "receptionist")
CLERK = WorkloadId("Deployment", "voice", "clerk")
GONE = gen.terminating(gen.at(1800))


def pod_at(endpoint: Endpoint, *modifiers: gen.Modifier, token: str = TOKEN) -> Pod:
    """A pod whose hook leads to this endpoint."""
    headers = [{"name": "X-Voicekeys-Token", "value": token}]
    get = {"path": "/voicekeys/v1/drain", "port": endpoint.port, "httpHeaders": headers}
    container = {"name": "agent", "lifecycle": {"preStop": {"httpGet": get}}}
    hook = gen.put("spec.containers", [container])
    return gen.pod(endpoint.pod, hook, gen.put("status.podIP", endpoint.ip), *modifiers)


@dataclass
class Stage:
    """What a test works with; ``wakes`` has the moment, the workload and the bindings of each wake."""

    drains: Drains
    agents: AgentsClient
    wakes: list[tuple[float, WorkloadId, set[Name]]] = field(default_factory=list)

    def follow(self, *pods: Pod, workload: WorkloadId = RECEPTIONIST, binding: Name = FREJUN) -> None:
        self.drains.follow(workload, binding, pods)

    def calls(self, pod: Pod) -> int | None:
        sight = self.drains.sight(pod.uid)
        return sight.calls if sight is not None else None

    def fails(self, pod: Pod) -> str | None:
        sight = self.drains.sight(pod.uid)
        return sight.error.reason if sight is not None and sight.error is not None else None


@asynccontextmanager
async def stage(waits: int = 48, **options: Any) -> AsyncIterator[Stage]:
    """Make one, and see that nothing of it is left afterwards."""
    before = asyncio.all_tasks()
    wakes: list[tuple[float, WorkloadId, set[Name]]] = []

    def woken(workload: WorkloadId, bindings: Collection[Name]) -> None:
        wakes.append((time.monotonic(), workload, set(bindings)))

    agents = client(**options)
    drains = Drains(agents, SystemClock(), Random(7), woken, waits=waits)
    yield Stage(drains, agents, wakes)
    await drains.close()
    await agents.close()
    left = {task for task in asyncio.all_tasks() - before if task.get_name().startswith("calls of")}
    assert not left
    heard = len(wakes)
    await asyncio.sleep(0.05)
    assert len(wakes) == heard


async def until(look: Callable[[], Any], what: str = "") -> Any:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, f"never came true: {what or look}"
        await asyncio.sleep(0.005)
    return found


class Contract:
    """An agent of few words: the contract's ``/calls``, as any language may serve it, and a count of who asks."""

    def __init__(self, **document: Any) -> None:
        self.document: dict[str, Any] = {
            "contract": 1,
            "instance": "i1",
            "revision": 1,
            "state": "serving",
            "active": 0,
            "complete": True,
            "token": True,
        } | document
        self.asked: list[str] = []
        self.at_once = 0
        self.most = 0
        self.changed = asyncio.Event()
        self.waits = True

    def say(self, **document: Any) -> None:
        self.document |= {"revision": self.document["revision"] + 1} | document
        self.changed.set()
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.asked.append(path)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            if self.waits and f"since={self.document['revision']}" in path:
                await self._pause(self.changed, reader)
            self.at_once -= 1
            body = json.dumps(self.document).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()

    @staticmethod
    async def _pause(changed: asyncio.Event, reader: asyncio.StreamReader) -> None:
        waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(reader.read(1))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    @asynccontextmanager
    async def pod(self, name: str = "receptionist-a", *modifiers: gen.Modifier) -> AsyncIterator[Pod]:
        async with harmful_pod(self.serve, name) as endpoint:
            yield pod_at(endpoint, *modifiers)


__all__ = ["PORT"]
