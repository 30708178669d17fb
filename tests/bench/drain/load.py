"""The load, a process of its own: SIP calls and streams at a constant rate, on the arm that the benchmark says.

    python -m tests.bench.drain.load SETTINGS.json

Orders come on stdin, one JSON object a line: `{"arm": NAME}` sends new calls there (the first one begins the load),
`{"long": SECONDS}` places one long call of each kind on that arm, `{"stop": true}` ends the load when the last call has
ended. Each is answered by one line on stdout, the last one by what the load knows of itself. It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.bench.drain.dispatcher import Dispatcher
from tests.bench.drain.follow import Cluster, session
from tests.bench.drain.records import Book
from tests.bench.drain.sipp import Sipp
from tests.bench.drain.streams import Streams

LAG_SECONDS = 0.02


@dataclass(frozen=True)
class Settings:
    """Of a load. `rate` is of all calls in a second, half of them SIP; `media` are two ports on loopback."""

    api_url: str
    ca_file: str
    token: str
    namespace: str
    host: str
    folder: str
    rate: float
    shortest: float
    longest: float
    media: tuple[int, int]

    @property
    def book(self) -> Path:
        """Where calls and pods are written down."""
        return Path(self.folder, "book.jsonl")


class Load:
    """Both kinds of callers."""

    def __init__(self, settings: Settings, cluster: Cluster, book: Book) -> None:
        self.settings = settings
        self.arm = ""
        self.lag = 0.0
        """How late this process was at the worst, seconds: gaps of audio that long are its own."""
        self._streams = Streams(cluster, book)
        self._dispatcher = Dispatcher(cluster, book, settings.host, lambda: self.arm)
        self._names = itertools.count(1)
        self._random = random.Random(4)
        self._sipp: list[Sipp] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._placing: asyncio.Task[None] | None = None
        self._port = 0

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what a line of stdin says."""
        if "arm" in order:
            self.arm = order["arm"]
            if self._placing is None:
                await self._begin()
        if "long" in order:
            await self._place_long(order["long"])
        return await self._stop() if "stop" in order else {}

    async def _begin(self) -> None:
        self._port = await self._dispatcher.start()
        sipp = self._new_sipp("sipp", self.settings.media[0])
        await sipp.place(self.settings.rate / 2, self.settings.shortest, self.settings.longest)
        self._placing = asyncio.create_task(self._place_streams())

    async def _place_streams(self) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(self.settings.rate / 2))
            seconds = self._random.uniform(self.settings.shortest, self.settings.longest)
            self._keep(self._streams.call(f"stream-{next(self._names)}", self.arm, seconds))

    async def _place_long(self, seconds: float) -> None:
        await self._new_sipp("sipp-long", self.settings.media[1]).place_one(seconds)
        self._keep(self._streams.call("stream-long", self.arm, seconds, long=True))

    def _new_sipp(self, name: str, media: int) -> Sipp:
        self._sipp.append(Sipp(Path(self.settings.folder), name, self._port, media))
        return self._sipp[-1]

    def _keep(self, call: Any) -> None:
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _stop(self) -> dict[str, Any]:
        if self._placing is not None:
            self._placing.cancel()
        # The long calls have ended: the benchmark waits for them.
        counts = [await sipp.stop() for sipp in self._sipp]
        while self._calls or self._dispatcher.live:
            await asyncio.sleep(0.1)
        await self._streams.close()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        total = {name: sum(count[name] for count in counts) for name in ("created", "successful", "failed")}
        cpu = round(usage.ru_utime + usage.ru_stime, 1)
        return {"sipp": total, "load_process": {"cpu_seconds": cpu, "worst_lag_ms": round(1000 * self.lag)}}

    async def watch_lag(self) -> None:
        """Measure how late this process is, until cancelled."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.lag = max(self.lag, time.monotonic() - due)


async def main(settings: Settings) -> None:
    """Do what stdin says until it ends."""
    loop, orders = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    with settings.book.open("a") as file:
        book = Book(file)
        async with session(settings.api_url, Path(settings.ca_file), settings.token) as api:
            cluster = Cluster(api, settings.namespace, book)
            load = Load(settings, cluster, book)
            others = [asyncio.create_task(cluster.run()), asyncio.create_task(load.watch_lag())]
            async for line in orders:
                print(json.dumps(await load.obey(json.loads(line))), flush=True)
            for task in others:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*others)


class LoadProcess:
    """The program above as a process; for a `with` block."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        file = Path(settings.folder, "settings.json")
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(settings)))
        argv = [sys.executable, "-m", "tests.bench.drain.load", str(file)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def place_on(self, arm: str) -> None:
        """Send new calls to an arm."""
        self._ask(arm=arm)

    def place_long(self, seconds: float) -> None:
        """Place a long call of each kind on the current arm."""
        self._ask(long=seconds)

    def stop(self) -> dict[str, Any]:
        """Place no more, wait until all calls have ended, return what the load knows of itself."""
        return self._ask(stop=True)

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(main(Settings(**given | {"media": tuple(given["media"])})))
