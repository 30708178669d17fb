"""Requests to the Kubernetes API: connections, credentials, retries, error mapping; the base of this package."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from voicekeys.clients.kube.faults import (
    FOREIGN,
    from_answer,
    from_exception,
    garbage,
    parse_retry_after,
)
from voicekeys.clients.kube.paths import call_of
from voicekeys.model.errors import (
    ApiError,
    ApiForbidden,
    ApiThrottled,
    ApiUnreachable,
    VoiceKeysError,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    from voicekeys.clients.kube.credentials import Credentials
    from voicekeys.clients.kube.paths import Call

    Observe = Callable[[str, str, int, float], None]

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML: the server takes it on this type
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

MAX_THROTTLED = 3
MAX_SERVER_FAULTS = 2
RETRY_BUDGET_SECONDS = 10.0
_REFRESH_PAUSE_SECONDS = 5.0
_SERVER_FAULT = 500
_BAD = 300
_UNAUTHORIZED = 401
_CLOSED = "ApiClosed"


class KubeSession:
    """One API server, one identity; safe to share by all tasks of one event loop.

    Args:
        credentials: see `load_credentials`; read again each ``reread_seconds`` and after a 401.
        limit: connections for requests. Streams (watches) hold one each beyond it.
        timeout: seconds for one request, connecting and reading included.
        keepalive: seconds that an idle connection is kept; the API server itself keeps it far longer.
        user_agent: shown in the API server's audit log.
        observe: called after each answer with (verb, resource, HTTP status or 0, seconds).
        rng: jitter of retries.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        limit: int = 32,
        timeout: float = 30.0,
        keepalive: float = 60.0,
        user_agent: str = "voicekeys",
        observe: Observe | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._credentials = credentials
        self._limit = limit
        self._keepalive = keepalive
        self._timeout = timeout
        self._user_agent = user_agent
        self._observe = observe
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._http: dict[str, aiohttp.ClientSession] = {}
        self._retired: list[aiohttp.ClientSession] = []
        self._loaded = time.monotonic()
        self._refreshing = asyncio.Lock()
        self._headers: dict[str, str] = {}
        self._closed = False
        self._use(credentials)

    @property
    def credentials(self) -> Credentials:
        """The credentials in use now."""
        return self._credentials

    async def request(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        content_type: str = JSON,
        params: Mapping[str, str] | None = None,
        accept: str = JSON,
        idempotent: bool | None = None,
        retry: bool = True,
    ) -> Any:
        """Make one call and decode the answer.

        Retries by itself: 429 up to three times after the asked-for pause; 5xx and cut connections twice with jitter
        where ``idempotent``; 401 once with credentials read again; all that within ten seconds.

        Args:
            method: HTTP method.
            path: absolute, already quoted, without query.
            body: encoded as JSON; None sends none.
            content_type: of the body; one of `JSON`, `APPLY`, `MERGE_PATCH`, `JSON_PATCH`.
            params: query.
            accept: media type of the answer.
            idempotent: doing it twice is as good as once; default: everything but POST and JSON patches.
            retry: False tries once (and once more with new credentials): for callers with a rhythm of their own.

        Returns:
            The decoded JSON object.

        Raises:
            ApiError: a subclass by cause.
        """
        call = call_of(method, path)
        data = None if body is None else orjson.dumps(body)
        url = self._url(path, params)
        headers = {"Accept": accept} if data is None else {"Accept": accept, "Content-Type": content_type}
        twice = (method != "POST" and content_type != JSON_PATCH) if idempotent is None else idempotent
        retries = _Retries(self._rng, idempotent=twice, budget=RETRY_BUDGET_SECONDS if retry else 0.0)
        while True:
            used = self._credentials
            try:
                return await self._once(method, url, data, headers, call)
            except ApiError as error:
                if retries.may_log_in_again(error) and await self._refresh(call.text, used):
                    continue
                pause = retries.pause_after(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        accept: str = JSON,
        idle_timeout: float = 90.0,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; give its lines, without line ends, of any length.

        Args:
            path: absolute, already quoted.
            params: query, ``watch=1`` among it.
            accept: media type of the objects.
            idle_timeout: seconds without a byte after which the connection counts as dead.

        Raises:
            ApiError: at opening or while reading; an orderly end just ends the lines.
        """
        call = call_of("WATCH", path)
        await self._reread(call.text)
        url, used = self._url(path, params), self._credentials
        try:
            response = await self._open(call, url, accept, idle_timeout)
        except ApiForbidden as error:
            if error.status != _UNAUTHORIZED or not await self._refresh(call.text, used):
                raise
            response = await self._open(call, url, accept, idle_timeout)
        try:  # what the reader of the lines raises is his own: only `_open` and `_lines` translate
            yield _lines(response.content, call.text)
        finally:
            response.close()

    async def refresh(self) -> None:
        """Read the credentials again, as after a 401; raises `ApiError` when they cannot be read."""
        await self._refresh("read the credentials", self._credentials, 0.0)

    async def close(self) -> None:
        """Close all connections. Calls after this raise `ApiUnreachable`."""
        self._closed = True
        sessions = [*self._retired, *self._http.values()]
        self._http, self._retired = {}, []
        for session in sessions:
            await session.close()

    async def _once(
        self,
        method: str,
        url: URL,
        data: bytes | None,
        headers: dict[str, str],
        call: Call,
    ) -> Any:
        await self._reread(call.text)
        started = time.monotonic()
        code = 0
        try:
            # Not aiohttp's own total timeout: it swallows a cancellation that comes at the same instant (3.14).
            async with (
                asyncio.timeout(self._timeout),
                self._session("requests").request(
                    method, url, data=data, headers={**self._headers, **headers}, **self._route()
                ) as response,
            ):
                code = response.status
                body = await response.read()
                after = response.headers.get("Retry-After") if code >= _BAD else None
        except FOREIGN as error:
            raise from_exception(error, call.text) from None  # the foreign one holds headers: token
        finally:
            self._seen(call, code, time.monotonic() - started)
        if code >= _BAD:
            raise from_answer(code, body, call.text, parse_retry_after(after))
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise garbage(call.text, code) from None  # the foreign one holds the document
        if not isinstance(answer, dict):
            raise garbage(call.text, code)
        return answer

    async def _open(self, call: Call, url: URL, accept: str, idle_timeout: float) -> aiohttp.ClientResponse:
        started = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=idle_timeout)
        code = 0
        try:
            response = await self._session("streams").get(
                url,
                headers={**self._headers, "Accept": accept},
                timeout=timeout,
                **self._route(),
            )
            code = response.status
            if code < _BAD:
                return response
            async with response:
                after = parse_retry_after(response.headers.get("Retry-After"))
                raise from_answer(code, await response.read(), call.text, after)
        except FOREIGN as error:
            raise from_exception(error, call.text) from None
        finally:
            self._seen(call, code, time.monotonic() - started)

    def _session(self, use: str) -> aiohttp.ClientSession:
        """Give connections for ``requests``, limited, or for ``streams``: each holds one for minutes."""
        if self._closed:
            raise ApiUnreachable(_CLOSED, "the connection to the API server was closed")
        session = self._http.get(use)
        if session is None:
            limit = self._limit if use == "requests" else 0
            connector = aiohttp.TCPConnector(ssl=self._tls(), limit=limit, keepalive_timeout=self._keepalive)
            session = self._http[use] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                trust_env=False,
            )
        return session

    def _tls(self) -> ssl.SSLContext | bool:
        try:
            return self._credentials.ssl_context()
        except VoiceKeysError as error:
            raise ApiUnreachable(error.reason, error.message) from None

    def _route(self) -> dict[str, Any]:
        route: dict[str, Any] = {"allow_redirects": False}
        if self._credentials.proxy_url:
            route["proxy"] = self._credentials.proxy_url
        if self._credentials.tls_server_name:
            route["server_hostname"] = self._credentials.tls_server_name
        return route

    def _url(self, path: str, params: Mapping[str, str] | None) -> URL:
        query = _query(tuple(params.items())) if params else ""
        try:
            return URL(f"{self._credentials.server}{path}{query}", encoded=True)
        except ValueError as error:
            raise from_exception(error, "read the API server's address") from None

    def _use(self, credentials: Credentials) -> None:
        if self._http and not credentials.same_transport(self._credentials):
            # Calls under way end on the old connections, which close at the end.
            self._retired += self._http.values()
            self._http = {}
        self._credentials = credentials
        # Not compressed: a local network is quicker than either side's zlib.
        self._headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity"}
        if credentials.authorization:
            self._headers["Authorization"] = credentials.authorization

    async def _reread(self, doing: str) -> None:
        every = self._credentials.reread_seconds
        if every is not None and time.monotonic() - self._loaded >= every:
            with contextlib.suppress(ApiError):  # the old token may well serve on; a 401 tells
                await self._refresh(doing, self._credentials, every)

    async def _refresh(self, doing: str, used: Credentials, pause: float = _REFRESH_PAUSE_SECONDS) -> bool:
        """Read the credentials again, once for all who ask at a time.

        Args:
            doing: for the message.
            used: the credentials that no longer do.
            pause: seconds since the last reading in which they are not read again.

        Returns:
            Whether there are others than ``used`` now.
        """
        async with self._refreshing:
            if self._credentials is not used:
                return True  # someone else just did
            if used.reload is None or time.monotonic() - self._loaded < pause:
                return False
            self._loaded = time.monotonic()
            try:
                self._use(await asyncio.to_thread(used.reload))
            except VoiceKeysError as error:
                raise ApiUnreachable(error.reason, f"{doing}: {error.message}") from None
            return True

    def _seen(self, call: Call, code: int, seconds: float) -> None:
        if self._observe is not None:
            self._observe(call.verb, call.resource, code, seconds)


@lru_cache(maxsize=64)
def _query(params: tuple[tuple[str, str], ...]) -> str:
    return f"?{urlencode(params)}"


class _Retries:
    """Whether and when one call is tried again."""

    def __init__(self, rng: random.Random, *, idempotent: bool, budget: float) -> None:
        self._rng = rng
        self._idempotent = idempotent
        self._deadline = time.monotonic() + budget
        self._throttled = self._faults = self._logins = 0

    def may_log_in_again(self, error: ApiError) -> bool:
        """Whether new credentials may help; once a call."""
        self._logins += error.status == _UNAUTHORIZED
        return error.status == _UNAUTHORIZED and self._logins == 1

    def pause_after(self, error: ApiError) -> float | None:
        """Seconds until the next try, or None to give up."""
        if isinstance(error, ApiThrottled):
            # Refused before it was done: safe for every method.
            self._throttled += 1
            pause = (error.retry_after or 1.0) * (1 + 0.2 * self._rng.random())
            return pause if self._throttled <= MAX_THROTTLED and self._in_time(pause) else None
        fault = error.status >= _SERVER_FAULT or (error.status == 0 and error.reason != _CLOSED)
        if not (fault and self._idempotent):
            return None
        self._faults += 1
        pause = max(0.2 * self._faults * (0.5 + self._rng.random()), error.retry_after or 0.0)
        return pause if self._faults <= MAX_SERVER_FAULTS and self._in_time(pause) else None

    def _in_time(self, pause: float) -> bool:
        return time.monotonic() + pause < self._deadline


async def _lines(content: aiohttp.StreamReader, doing: str) -> AsyncIterator[bytes]:
    """Split a stream at line ends. Own buffer: aiohttp's ``readline`` refuses long lines; a Secret may have 1.5 MB."""
    parts: list[bytes] = []
    try:
        async for chunk in content.iter_any():
            first, *rest = chunk.split(b"\n")
            parts.append(first)
            for following in rest:
                line = b"".join(parts)
                parts = [following]
                if line:
                    yield line
    except FOREIGN as error:
        raise from_exception(error, doing) from None
    # What follows the last line end is a cut object: never hand it out.
