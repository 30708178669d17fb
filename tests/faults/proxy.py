"""A recording and faulting HTTP proxy on a real socket, in a thread of its own: before the API server, or before Vault.

::

    with Proxy(lab.api_url, lab.ca_file) as api:
        operator = Operator(lab, kubeconfig=api.kubeconfig(lab, "through-proxy"))
        with api.fault(answer(500), "PATCH", "/secrets/"):      # every match, for as long as the block runs
            …
        api.add(cut_after(), "PATCH", "/status", nth=2)          # the second match alone
        api.writes()                                             # what changed, or would have changed, the cluster

It serves plain HTTP and speaks TLS to the server behind it. Rules are asked in the order in which they were added; the
first that matches acts. Everything that is not the test's own waiting happens on the proxy's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import orjson
from aiohttp import web

from tests.lab import kubeconfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.lab import Lab

READS = frozenset({"GET", "HEAD", "OPTIONS", "LIST"})
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"})
_LIMIT = 64 * 1024 * 1024


@dataclass(slots=True)
class Seen:
    """One request as it came in, and how it ended: the status that was sent back, 0 for a cut, None for not yet."""

    number: int
    method: str
    target: str
    body: bytes
    at: float = field(default_factory=time.monotonic)
    status: int | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def is_watch(self) -> bool:
        """Whether it is a watch of the Kubernetes API."""
        return self.method == "GET" and re.search(r"[?&]watch=(1|true)", self.target) is not None

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.method not in READS

    def json(self) -> Any:
        """The decoded body; None where there is none."""
        return orjson.loads(self.body) if self.body else None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Exchange:
    """One request on its way through the proxy, as an action of a rule has it."""

    def __init__(self, proxy: Proxy, seen: Seen, request: web.BaseRequest) -> None:
        self.seen = seen
        self._proxy = proxy
        self._request = request

    async def forward(self) -> web.StreamResponse:
        """Send it on, and give the server's answer (a watch: when it has ended)."""
        work = asyncio.ensure_future(self._proxy._forward(self.seen, self._request))
        if self.seen.is_watch:
            return await work
        return await asyncio.shield(work)  # a client that goes away takes nothing back that it has asked for

    def cut(self) -> web.StreamResponse:
        """Drop the client's connection without an answer."""
        self.seen.status = 0
        if self._request.transport is not None:
            self._request.transport.abort()
        return web.Response(status=599)


class Rule:
    """What to do to which requests; `hits` counts those that it was applied to."""

    def __init__(
        self,
        act: Callable[[Exchange], Awaitable[web.StreamResponse]],
        method: str = "",
        path: str = "",
        *,
        when: Callable[[Seen], bool] | None = None,
        nth: int = 0,
        times: int = 0,
    ) -> None:
        self.act = act
        self.matched = 0
        self.hits = 0
        self.hit = threading.Event()
        self._method = re.compile(method)
        self._path = re.compile(path)
        self._when = when
        self._nth = nth
        self._times = times

    def takes(self, seen: Seen) -> bool:
        """Whether it acts on this request; a match is counted even where another one is meant."""
        if not self._method.match(seen.method) or not self._path.search(seen.target):
            return False
        if self._when is not None and not self._when(seen):
            return False
        self.matched += 1
        if (self._nth and self.matched != self._nth) or (self._times and self.hits >= self._times):
            return False
        self.hits += 1
        self.hit.set()
        return True


class Proxy:
    """The proxy. `requests` has all that came in, in order of arrival."""

    def __init__(self, upstream: str, ca_file: Path | None = None) -> None:
        self.upstream = upstream
        self.requests: list[Seen] = []
        self._rules: list[Rule] = []
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._streams: dict[int, tuple[Seen, web.BaseRequest]] = {}
        self._loop = asyncio.new_event_loop()
        self._client: aiohttp.ClientSession
        self._thread = threading.Thread(target=self._run, name=f"proxy of {upstream}", daemon=True)
        self._started = threading.Event()
        self._stopping: asyncio.Event
        self.url = ""

    def start(self) -> Self:
        """Start serving."""
        self._thread.start()
        assert self._started.wait(10), "the proxy did not start"
        return self

    def close(self) -> None:
        """Stop serving; every connection is dropped."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def kubeconfig(self, lab: Lab, name: str) -> Path:
        """Write a kubeconfig of the lab's administrator that leads through the proxy."""
        file = lab.dir / f"{name}.kubeconfig"
        return kubeconfig.write(file, api_url=self.url, ca_file=lab.ca_file, token=lab.admin_token)

    # ---- faults

    def add(self, act: Callable[[Exchange], Awaitable[web.StreamResponse]], *match: str, **options: Any) -> Rule:
        """Add a rule: action, regex of the method, regex of the target (path and query); see `Rule`."""
        rule = Rule(act, *match, **options)
        self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule away; what it holds at this moment is not let go."""
        if rule in self._rules:
            self._rules.remove(rule)

    def calm(self) -> None:
        """Take all rules away."""
        self._rules.clear()

    @contextlib.contextmanager
    def fault(
        self, act: Callable[[Exchange], Awaitable[web.StreamResponse]], *match: str, **options: Any
    ) -> Iterator[Rule]:
        """Have a rule for as long as a block runs."""
        rule = self.add(act, *match, **options)
        try:
            yield rule
        finally:
            self.remove(rule)

    def cut_streams(self, path: str = "") -> int:
        """Drop the watches that are open now; return how many."""
        chosen = [request for seen, request in list(self._streams.values()) if re.search(path, seen.target)]
        for request in chosen:
            self._loop.call_soon_threadsafe(_abort, request)
        return len(chosen)

    # ---- what was seen

    def writes(self, path: str = "", since: int = 0) -> list[Seen]:
        """Requests, after the first `since` ones, that may change something and whose target matches a regex."""
        return [one for one in self.requests[since:] if one.is_write and re.search(path, one.target)]

    def mark(self) -> int:
        """How many requests came so far, for `since`."""
        return len(self.requests)

    # ---- the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._client:
            runner = web.ServerRunner(
                web.Server(self._handle, access_log=None, handler_cancellation=True), shutdown_timeout=0.1
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            self.url = f"http://{host}:{port}"
            self._started.set()
            await self._stopping.wait()
            for _, request in list(self._streams.values()):
                _abort(request)
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.clone(client_max_size=_LIMIT).read()
        seen = Seen(len(self.requests), request.method, request.raw_path, body)
        self.requests.append(seen)
        exchange = Exchange(self, seen, request)
        rule = next((rule for rule in list(self._rules) if rule.takes(seen)), None)
        answer = await (rule.act(exchange) if rule is not None else exchange.forward())
        seen.status = seen.status if seen.status is not None else answer.status
        return answer

    async def _forward(self, seen: Seen, request: web.BaseRequest) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        try:
            async with self._client.request(
                seen.method, self.upstream + seen.target, data=seen.body or None, headers=headers, allow_redirects=False
            ) as answer:
                back = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
                if seen.is_watch and answer.status < 300:
                    return await self._stream(seen, request, answer, back)
                return web.Response(status=answer.status, body=await answer.read(), headers=back)
        except (aiohttp.ClientError, OSError):
            return Exchange(self, seen, request).cut()  # as a dead server looks

    async def _stream(
        self, seen: Seen, request: web.BaseRequest, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.enable_chunked_encoding()
        self._streams[seen.number] = (seen, request)
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientError, OSError):
            _abort(request)
        finally:
            self._streams.pop(seen.number, None)
        return response


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
