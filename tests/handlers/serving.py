"""A running HTTP server with stand-ins for the rest of the operator, talked to over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import aiohttp

from tests.telemetry.states import Rows
from voicekeys.handlers.http import Hooks, HttpServer
from voicekeys.policies import notify
from voicekeys.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from voicekeys.telemetry.state import StateView

KEY = b"0123456789abcdef0123456789abcdef"
BODY = b'{"store":"vault","path":"voice/production/frejun"}'


@dataclass
class HandClock:
    """Time that a test moves."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


@dataclass
class Operator:
    """What the server asks of the operator, as a test sets it.

    Args:
        paths: bindings by (store, path).
        notified: what was notified, in order.
        trouble: reasons that the checks give, by check.
    """

    key: bytes | None = KEY
    paths: dict[tuple[str, str], int] = field(default_factory=lambda: {("vault", "voice/production/frejun"): 3})
    notified: list[tuple[str, str]] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)
    key_error: Exception | None = None
    since: float = 0.0

    def hooks(self) -> Hooks:
        return Hooks(
            health={"loop": lambda: self.trouble.get("loop"), "watch": lambda: self.trouble.get("watch")},
            ready={"store": lambda: self.trouble.get("store"), "broken": self._maybe_broken},
            key=self._key,
            since=lambda: self.since,
            notify=self._notify,
        )

    async def _key(self) -> bytes | None:
        if self.key_error:
            raise self.key_error
        return self.key

    def _notify(self, store: str, path: str) -> int:
        self.notified.append((store, path))
        return self.paths.get((store, path), 0)

    def _maybe_broken(self) -> str | None:
        return None if "broken" not in self.trouble else str(1 / 0)


@dataclass
class Served:
    """A server under test: its address, its clock, its operator, its metrics."""

    url: str
    port: int
    http: aiohttp.ClientSession
    clock: HandClock
    operator: Operator
    metrics: Metrics

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def notify(self, body: bytes = BODY, header: str | None = None) -> tuple[int, dict[str, object]]:
        """Post a notification, signed with the right key and the present time unless a header is given."""
        signature = notify.sign(KEY, int(self.clock.now().timestamp()), body) if header is None else header
        headers = {notify.SIGNATURE_HEADER: signature} if signature else {}
        async with self.http.post(self.url + "/notify", data=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def raw(self, data: bytes, *, half_close: bool = True) -> bytes:
        """Send bytes as they are; give what comes back until the server closes, at most two seconds."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if half_close and writer.can_write_eof():
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 2)
        except (ConnectionError, TimeoutError):
            return b""
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(
    state: StateView | None = None, change: Callable[[Operator], None] | None = None
) -> AsyncIterator[Served]:
    """Start a server on a free port; stop it afterwards."""
    clock, operator, metrics = HandClock(), Operator(), Metrics("1.2.3")
    if change:
        change(operator)
    server = HttpServer(metrics, state or Rows(), operator.hooks(), clock, host="127.0.0.1", port=0)
    port = await server.start()
    async with aiohttp.ClientSession() as http:
        try:
            yield Served(f"http://127.0.0.1:{port}", port, http, clock, operator, metrics)
        finally:
            await server.stop()
