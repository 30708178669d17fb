"""Pods that mean harm: whatever they answer, time and memory are bounded, nobody else is asked, nothing is believed."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.support import TOKEN
from tests.clients.agents.pods import PORT, answers, client, harmful_pod, own_host, says
from voicekeys.clients.agents import MAX_BODY, AgentsClient, is_pod_address
from voicekeys.model.errors import AgentError, AgentGarbage, AgentUnreachable
from voicekeys.model.hook import Endpoint, Token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GOOD: dict[str, Any] = {
    "contract": 1,
    "instance": "9f0c",
    "revision": 7,
    "state": "serving",
    "active": 0,
    "complete": True,
    "token": True,
}
OK = b"HTTP/1.1 200 OK\r\n"
CANARY = "canary-of-a-hostile-pod"


def good(**changed: Any) -> bytes:
    return json.dumps(GOOD | changed).encode()


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    while True:
        writer.write(b"X-More: 1\r\n" * 1000)
        await writer.drain()


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"X-Long: ")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"1" * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_trailers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    while True:
        writer.write(b"X-More: 1\r\n" * 1000)
        await writer.drain()


async def endless_continue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)
        await writer.drain()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


HARM: dict[str, Callable[..., Awaitable[None]]] = {
    "endless headers": endless_headers,
    "an endless header": endless_header,
    "an endless body": endless_body,
    "endless trailers": endless_trailers,
    "endless interim answers": endless_continue,
    "a slow drip": drip,
    "silence": silence,
    "a body that is too large": answers(good(filler="x" * MAX_BODY)),
    "a packed body": answers(gzip.compress(good()), OK + b"Content-Encoding: gzip\r\n"),
    "HTTP/0.9": says(good()),
    "another protocol": says(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nothing": says(b""),
    "half a head": says(OK),
    "half a body": says(OK + b"Content-Length: 1000\r\n\r\n" + good()),
    "a length that is none": says(OK + b"Content-Length: -5\r\n\r\n" + good()),
    "two lengths": says(OK + b"Content-Length: 5\r\nContent-Length: 500\r\n\r\n" + good()),
    "no content": says(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a web page": answers(b"<html>" + CANARY.encode(), OK + b"Content-Type: text/html\r\n"),
    "an error with a good body": answers(good(), b"HTTP/1.1 500 Internal Server Error\r\n"),
    "a switch of protocols": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
    "not JSON": answers(b"{"),
    "JSON that is no object": answers(b"[0]"),
    "deep JSON": answers(b"[" * 50_000),
    "not UTF-8": answers(b'{"contract": 1, "instance": "\xff\xfe"}'),
    "NaN": answers(b'{"contract": 1, "active": NaN}'),
}


@pytest.mark.parametrize("serve", HARM.values(), ids=HARM)
async def test_harm_is_an_error_soon(serve: Callable[..., Awaitable[None]]) -> None:
    agents = client(answer_seconds=1.0, connect_seconds=1.0)
    tracemalloc.start()
    began = time.monotonic()
    try:
        async with harmful_pod(serve) as pod:
            with pytest.raises(AgentError) as error:
                await agents.calls(pod)
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await agents.close()
    assert time.monotonic() - began < 10
    assert peak < 20 * 1024 * 1024
    told = f"{error.value!r} {error.value.__cause__!r} {error.value.__context__!r}"
    assert CANARY not in told
    assert TOKEN not in told


async def test_a_long_poll_is_bounded_by_what_was_asked() -> None:
    agents = client(answer_seconds=0.5, connect_seconds=0.5)
    async with harmful_pod(drip) as pod:
        began = time.monotonic()
        with pytest.raises(AgentUnreachable):
            await agents.calls(pod, 7, 1.0)
        assert 1.0 < time.monotonic() - began < 10
    await agents.close()


async def test_a_good_answer_is_taken_whatever_type_it_says() -> None:
    """The fields decide: an agent in another language may not set it. Also proves that `GOOD` is good."""
    agents = client()
    async with harmful_pod(answers(good(), OK + b"Content-Type: text/plain\r\n")) as pod:
        assert (await agents.calls(pod)).none_live
    await agents.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["calls", "release", "probe"])
async def test_no_redirect_is_followed(status: int, call: str) -> None:
    """Not to another server of this machine, which stands for the API server or a cloud's metadata."""
    asked: list[bytes] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        await answers(good())(reader, writer)

    agents = client()
    async with harmful_pod(other) as victim:
        head = f"HTTP/1.1 {status} Found\r\nLocation: http://{victim.ip}:{PORT}/voicekeys/v1/calls\r\n"
        async with harmful_pod(answers(b"", head.encode())) as pod:
            with pytest.raises(AgentGarbage):
                await getattr(agents, call)(pod)
    await agents.close()
    assert not asked


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with harmful_pod(answers(good())) as pod, harmful_pod(says(b"")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.ip}:{PORT}")
        agents = client()
        assert (await agents.calls(pod)).none_live
        await agents.close()


