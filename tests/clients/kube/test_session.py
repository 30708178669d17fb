"""Requests against a server that misbehaves: what is tried again, what is not, what is said of it."""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.clients.kube.faulty import FaultServer, Reply, status_of
from voicekeys.clients.kube import session as module
from voicekeys.clients.kube.credentials import Credentials
from voicekeys.clients.kube.session import APPLY, JSON_PATCH, KubeSession
from voicekeys.model.errors import ApiConflict, ApiError, ApiForbidden, ApiThrottled, ApiUnreachable, Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio

SECRETS = "/api/v1/namespaces/a/secrets"
ONE = SECRETS + "/b"


async def test_an_apply_says_who_we_are_and_what_we_send(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(body={"ok": 1}))
    answer = await shaky.request(
        "PATCH", ONE, {"a": 1}, content_type=APPLY, params={"fieldManager": "v", "force": "true"}
    )
    assert answer == {"ok": 1}
    (seen,) = faulty.requests
    assert (seen.method, seen.target, seen.body) == ("PATCH", ONE + "?fieldManager=v&force=true", b'{"a":1}')
    assert seen.headers["content-type"] == "application/apply-patch+yaml"
    assert seen.headers["authorization"] == "Bearer canary-token"
    assert seen.headers["user-agent"] == "voicekeys"
    assert seen.headers["accept-encoding"] == "identity"


