"""Pods that serve the drain contract, in memory: a test says what each of them answers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voicekeys.model.calls import CallsReport, DrainState, Tally
from voicekeys.model.errors import PORT_CLOSED, AgentRefused, AgentUnreachable
from voicekeys.model.probe import Probe

if TYPE_CHECKING:
    from voicekeys.model.hook import Endpoint


@dataclass(slots=True)
class Serving:
    """One pod's server.

    Args:
        calls: live now.
        state: of its drain.
        closed: whether nobody listens at its port.
        complete: whether every process has reported.
        checks_token: whether it refuses a wrong token.
        oldest_seconds: how long the oldest of its calls lasts.
    """

    calls: int = 0
    state: DrainState = DrainState.SERVING
    closed: bool = False
    complete: bool = True
    checks_token: bool = True
    completed: int = 0
    forced: int = 0
    aborted: int = 0
    oldest_seconds: float | None = 1.0
    revision: int = 1
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Agents:
    """Satisfies the ``Agents`` port: by the pod's name."""

    def __init__(self) -> None:
        self.pods: dict[str, Serving] = {}
        self.released: list[str] = []

    def serve(self, pod: str, calls: int = 0, **settings: object) -> Serving:
        """Have a pod serve the contract."""
        self.pods[pod] = Serving(calls, **settings)  # type: ignore[arg-type]
        return self.pods[pod]

    def change(self, pod: str, **fields: object) -> None:
        """Change what a pod answers, and tell those who wait for it."""
        serving = self.pods[pod]
        for name, value in fields.items():
            setattr(serving, name, value)
        serving.revision += 1
        serving.changed.set()
        serving.changed = asyncio.Event()

    async def calls(self, pod: Endpoint, since: int | None = None, wait: float = 0.0) -> CallsReport:
        serving = self._found(pod)
        if since == serving.revision and wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await serving.changed.wait()
            serving = self._found(pod)
        return self._report(serving)

    def _found(self, pod: Endpoint) -> Serving:
        serving = self.pods.get(pod.pod)
        if serving is None:
            raise AgentUnreachable("DrainUnreachable", f"pod {pod.pod} does not answer at port {pod.port} in time")
        if serving.closed:
            raise AgentUnreachable(PORT_CLOSED, f"pod {pod.pod} refuses connections to port {pod.port}")
        return serving

    @staticmethod
    def _report(serving: Serving) -> CallsReport:
        started = serving.calls + serving.completed + serving.forced + serving.aborted
        return CallsReport(
            instance="one",
            revision=serving.revision,
            state=serving.state,
            cordoned=False,
            active=serving.calls,
            oldest_seconds=serving.oldest_seconds if serving.calls else None,
            complete=serving.complete,
            leaked=0,
            tally=Tally(started, serving.completed, 0, serving.forced, serving.aborted),
            checks_token=serving.checks_token,
        )

    async def release(self, pod: Endpoint) -> int:
        serving = self._found(pod)
        if serving.state is DrainState.SERVING:
            raise AgentRefused("NotDraining", f"pod {pod.pod} is not draining: there is nothing to release")
        self.released.append(pod.pod)
        return serving.calls

    async def probe(self, pod: Endpoint) -> Probe:
        serving = self._found(pod)
        return Probe(self._report(serving), checks_token=serving.checks_token, takes_token=True)
