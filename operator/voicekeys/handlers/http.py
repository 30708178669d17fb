"""The operator's own HTTP server: ``/metrics``, ``/healthz``, ``/readyz`` and ``POST /notify``, on one port.

Runs on the operator's event loop on purpose: when the loop stands still, no probe is answered, and the kubelet acts.
``__main__`` builds an `HttpServer` and starts it on every replica, leader or not; what a standby must not do is
answered with 503. Bytes come in and names go out: what to read again is decided behind `Hooks.notify`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from voicekeys.policies import notify as policy
from voicekeys.telemetry import state as state_metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Handler

    from voicekeys.reconcilers.ports import Clock
    from voicekeys.telemetry.metrics import Metrics
    from voicekeys.telemetry.state import StateView

    Check = Callable[[], str | None]
    """A health check: None while all is well, else the reason in words."""

MAX_BODY: Final = 16 * 1024
BODY_SECONDS: Final = 10
SCRAPE_SECONDS: Final = 30
TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
NOT_LEADER = policy.Refusal(503, "not the leader: send it to the Service, which reaches the leader")
NO_KEY = policy.Refusal(
    503,
    "no key to check signatures with: the operator's notify Secret is missing, or its key has fewer than "
    f"{policy.MIN_KEY_BYTES} bytes",
)
TOO_MANY = policy.Refusal(429, "too many requests: slow down")
TOO_SLOW = policy.Refusal(408, f"the body did not arrive within {BODY_SECONDS} s")
TOO_LARGE = policy.Refusal(413, f"the body is larger than {MAX_BODY} bytes")
UNKNOWN = policy.Refusal(404, "no binding reads this path of this store")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the server asks of the rest of the operator. All but ``key`` return at once.

    Args:
        health: checks of ``/healthz`` by name: is this process alive?
        ready: checks of ``/readyz`` by name: has a store answered, or is it known to be down? A standby is ready.
        key: reads the key of ``POST /notify`` from its Secret; None where there is none.
        since: Unix seconds of when this process began to lead: signatures that are older were for another one.
        notify: reads a path again now; gives the number of bindings that wait for it, 0 for an unknown path or store.
    """

    health: Mapping[str, Check]
    ready: Mapping[str, Check]
    key: Callable[[], Awaitable[bytes | None]]
    since: Callable[[], float]
    notify: Callable[[str, str], int]