async def test_one_connection_serves_many_calls(faulty: FaultServer) -> None:
    async with _closing(KubeSession(Credentials(faulty.url), limit=2)) as session:
        await asyncio.gather(*(session.request("GET", ONE) for _ in range(20)))
        assert len(faulty.requests) == 20
        assert len(faulty._connections) <= 2


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_429_is_tried_again_after_the_pause_that_was_asked(
    method: str, faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(Reply(429, headers={"Retry-After": "1"}), Reply(body={"ok": 1}))
    started = time.monotonic()
    assert await shaky.request(method, ONE, {}) == {"ok": 1}
    assert 1.0 <= time.monotonic() - started < 2.0


async def test_429_for_ever_ends_as_throttled(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(429, body=status_of(429, "TooManyRequests"), headers={"Retry-After": "0.1"}))
    with pytest.raises(ApiThrottled) as caught:
        await shaky.request("GET", ONE)
    assert caught.value.retry_after == 0.1
    assert len(faulty.requests) == 1 + module.MAX_THROTTLED


async def test_a_longer_pause_than_a_call_may_take_is_the_callers(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(429, headers={"Retry-After": "60"}))
    started = time.monotonic()
    with pytest.raises(ApiThrottled) as caught:
        await shaky.request("GET", ONE)
    assert caught.value.retry_after == 60
    assert time.monotonic() - started < 1
    assert len(faulty.requests) == 1


@pytest.mark.parametrize("fault", [Reply(500), Reply(503), Reply(cut=True)], ids=["500", "503", "cut"])
async def test_a_fault_is_tried_again_where_twice_is_as_good_as_once(
    fault: Reply, faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(fault, fault, Reply(body={"ok": 1}))
    assert await shaky.request("PATCH", ONE, {}, content_type=APPLY) == {"ok": 1}
    assert len(faulty.requests) == 3


@pytest.mark.parametrize(("method", "content_type"), [("POST", module.JSON), ("PATCH", JSON_PATCH)])
@pytest.mark.parametrize("fault", [Reply(500), Reply(cut=True)], ids=["500", "cut"])
async def test_a_fault_is_not_tried_again_where_it_might_count_twice(
    method: str, content_type: str, fault: Reply, faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(fault)
    with pytest.raises(ApiError):
        await shaky.request(method, SECRETS, {}, content_type=content_type)
    assert len(faulty.requests) == 1


async def test_a_fault_that_stays_is_told(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(500, body=b"<html>canary</html>"))
    with pytest.raises(ApiError) as caught:
        await shaky.request("GET", ONE)
    assert (caught.value.status, caught.value.reason) == (500, "InternalServerError")
    assert "canary" not in repr(caught.value)
    assert len(faulty.requests) == 1 + module.MAX_SERVER_FAULTS


async def test_a_refusal_is_not_tried_again(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(409, body=status_of(409, "Conflict")))
    with pytest.raises(ApiConflict):
        await shaky.request("GET", ONE)
    assert len(faulty.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>canary-body</html>"),
        Reply(body=b"[1, 2]"),
        Reply(body=b""),
        Reply(raw=b"canary-body no http\r\n\r\n"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncanary-body"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ncanary-body"),
        Reply(raw=b"HTTP/1.1 200 OK\r\ncanary-body: " + b"x" * 100_000 + b"\r\n\r\n"),
        Reply(302, headers={"Location": "http://127.0.0.1:1/canary-body"}),
    ],
    ids=["html", "array", "empty", "no-http", "short", "chunks", "header", "redirect"],
)
async def test_garbage_is_an_error_that_repeats_none_of_it(
    reply: Reply, faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(reply)
    with pytest.raises(ApiError) as caught:
        await shaky.request("GET", ONE)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "canary" not in told


async def test_silence_ends_with_the_timeout(faulty: FaultServer) -> None:
    faulty.script(Reply(delay=30))
    async with _closing(KubeSession(Credentials(faulty.url), timeout=0.3)) as session:
        with pytest.raises(ApiUnreachable) as caught:
            await session.request("POST", SECRETS, {})
    assert caught.value.reason == "ApiTimeout"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid", "http://[bad", "nonsense://x"])
async def test_nobody_there(url: str) -> None:
    async with _closing(KubeSession(Credentials(url))) as session:
        with pytest.raises(ApiUnreachable):
            await session.request("GET", ONE)


@pytest.mark.parametrize("gap", [-0.001, 0.0, 0.0005, 0.001])
async def test_a_cancellation_at_the_instant_of_the_timeout_is_no_timeout(gap: float, faulty: FaultServer) -> None:
    faulty.script(Reply(delay=30))
    async with _closing(KubeSession(Credentials(faulty.url), timeout=0.3)) as session:
        call = asyncio.create_task(session.request("GET", ONE))
        await asyncio.sleep(0.3 + gap)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_caller_with_a_rhythm_of_its_own_gets_each_fault(faulty: FaultServer, shaky: KubeSession) -> None:
    for fault in (Reply(429, headers={"Retry-After": "1"}), Reply(503)):
        faulty.script(fault)
        with pytest.raises(ApiError):
            await shaky.request("GET", ONE, retry=False)
    assert len(faulty.requests) == 2


async def test_tls_to_a_plain_server_fails_as_tls_or_connection(faulty: FaultServer) -> None:
    async with _closing(KubeSession(Credentials(faulty.url.replace("http", "https")), timeout=0.5)) as session:
        with pytest.raises(ApiUnreachable):
            await session.request("POST", ONE, {})


async def test_401_reads_the_credentials_again_once_for_all(faulty: FaultServer) -> None:
    reads = 0

    def reload() -> Credentials:
        nonlocal reads
        reads += 1
        return replace(credentials, authorization=f"Bearer new-{reads}")

    credentials = Credentials(faulty.url, authorization="Bearer old", reload=reload)
    faulty.script(*[Reply(401, body=status_of(401, "Unauthorized"))] * 5, Reply(body={"ok": 1}))
    async with _closing(KubeSession(credentials)) as session:
        session._loaded -= 60
        answers = await asyncio.gather(*(session.request("GET", ONE) for _ in range(5)))
    assert answers == [{"ok": 1}] * 5
    assert reads == 1
    assert {seen.headers["authorization"] for seen in faulty.requests} == {"Bearer old", "Bearer new-1"}


async def test_401_that_stays_is_forbidden_and_does_not_hammer(faulty: FaultServer) -> None:
    reads = 0

    def reload() -> Credentials:
        nonlocal reads
        reads += 1
        return credentials

    credentials = Credentials(faulty.url, authorization="Bearer old", reload=reload)
    faulty.script(Reply(401))
    async with _closing(KubeSession(credentials)) as session:
        session._loaded -= 60
        for _ in range(3):
            with pytest.raises(ApiForbidden):
                await session.request("GET", ONE)
    assert reads == 1


async def test_a_stream_logs_in_again_as_well(faulty: FaultServer) -> None:
    credentials = Credentials(
        faulty.url, authorization="Bearer old", reload=lambda: replace(credentials, authorization="Bearer new")
    )
    faulty.script(Reply(401), Reply(stream=(b"a\n",)), Reply(403))
    async with _closing(KubeSession(credentials)) as session:
        session._loaded -= 60
        async with session.stream(SECRETS, {"watch": "1"}) as lines:
            assert [line async for line in lines] == [b"a"]
        with pytest.raises(ApiForbidden):
            async with session.stream(SECRETS, {"watch": "1"}):
                pass
    assert [seen.headers["authorization"] for seen in faulty.requests] == ["Bearer old", "Bearer new", "Bearer new"]


async def test_credentials_that_cannot_be_read_again_are_told(faulty: FaultServer) -> None:
    def reload() -> Credentials:
        raise Terminal("KubeconfigInvalid", "no usable kubeconfig")

    faulty.script(Reply(401))
    async with _closing(KubeSession(Credentials(faulty.url, reload=reload))) as session:
        session._loaded -= 60
        with pytest.raises(ApiUnreachable) as caught:
            await session.request("GET", ONE)
    assert caught.value.reason == "KubeconfigInvalid"


async def test_a_mounted_token_is_read_again_each_minute(faulty: FaultServer) -> None:
    credentials = Credentials(
        faulty.url,
        authorization="Bearer old",
        reread_seconds=60.0,
        reload=lambda: replace(credentials, authorization="Bearer new"),
    )
    async with _closing(KubeSession(credentials)) as session:
        await session.request("GET", ONE)
        session._loaded -= 61
        await session.request("GET", ONE)
    assert [seen.headers["authorization"] for seen in faulty.requests] == ["Bearer old", "Bearer new"]


async def test_other_credentials_get_other_connections(faulty: FaultServer) -> None:
    async with FaultServer() as second:
        credentials = Credentials(faulty.url, reload=lambda: Credentials(second.url))
        async with _closing(KubeSession(credentials)) as session:
            await session.request("GET", ONE)
            await session.refresh()
            await session.request("GET", ONE)
        assert len(second.requests) == 1


async def test_each_answer_is_observed(faulty: FaultServer) -> None:
    seen: list[tuple[str, str, int]] = []

    def observe(verb: str, resource: str, code: int, seconds: float) -> None:
        assert 0 <= seconds < 5
        seen.append((verb, resource, code))

    faulty.script(Reply(503), Reply(), Reply(cut=True), Reply(stream=()))
    async with _closing(KubeSession(Credentials(faulty.url), observe=observe)) as session:
        await session.request("PUT", ONE, {})
        with pytest.raises(ApiUnreachable):
            await session.request("POST", SECRETS, {})
        async with session.stream(SECRETS, {"watch": "1"}):
            pass
    assert seen == [
        ("update", "secrets", 503),
        ("update", "secrets", 200),
        ("create", "secrets", 0),
        ("watch", "secrets", 200),
    ]


async def test_after_close_nothing_is_sent(faulty: FaultServer) -> None:
    session = KubeSession(Credentials(faulty.url))
    await session.request("GET", ONE)
    await session.close()
    with pytest.raises(ApiUnreachable) as caught:
        await session.request("GET", ONE)
    assert caught.value.reason == "ApiClosed"
    assert len(faulty.requests) == 1


async def test_lines_of_any_length_and_cut_lines_never(faulty: FaultServer, shaky: KubeSession) -> None:
    long = b"x" * 3_000_000
    faulty.script(Reply(stream=(b"a\n\nb", b"c\n", long[:1_000_000], long[1_000_000:] + b"\nhalf"), cut=True))
    lines: list[bytes] = []
    async with shaky.stream(SECRETS, {"watch": "1"}) as stream:
        with pytest.raises(ApiUnreachable):
            await _collect(stream, lines)
    assert [len(line) for line in lines] == [1, 2, 3_000_000]


async def test_what_the_reader_of_a_stream_raises_stays_his(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(stream=(b"a\n", 5.0)))

    async def read() -> None:
        async with shaky.stream(SECRETS, {"watch": "1"}) as stream:
            async for _ in stream:
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await read()


async def test_a_stream_does_not_wait_for_a_request_slot(faulty: FaultServer) -> None:
    faulty.script(*[Reply(stream=(b"a\n", 5.0))] * 3, Reply(body={"ok": 1}))
    async with _closing(KubeSession(Credentials(faulty.url), limit=1)) as session:
        streams = [session.stream(SECRETS, {"watch": "1"}) for _ in range(3)]
        for stream in streams:
            await stream.__aenter__()
        assert await session.request("GET", ONE) == {"ok": 1}
        for stream in streams:
            await stream.__aexit__(None, None, None)


async def _collect(stream: AsyncIterator[bytes], into: list[bytes]) -> None:
    async for line in stream:
        into.append(line)  # noqa: PERF401 - what came before the fault must be kept


class _closing:  # noqa: N801 - reads as contextlib's
    def __init__(self, session: KubeSession) -> None:
        self.session = session

    async def __aenter__(self) -> KubeSession:
        return self.session

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
