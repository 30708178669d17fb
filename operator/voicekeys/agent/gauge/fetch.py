"""One GET from the agent, on one connection, within one deadline; redirects and compressed answers are not understood.

HTTP/1.1, because its chunks and lengths show an answer that was cut; an old server may answer until it closes.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from voicekeys.agent.gauge.errors import (
    CUT,
    MALFORMED,
    REFUSED,
    TIMEOUT,
    TLS,
    TOO_LARGE,
    UNREACHABLE,
    Unread,
    status,
)

LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 4 * 1024 * 1024
"""Bytes. An Asterisk with 1,000 channels writes 0.4 MB; what is read has to fit into a small container."""


@dataclass(frozen=True, slots=True)
class Url:
    """Where the number is served. Its ``repr`` shows no path: some agents take their password in the query.

    Args:
        host: name or address.
        port: TCP port.
        target: path and query.
        is_tls: HTTPS, whose certificate is not verified: it is the pod's own loopback.
    """

    host: str
    port: int
    target: str = field(repr=False)
    is_tls: bool = False


def parse_url(text: str) -> Url:
    """Read a URL. Raises ValueError, with a message for people and without the URL."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise ValueError("the URL must be like http://127.0.0.1:8080/metrics")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not re.fullmatch(r"/[!-~]*", target):
        raise ValueError("the URL's path holds what must be written with %, like %20 for a space")
    is_tls = parts.scheme == "https"
    if is_tls and not _is_loopback(parts):
        raise ValueError("https is for this pod's own loopback (127.0.0.1): the certificate is not verified")
    return Url(host, port or (443 if is_tls else 80), target, is_tls)


def _is_loopback(parts: SplitResult) -> bool:
    if parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


class Fetcher:
    """Asks one URL.

    Args:
        url: where.
        authorization: the whole value of the header; None sends none.
        timeout: seconds for all of one answer.
    """

    def __init__(self, url: Url, authorization: str | None, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        host = f"[{url.host}]" if ":" in url.host else url.host
        lines = [
            f"GET {url.target} HTTP/1.1",
            f"Host: {host}:{url.port}",
            "Accept: application/json, text/plain;q=0.9, */*;q=0.1",
            "Accept-Encoding: identity",
            "Connection: close",
            "User-Agent: voicekeys-gauge",
            *([] if authorization is None else [f"Authorization: {authorization}"]),
        ]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._ssl: ssl.SSLContext | None = None
        if url.is_tls:
            self._ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._ssl.check_hostname = False
            self._ssl.verify_mode = ssl.CERT_NONE

    async def get(self) -> bytes:
        """The body of an answer with status 200. Raises Unread."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._get()
        except TimeoutError as error:
            raise Unread(TIMEOUT) from error
        except ConnectionRefusedError as error:
            raise Unread(REFUSED) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Unread(CUT) from error
        except ssl.SSLError as error:
            raise Unread(TLS) from error
        except OSError as error:
            raise Unread(UNREACHABLE) from error

    async def _get(self) -> bytes:
        url = self._url
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=self._ssl, limit=LARGEST_HEAD)
        done = False
        try:
            writer.write(self._request)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError as error:
                raise Unread(MALFORMED) from error
            body = await _body(reader, _headers(head))
            done = True
            return body
        finally:
            if done:
                writer.close()
            else:
                writer.transport.abort()


def _headers(head: bytes) -> dict[str, str]:
    """Read an answer's head. Raises Unread for any status but 200."""
    first, *lines = head.decode("latin-1").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3})( .*)?", first)
    if found is None:
        raise Unread(MALFORMED)
    if found[1] != "200":
        raise Unread(status(int(found[1])))
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Unread(MALFORMED)
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Unread(MALFORMED)
        return await _chunks(reader)
    if length is None:
        return await _to_the_end(reader)
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise Unread(MALFORMED)
    if int(length) > LARGEST_BODY:
        raise Unread(TOO_LARGE)
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        try:
            line = await reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError as error:
            raise Unread(MALFORMED) from error
        size = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
            raise Unread(MALFORMED)
        if len(body) + int(size, 16) > LARGEST_BODY:
            raise Unread(TOO_LARGE)
        if int(size, 16) == 0:
            return bytes(body)  # trailers may follow: nobody waits for them
        body += await reader.readexactly(int(size, 16))
        if await reader.readexactly(2) != b"\r\n":
            raise Unread(MALFORMED)


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while part := await reader.read(LARGEST_HEAD):
        body += part
        if len(body) > LARGEST_BODY:
            raise Unread(TOO_LARGE)
    return bytes(body)
