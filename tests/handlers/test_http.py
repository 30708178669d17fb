"""Probes and metrics over real sockets, and a server that survives whatever is sent to it."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.handlers.serving import HandClock, Operator, serving
from tests.telemetry.states import Many, Rows
from voicekeys.handlers import http
from voicekeys.handlers.http import MAX_BODY, TEXT_FORMAT, Heartbeat, Hooks, HttpServer
from voicekeys.telemetry.metrics import Metrics
from voicekeys.telemetry.state import BindingRow

pytestmark = pytest.mark.asyncio


async def test_healthy_and_ready() -> None:
    async with serving() as served:
        assert await served.get("/healthz") == (200, '{"ok": true, "checks": {"loop": "ok", "watch": "ok"}}')
        assert (await served.get("/readyz"))[0] == 200


@pytest.mark.parametrize(("path", "check"), [("/healthz", "loop"), ("/healthz", "watch"), ("/readyz", "store")])
async def test_a_fault_is_named(path: str, check: str) -> None:
    async with serving() as served:
        served.operator.trouble[check] = "no event for 92 s"
        status, text = await served.get(path)
        assert status == 503
        assert json.loads(text)["checks"][check] == "no event for 92 s"
        served.operator.trouble.clear()
        assert (await served.get(path))[0] == 200


async def test_a_check_that_breaks_is_a_fault() -> None:
    async with serving() as served:
        served.operator.trouble["broken"] = "yes"
        status, text = await served.get("/readyz")
        assert (status, json.loads(text)["checks"]["broken"]) == (503, "the check itself failed: ZeroDivisionError")


async def test_metrics_of_process_and_state() -> None:
    async with serving(Rows([BindingRow("voice", "frejun", "vault", "production", ready=True)])) as served:
        async with served.http.get(served.url + "/metrics") as answer:
            assert answer.headers["Content-Type"] == TEXT_FORMAT
            text = await answer.text()
        names = {family.name for family in text_string_to_metric_families(text)}
        assert {
            "voicekeys_build_info",
            "voicekeys_binding_ready",
            "voicekeys_leader",
            "voicekeys_vault_requests",
        } <= names
        assert (
            'voicekeys_binding_ready{namespace="voice",name="frejun",store="vault",environment="production"} 1\n'
            in text
        )


async def test_a_large_scrape_lets_others_in() -> None:
    """While 10,000 bindings are written out, a probe is answered, and no turn of the loop takes long."""
    async with serving(Many(10_000)) as served:
        longest = 0.0

        async def watch_the_loop() -> None:
            nonlocal longest
            while True:
                start = time.perf_counter()
                await asyncio.sleep(0)
                longest = max(longest, time.perf_counter() - start)

        watcher = asyncio.create_task(watch_the_loop())
        scrape = asyncio.create_task(served.get("/metrics"))
        await asyncio.sleep(0.02)
        assert (await served.get("/healthz"))[0] == 200
        assert not scrape.done()
        status, text = await scrape
        watcher.cancel()
        assert status == 200
        assert text.count("voicekeys_binding_ready{") == 10_000
        assert longest < 1


async def test_a_scraper_that_goes_away_is_survived() -> None:
    async with serving(Many(5_000)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.read(1000)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        assert (await served.get("/metrics"))[0] == 200


async def test_a_scraper_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a scrape must not look like a whole one: the stream breaks instead of ending."""
    monkeypatch.setattr(http, "SCRAPE_SECONDS", 0.3)
    async with serving(Many(30_000)) as served:
        async with served.http.get(served.url + "/metrics") as answer:
            assert answer.status == 200
            time.sleep(0.5)  # the loop stands still: nobody reads, nobody writes
            with pytest.raises(aiohttp.ClientError):
                await answer.text()
        monkeypatch.undo()
        assert (await served.get("/healthz"))[0] == 200


async def test_a_state_that_breaks_is_an_error_not_half_a_scrape() -> None:
    class Broken(Rows):
        def bindings(self) -> list[BindingRow]:
            raise RuntimeError

    async with serving(Broken()) as served:
        assert (await served.get("/metrics"))[0] == 500


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/../etc/passwd", 404, None),
        ("POST", "/metrics", 405, "GET"),
        ("DELETE", "/healthz", 405, "GET,HEAD"),
        ("GET", "/notify", 405, "POST"),
    ],
)
async def test_other_paths_and_methods(method: str, path: str, status: int, allow: str | None) -> None:
    async with serving() as served, served.http.request(method, served.url + path) as answer:
        assert (answer.status, answer.headers.get("Allow")) == (status, allow)
        assert "error" in await answer.json()


GARBAGE = {
    "noise": bytes(range(256)) * 20,
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + b"\0" * 190,
    "no such version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "endless line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "endless header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "two lengths": b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "bad chunk": b"POST /notify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "half a body": b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
    "half a head": b"POST /notify HTT",
    "nothing": b"",
    "large chunks": b"POST /notify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"4000\r\n%s\r\n" % (b"a" * 0x4000) * 3,
    "odd signature": b"POST /notify HTTP/1.1\r\nHost: x\r\n"
    b"X-Voicekeys-Signature: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_survived(kind: str) -> None:
    """Whatever comes in, the answer is an error without inner details, and the next request is served."""
    async with serving() as served:
        answer = await served.raw(GARBAGE[kind])
        assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
        assert b"Traceback" not in answer
        assert served.operator.notified == []
        assert (await served.get("/healthz"))[0] == 200


async def test_many_idle_connections_do_not_keep_others_out() -> None:
    async with serving() as served:
        idle = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(200)]
        for _, writer in idle:
            writer.write(b"POST /notify HTTP/1.1\r\nHost: x\r\n")
        assert (await served.get("/healthz"))[0] == 200
        for _, writer in idle:
            writer.close()


async def test_an_error_inside_shows_no_detail() -> None:
    def breaks(operator: Operator) -> None:
        operator.key_error = RuntimeError("hvs.secret-detail-of-the-inside")

    async with serving(change=breaks) as served:
        status, body = await served.notify()
        assert (status, body) == (500, {"error": "internal error, see the operator's log"})
        assert (await served.get("/healthz"))[0] == 200


async def test_a_port_in_use_is_an_error_at_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hooks = Operator().hooks()
        server = HttpServer(Metrics("1"), Rows(), hooks, HandClock(), host="127.0.0.1", port=port)
        with pytest.raises(OSError, match="in use"):
            await server.start()
        await server.stop()


async def test_it_stops_and_starts_again_on_the_same_port() -> None:
    server = HttpServer(Metrics("1"), Rows(), Operator().hooks(), HandClock(), host="127.0.0.1")
    await server.stop()
    async with serving() as served:
        assert served.port > 0
        assert (await served.get("/readyz"))[0] == 200
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", served.port)


async def test_the_heartbeat_knows_a_loop_that_stood_still() -> None:
    clock = HandClock()
    heart = Heartbeat(clock, limit=30)
    beating = asyncio.create_task(heart.run())
    clock.forward(100)
    await asyncio.sleep(0)
    assert heart.check() is None  # it has just beaten
    clock.forward(30)
    assert heart.check() is None
    clock.forward(1)
    assert heart.check() == "the event loop stood still for 31 s"
    beating.cancel()


async def test_hooks_and_limits_are_what_the_page_says() -> None:
    assert MAX_BODY == 16 * 1024
    assert set(Hooks.__dataclass_fields__) == {"health", "ready", "key", "since", "notify"}
