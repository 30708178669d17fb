"""Requests to one Vault: hvac's API classes above, one aiohttp session below.

hvac's API classes build a path and parameters, call their adapter and return what it returns. Ours returns an awaitable
of an `Answer`, whatever the status: methods of hvac that look into the response themselves cannot be used with it.
hvac's own ``Client`` is left out, because it reads ``VAULT_TOKEN``, ``~/.vault-token`` and ``VAULT_ADDR``.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlencode

import aiohttp
import orjson
from hvac.adapters import Adapter
from yarl import URL

from voicekeys.clients.vault import errors
from voicekeys.clients.vault.answer import Answer
from voicekeys.clients.vault.errors import Reason
from voicekeys.model.errors import SourceError, SourceGarbage, StoreDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from voicekeys.clients.vault.access import Token, VaultAccess

MAX_BODY: Final = 2 * 1024 * 1024
"""Bytes of an answer. A Secret holds 1 MiB, and JSON escapes may double that."""
MAX_HOPS: Final = 2
"""Redirects in a row that are followed; a standby needs one."""
MAX_RETRY_AFTER: Final = 300.0
"""Seconds; what a server asks for beyond that is cut, so that one answer cannot switch a store off."""
CONNECTIONS: Final = 32
KEEP_ALIVE: Final = 30.0
"""Seconds: longer than most poll intervals, shorter than the idle timeouts of proxies (60 s and more)."""

_REDIRECTS: Final = frozenset({307, 308})
_REDIRECT_RANGE: Final = range(300, 400)
_TLS_WANTED: Final = b"HTTP request to an HTTPS server"


class Transport:
    """One session for all logins of a store. Foreign exceptions and oversized bodies end here.

    Args:
        access: where Vault is and whom to trust.
        now: wall time, aware, for Retry-After dates.
    """

    def __init__(self, access: VaultAccess, now: Callable[[], datetime]) -> None:
        self.where = f"Vault at {access.address}"
        self._base = access.address.rstrip("/")
        self._now = now
        self._seconds = access.timeout
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._failure: StoreDown | None = None
        self._tls: ssl.SSLContext | bool = True
        self._ca_pem: str | None = None
        if access.address.startswith("https:"):
            self.trust(access.ca_pem)
        self.headers = {"X-Vault-Request": "true", "Accept-Encoding": "identity"}
        if access.namespace:
            self.headers["X-Vault-Namespace"] = access.namespace

    def trust(self, ca_pem: str | None) -> None:
        """Trust these CAs (PEM; None for the system's) from the next connection on.

        What was trusted before stays so where they are no certificates.
        """
        trusted = isinstance(self._tls, ssl.SSLContext)
        if trusted and ca_pem == self._ca_pem:
            return
        try:
            self._tls = _context(ca_pem)
        except (ssl.SSLError, ValueError):
            self._failure = None if trusted else errors.bad_ca(self.where)
        else:
            self._ca_pem, self._failure = ca_pem, None

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send one request, following a standby's redirect.

        Args:
            method: HTTP method.
            path: from ``/v1/``, quoted, with its query.
            headers: with the token.
            body: JSON.

        Raises:
            StoreDown: no answer, by cause.
            SourceGarbage: the answer is too large or not HTTP.
        """
        if self._failure is not None:
            raise errors.fresh(self._failure)
        url = URL(self._base + path, encoded=True)
        for _ in range(MAX_HOPS + 1):
            outcome = await self._exchange(method, url, headers, body)
            if isinstance(outcome, Answer):
                return outcome
            if isinstance(outcome, SourceError):
                raise outcome
            url = outcome
        raise self._redirected("more than one redirect in a row")

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> Answer | URL | SourceError:
        """Give the answer, where to go instead, or what went wrong: raised here, it would keep this frame's token."""
        try:
            # Not aiohttp's own total timeout: it swallows a cancellation that comes at the same moment (aiohttp 3.14).
            async with (
                asyncio.timeout(self._seconds),
                self._open().request(
                    method, url, headers=headers, data=body, allow_redirects=False, ssl=self._tls
                ) as response,
            ):
                if response.status in _REDIRECT_RANGE:
                    return self._hop(url, response)
                raw = await _read_capped(response)
                if raw is None:
                    text = f"{self.where} sent more than {MAX_BODY} bytes. Put less into one key"
                    return SourceGarbage(Reason.TOO_LARGE, text)
                return Answer(
                    response.status,
                    _decode(raw),
                    self._retry_after(response.headers.get("Retry-After")),
                    wants_tls=_TLS_WANTED in raw[:200],
                )
        except (aiohttp.ClientError, OSError) as error:  # OSError: ssl.SSLError and TimeoutError are among them
            return errors.from_foreign(error, self.where)
        except RuntimeError:
            if not self._closed:
                raise
            return errors.closed(self.where)

    def _open(self) -> aiohttp.ClientSession:
        """Give the session, made at first use because it belongs to the running loop."""
        if self._closed:
            msg = "closed"
            raise RuntimeError(msg)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Whom to trust goes with each request: a connection made on another CA's word is not used again.
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                # A body that unpacks to gigabytes is never unpacked; we ask for none packed.
                auto_decompress=False,
            )
        return self._session

    def _hop(self, url: URL, response: aiohttp.ClientResponse) -> URL | StoreDown:
        """Follow a standby's redirect to the active node, but never from https to http, nor out of Vault's API."""
        try:
            target = url.join(URL(response.headers.get("Location", "")))
        except ValueError:
            return self._redirected("one without a usable address")
        if response.status not in _REDIRECTS:
            return self._redirected(f"{response.status}, which is not Vault's")
        if target.scheme not in {"https", url.scheme}:
            return self._redirected(f"one from {url.scheme} to another scheme, which would show the token")
        if target.user or target.password or not target.host or not target.path.startswith("/v1/"):
            return self._redirected("one to an address that is not Vault's API")
        return target

    def _redirected(self, how: str) -> StoreDown:
        return StoreDown(
            Reason.REDIRECT,
            f"{self.where} answered with a redirect that is not followed: {how}. Set spec.vault.address of the store "
            "to where Vault itself answers",
        )

    def _retry_after(self, text: str | None) -> float | None:
        """Read Retry-After (RFC 9110 10.2.3: seconds or a date); None where there is none or it says nothing."""
        if text is None:
            return None
        try:
            seconds = float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else _until(text, self._now())
        except (ValueError, TypeError, OverflowError):
            return None
        return min(max(seconds, 0.0), MAX_RETRY_AFTER)

    async def close(self) -> None:
        """Close all connections; requests from now on fail as closed."""
        self._closed = True
        if self._session is not None:
            await self._session.close()