class HttpServer:
    """Serves probes, metrics and notifications.

    Args:
        metrics: counters of the process.
        state: what is written at scrape; also says who leads.
        hooks: see `Hooks`.
        clock: wall time for signatures, monotonic time for rates.
        host: address to listen on; empty for all.
        port: port to listen on; 0 takes a free one.
    """

    def __init__(
        self, metrics: Metrics, state: StateView, hooks: Hooks, clock: Clock, *, host: str = "", port: int = 8080
    ) -> None:
        self._metrics = metrics
        self._state = state
        self._hooks = hooks
        self._clock = clock
        self._address = (host or None, port)
        self._replays = policy.ReplayWindow()
        self._senders = policy.RateLimit(policy.SENDER_RATE, policy.SENDER_BURST)
        self._total = policy.RateLimit(policy.TOTAL_RATE, policy.TOTAL_BURST)
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; gives the port.

        Raises:
            OSError: the address is taken or not ours.
        """
        self._runner = web.AppRunner(
            self.app(),
            access_log=None,  # probes and scrapes would be most of all lines
            auto_decompress=False,  # what is signed is what was sent
            lingering_time=1.0,  # for a body that nobody reads any more
            shutdown_timeout=2.0,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening; running requests get two seconds."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def app(self) -> web.Application:
        """Build the routes."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_plain_errors])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape, allow_head=False)
        app.router.add_post("/notify", self._notify)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _report(self._hooks.health)

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _report(self._hooks.ready)

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        """Stream the metrics; between chunks the event loop does other work."""
        chunks = state_metrics.exposition(self._state)
        head = self._metrics.exposition() + next(chunks)  # what can fail fails before the answer begins
        response = web.StreamResponse(headers={"Content-Type": TEXT_FORMAT})
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                await response.prepare(request)
                await response.write(head.encode())
                for chunk in chunks:
                    await response.write(chunk.encode())
                    await asyncio.sleep(0)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # half a scrape must not look like a whole one
        return response

    async def _notify(self, request: web.Request) -> web.Response:
        outcome = await self._believe(request)
        if isinstance(outcome, policy.Refusal):
            answer = _refuse(outcome)
        else:
            bindings = self._hooks.notify(outcome.store, outcome.path)
            _log.info("notified of a change", store=outcome.store, path=outcome.path, bindings=bindings)
            answer = web.json_response({"bindings": bindings}, status=202) if bindings else _refuse(UNKNOWN)
        self._metrics.notify(answer.status)
        return answer

    async def _believe(self, request: web.Request) -> policy.Notice | policy.Refusal:
        """Check a request from cheap to dear. Only who holds the key learns which stores and paths exist."""
        if not self._senders.admit(request.remote or "", self._clock.monotonic()):
            return TOO_MANY
        if not self._state.leader():
            return NOT_LEADER
        key = await self._hooks.key()
        if key is None or len(key) < policy.MIN_KEY_BYTES:
            return NO_KEY
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            return TOO_SLOW
        except web.HTTPRequestEntityTooLarge:
            return TOO_LARGE
        outcome = self._verify(request.headers.get(policy.SIGNATURE_HEADER), body, key)
        if isinstance(outcome, policy.Refusal):
            _log.info("notification refused", remote=request.remote, status=outcome.status, why=outcome.message)
        return outcome

    def _verify(self, header: str | None, body: bytes, key: bytes) -> policy.Notice | policy.Refusal:
        now = self._clock.now().timestamp()
        signed = policy.check_signature(header, body, key, now)
        if isinstance(signed, policy.Refusal):
            return signed
        if not self._total.admit("", self._clock.monotonic()):
            return TOO_MANY
        return self._replays.admit(signed, now, self._hooks.since()) or policy.parse_notice(body)


class Heartbeat:
    """Knows how late the event loop is: a task that wants to run every second, and a check of when it last did.

    Args:
        clock: monotonic time.
        limit: seconds without a beat that count as a fault.
    """

    INTERVAL: Final = 1.0

    def __init__(self, clock: Clock, limit: float = 30.0) -> None:
        self._clock = clock
        self._limit = limit
        self._last = clock.monotonic()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._last = self._clock.monotonic()
            await asyncio.sleep(self.INTERVAL)

    def check(self) -> str | None:
        """Give the reason when the last beat is too old; for `Hooks.health`."""
        age = self._clock.monotonic() - self._last
        return None if age <= self._limit else f"the event loop stood still for {age:.0f} s"


def _report(checks: Mapping[str, Check]) -> web.Response:
    reasons = {name: _ask(check) for name, check in checks.items()}
    ok = not any(reasons.values())
    return web.json_response(
        {"ok": ok, "checks": {name: reason or "ok" for name, reason in reasons.items()}}, status=200 if ok else 503
    )


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as fault:  # noqa: BLE001 - a broken check is a failed check, whatever broke it
        return f"the check itself failed: {type(fault).__name__}"


def _refuse(refusal: policy.Refusal) -> web.Response:
    headers = {"Retry-After": "10"} if refusal.status in {429, 503} else None
    response = web.json_response({"error": refusal.message}, status=refusal.status, headers=headers)
    if refusal in {TOO_SLOW, TOO_LARGE}:
        response.force_close()  # what was not read of this request would be taken for the next one
    return response


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors as JSON, without traceback or version."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        return web.json_response({"error": refusal.reason}, status=refusal.status, headers=_allow(refusal))
    except ConnectionError:
        raise  # the peer has gone: aiohttp knows how to end it
    except Exception:  # noqa: BLE001 - whatever broke, the server goes on, and the log has it
        _log.exception("request failed", method=request.method, path=request.path)
        return web.json_response({"error": "internal error, see the operator's log"}, status=500)


def _allow(refusal: web.HTTPException) -> dict[str, str]:
    return {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else {}
