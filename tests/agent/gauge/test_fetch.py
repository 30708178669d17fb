"""One answer, from servers that do as they like."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.agent.support import free_port
from voicekeys.agent.gauge import fetch
from voicekeys.agent.gauge.errors import Unread
from voicekeys.agent.gauge.fetch import Fetcher, parse_url

if TYPE_CHECKING:
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def ask(
    answer: bytes, *, authorization: str | None = None, stays: bool = False, target: str = "/calls"
) -> tuple[bytes | str, bytes]:
    """What comes of an answer: the body or the word; and the request that was sent."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if stays:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await Fetcher(parse_url(f"http://127.0.0.1:{port}{target}"), authorization, 0.5).get(), bytes(heard)
    except Unread as error:
        return error.word, bytes(heard)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK + b"\r\n7", b"7"),
        (b"HTTP/1.0 200\r\n\r\n7", b"7"),
        (OK + b"content-length:  1 \r\n\r\n7ignored", b"7"),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (CHUNKED + b"1\r\n7\r\n2;x=y\r\n89\r\n0\r\n\r\n", b"789"),
        (CHUNKED + b"1\r\n7\r\n0\r\nTrailer: x\r\n\r\n", b"7"),
        (OK + b"Content-Encoding: identity\r\n\r\n7", b"7"),
        (OK + b"Content-Encoding: gzip\r\n\r\n7", "malformed"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n7", "malformed"),
        (OK + b"Content-Length: -1\r\n\r\n7", "malformed"),
        (OK + b"Content-Length: 5\r\n\r\n7", "cut"),
        (OK + b"Content-Length: 5", "cut"),
        (CHUNKED + b"5\r\n7", "cut"),
        (CHUNKED + b"1\r\n7\r\n", "cut"),
        (CHUNKED + b"1\r\n7xx", "malformed"),
        (CHUNKED + b"seven\r\n", "malformed"),
        (CHUNKED + b"-1\r\n", "malformed"),
        (CHUNKED + b"1" * 100_000, "malformed"),
        (b"", "cut"),
        (b"7", "cut"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed"),
        (b"HTTP/2 200\r\n\r\n7", "malformed"),
        (b"HTTP/1.1 2000 OK\r\n\r\n7", "malformed"),
        (OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n7", "malformed"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status-204"),
        (b"HTTP/1.1 206 Partial Content\r\n\r\n0", "status-206"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n0", "status-301"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n0", "unauthorized"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n0", "unauthorized"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n0", "status-503"),
    ],
)
async def test_answers(answer: bytes, expected: bytes | str) -> None:
    assert (await ask(answer))[0] == expected


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"\r\n" + b"7" * 2000,
        OK + b"Content-Length: 2000\r\n\r\n" + b"7" * 2000,
        CHUNKED + (b"3e8\r\n" + b"7" * 1000 + b"\r\n") * 2 + b"0\r\n\r\n",
        CHUNKED + b"ffffffff\r\n",
    ],
)
async def test_a_body_has_a_largest_size(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LARGEST_BODY", 1999)
    assert (await ask(answer))[0] == "too-large"
    monkeypatch.setattr(fetch, "LARGEST_BODY", 2000)
    assert (await ask(answer))[0] == (b"7" * 2000 if b"ffff" not in answer else "too-large")


@pytest.mark.parametrize(
    "answer", [b"", OK, OK + b"\r\n7", CHUNKED + b"1\r\n7\r\n", OK + b"Content-Length: 2\r\n\r\n7"]
)
async def test_an_answer_that_does_not_end_is_given_up(answer: bytes) -> None:
    assert (await ask(answer, stays=True))[0] == "timeout"


async def test_a_server_that_drips_does_not_buy_time() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        try:
            while True:
                writer.write(b"7")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unread, match="timeout"):
        await Fetcher(parse_url(f"http://127.0.0.1:{port}/"), None, 0.3).get()
    assert asyncio.get_running_loop().time() - begun < 2
    server.close()


async def test_what_is_asked() -> None:
    _, request = await ask(OK + b"\r\n7", authorization="Bearer abc", target="/txtapi/show?a%20b&c=d#no")
    first, *lines = request.decode().split("\r\n")
    assert first == "GET /txtapi/show?a%20b&c=d HTTP/1.1"
    assert "Authorization: Bearer abc" in lines
    assert "Accept-Encoding: identity" in lines
    assert "Connection: close" in lines
    assert any(line.startswith("Host: 127.0.0.1:") for line in lines)
    assert b"Authorization" not in (await ask(OK + b"\r\n7"))[1]


async def test_nobody_listens() -> None:
    with pytest.raises(Unread, match="refused"):
        await Fetcher(parse_url(f"http://127.0.0.1:{free_port()}/"), None, 0.5).get()


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for, for another name."""
    key, file = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {file} -days 1"
    subprocess.run([*command.split(), "-subj", "/CN=elsewhere"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


async def test_https_of_the_pods_own_loopback(certificate: ssl.SSLContext) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 1\r\n\r\n7")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate)
    port = server.sockets[0].getsockname()[1]
    assert await Fetcher(parse_url(f"https://127.0.0.1:{port}/"), None, 5).get() == b"7"
    server.close()


async def test_https_of_a_server_that_speaks_http() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unread, match=r"tls|cut"):
        await Fetcher(parse_url(f"https://127.0.0.1:{port}/"), None, 5).get()
    server.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80/metrics",
        "ftp://127.0.0.1/x",
        "http:///x",
        "http://user:pass@127.0.0.1/x",
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
        "http://127.0.0.1/show calls",
        "http://127.0.0.1/x\r\nX: y",
        "https://example.com/metrics",
        "https://10.0.0.1/metrics",
    ],
)
def test_what_is_no_url_is_not_repeated_in_the_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|https") as caught:
        parse_url(url)
    assert not url or url not in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "tls"),
    [
        ("http://127.0.0.1:8080/metrics", "127.0.0.1", 8080, "/metrics", False),
        ("http://127.0.0.1", "127.0.0.1", 80, "/", False),
        ("https://localhost/x?y", "localhost", 443, "/x?y", True),
        ("https://[::1]:8443/x", "::1", 8443, "/x", True),
        ("http://agent.local:1/", "agent.local", 1, "/", False),
    ],
)
def test_urls(url: str, host: str, port: int, target: str, tls: bool) -> None:  # noqa: FBT001
    found = parse_url(url)
    assert (found.host, found.port, found.target, found.is_tls) == (host, port, target, tls)
    assert "?" not in repr(found)