class VaultAdapter(Adapter):  # type: ignore[misc]  # hvac has no types
    """What hvac's API classes call: one login's headers over the store's transport.

    Args:
        transport: the store's.
        token: the login's token; None sends none.
    """

    def __init__(self, transport: Transport, token: Token | None = None) -> None:
        # hvac's own __init__ is passed over: it would make a requests session.
        self._transport = transport
        self._headers = dict(transport.headers)
        if token is not None:
            self._headers["X-Vault-Token"] = token.reveal()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        raise_exception: bool = True,  # noqa: FBT001, FBT002  hvac's signature
        **options: Any,
    ) -> Awaitable[Answer]:
        """Send what hvac made of a call. ``params`` and ``json`` of the options are used, ``wrap_ttl`` must be None."""
        del headers, raise_exception
        params, body = options.get("params"), options.get("json")
        if params:
            url = f"{url}?{urlencode(params)}"
        content = None if body is None else orjson.dumps(body)
        return self._transport.send(method.upper(), url, self._headers, content)

    def get_login_token(self, response: Any) -> NoReturn:
        """Refuse: logins pass ``use_token=False``, since the token belongs to the login that asked for it."""
        raise NotImplementedError


def _context(ca_pem: str | None) -> ssl.SSLContext:
    """Raises ValueError or ssl.SSLError where ``ca_pem`` is no certificate; Python takes an empty one for none."""
    if ca_pem is not None and not ca_pem.strip():
        raise ValueError("empty")
    return ssl.create_default_context(cadata=ca_pem)


async def _read_capped(response: aiohttp.ClientResponse) -> bytes | None:
    """Read the body; None where it is larger than `MAX_BODY`, in which case the connection is dropped."""
    chunks: list[bytes] = []
    size = 0
    while not response.content.at_eof():
        chunk = await response.content.readany()
        size += len(chunk)
        if size > MAX_BODY:
            response.close()
            return None
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decode(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _until(date: str, now: datetime) -> float:
    return (parsedate_to_datetime(date) - now).total_seconds()
