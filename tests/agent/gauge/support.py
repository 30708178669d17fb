"""An agent and the sidecar beside it, for tests: the agent is a process of its own, so is the sidecar or its loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.agent.gauge.shapes import SYSTEMS
from tests.agent.support import TOKEN, Pod, Program, eventually, free_port, running
from voicekeys.agent.gauge.fetch import parse_url
from voicekeys.agent.gauge.number import parse_metric, parse_pointer
from voicekeys.agent.gauge.settings import Settings, Source
from voicekeys.agent.gauge.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STANDIN = Path(__file__).parent / "programs" / "standin.py"


class StandIn:
    """An agent of one system, that runs."""

    def __init__(self, program: Program, system: str, port: int) -> None:
        self.program = program
        self.shape = SYSTEMS[system]
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.shape.path}"

    def tell(self, line: str) -> None:
        self.program.tell(line)
        self.program.hear("done")

    def calls(self, number: int) -> None:
        self.tell(f"calls {number}")

    def fault(self, name: str) -> None:
        self.tell(f"fault {name}")

    def die(self) -> None:
        self.program.tell("die")
        self.program.end()


@contextmanager
def standin(system: str = "go-expvar", port: int | None = None, calls: int = 0) -> Iterator[StandIn]:
    """Run an agent."""
    port = free_port() if port is None else port
    with running(STANDIN, system, str(port)) as program:
        program.hear("serving")
        agent = StandIn(program, system, port)
        if calls:
            agent.calls(calls)
        yield agent


def source(agent: StandIn, **changes: object) -> Source:
    """Where the agent's number is."""
    shape = agent.shape
    where = parse_pointer(shape.pointer or "") if shape.metric is None else parse_metric(shape.metric)
    witness = None if shape.witness is None else parse_pointer(shape.witness)
    values: dict[str, Any] = {"authorization": shape.authorization, "timeout": 1.0, **changes}
    return Source(parse_url(agent.url), where, witness, **values)


class GaugePod(Pod):
    """A sidecar in a thread of this process, with short times."""

    def __init__(self, settings: Settings, others_have_sockets: Callable[[], bool]) -> None:
        super().__init__(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.sidecar = self._run(self._made(settings, others_have_sockets))
        self._run(self.sidecar.start())
        self.port = self.sidecar.port

    async def _made(self, settings: Settings, others_have_sockets: Callable[[], bool]) -> Sidecar:
        return Sidecar(settings, others_have_sockets)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self.sidecar.close)
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.02, self._loop.stop)
        self._thread.join(30)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def shows(self, **wanted: object) -> dict[str, Any]:
        """Wait until ``/calls`` says so, and return it."""

        def look() -> dict[str, Any]:
            calls = self.calls()
            said = {**calls, "error": calls["gauge"]["error"]}
            return calls if all(said[name] == value for name, value in wanted.items()) else {}

        return eventually(look, f"{wanted}, last {self.calls()}")


@contextmanager
def gauge(
    agent: StandIn, others_have_sockets: Callable[[], bool] = lambda: True, **changes: object
) -> Iterator[GaugePod]:
    """Run a sidecar beside an agent."""
    short: dict[str, Any] = {
        "source": source(agent),
        "port": 0,
        "token": TOKEN,
        "settle": 0.1,
        "quiet": 0.15,
        "busy": 0.03,
        "rest": 0.2,
        "fresh": 0.5,
        **changes,
    }
    pod = GaugePod(Settings(**short), others_have_sockets)
    try:
        yield pod
    finally:
        pod.close()