async def test_a_wrong_token_never_reaches_the_drain() -> None:
    """Where it is not checked, it would start one. What a probe sends, and no token where none is needed."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heard.append(head.split(" HTTP")[0] + (" with its token" if TOKEN in head else ""))
        body = good() if head.startswith("GET") else b"{}"
        writer.write(OK + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)

    agents = client()
    async with harmful_pod(serve) as pod:
        await agents.probe(pod)
    await agents.close()
    base = "/voicekeys/v1/"
    assert heard == [f"GET {base}calls?wait=0", f"POST {base}uncordon", f"POST {base}uncordon with its token"]


@pytest.mark.parametrize("call", ["release", "probe"])
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"forced": -1}', b'{"forced": true}'])
async def test_other_calls_are_read_as_strictly(call: str, body: bytes) -> None:
    agents = client()
    async with harmful_pod(answers(body)) as pod:
        with pytest.raises(AgentGarbage):
            await getattr(agents, call)(pod)
    await agents.close()


async def test_a_status_that_says_nothing_of_a_token() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = b"200 OK" if head.startswith(b"GET") else b"404 Not Found"
        body = good()
        writer.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    agents = client()
    async with harmful_pod(serve) as pod:
        for call in (agents.probe, agents.release):
            with pytest.raises(AgentGarbage):
                await call(pod)
    await agents.close()


ADDRESSES = {
    "10.1.2.3": True,
    "192.168.1.7": True,
    "100.64.3.4": True,
    "203.0.113.9": True,
    "fd12:3456::7": True,
    "2001:db8::7": True,
    "127.0.0.1": False,
    "127.9.9.9": False,
    "::1": False,
    "0.0.0.0": False,
    "::": False,
    "169.254.169.254": False,
    "fe80::1": False,
    "fe80::1%eth0": False,
    "fd00::7%eth0": False,
    "224.0.0.1": False,
    "ff02::1": False,
    "255.255.255.255": False,
    "::ffff:169.254.169.254": False,
    "::ffff:10.1.2.3": False,
    "fd00:ec2::254": False,
    "100.100.100.200": False,
    "168.63.129.16": False,
}


@pytest.mark.parametrize(("text", "allowed"), ADDRESSES.items(), ids=ADDRESSES)
def test_which_addresses_a_pod_can_have(text: str, allowed: bool) -> None:  # noqa: FBT001
    assert is_pod_address(ipaddress.ip_address(text)) is allowed


@pytest.mark.parametrize("ip", ["", "metadata.google.internal", "10.1.2.3@127.0.0.1", "127.0.0.1", "0x7f000001", "1"])
async def test_what_is_no_address_of_a_pod_is_not_asked(ip: str) -> None:
    agents = AgentsClient()
    with pytest.raises(AgentUnreachable):
        await agents.calls(Endpoint("a", ip, PORT))
    assert agents._session is None


async def test_nobody_is_connected_to_where_nothing_answers() -> None:
    """An address that takes no packets: the wait is that of the connection."""
    agents = client(connect_seconds=0.5, answer_seconds=30.0)
    began = time.monotonic()
    with pytest.raises(AgentUnreachable):
        await agents.calls(Endpoint("a", "192.0.2.1", PORT))
    assert time.monotonic() - began < 10
    await agents.close()


def test_a_token_is_not_shown() -> None:
    shown = f"{Token('secret-token')} {Token('secret-token')!r} {Endpoint('a', own_host(), 1, Token('secret-token'))}"
    assert "secret-token" not in shown
