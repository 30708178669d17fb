"""List and watch one resource, for ever, through everything that an API server does to long connections."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from voicekeys.clients.kube.faults import TIMEOUT, from_status, garbage
from voicekeys.clients.kube.paths import path
from voicekeys.clients.kube.session import JSON
from voicekeys.model.errors import ApiError, ApiGone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from voicekeys.clients.kube.session import KubeSession

Object = dict[str, Any]
Event = tuple[str, Object]

LISTING: Final = "LISTING"
SYNCED: Final = "SYNCED"
CHUNK: Final = 100
"""Objects in a page of a list. Decoded, a page takes ten times its length: it sets the peak of memory."""
HEALTHY_SECONDS: Final = 5.0
"""A watch that lived this long, or gave an event, was no failure: the next one starts without a pause."""

_PARTIAL = "application/json;as=PartialObjectMetadata{kind};g=meta.k8s.io;v=v1,application/json;q=0.1"
_CHANGES = frozenset({"ADDED", "MODIFIED", "DELETED"})


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """Seconds of a watch.

    Args:
        idle: silence after which a connection counts as dead; the API server sends a bookmark about once a minute.
        watch: how long one watch request is asked to last; unasked, the API server ends it after 5 to 10 minutes.
        backoff: the first pause after a fault; doubles, with jitter.
        max_backoff: the longest pause.
    """

    idle: float = 90.0
    watch: float = 290.0
    backoff: float = 0.5
    max_backoff: float = 30.0


class Watcher:
    """One list+watch.

    Args:
        session: the connection.
        resource: plural, such as ``secrets``.
        namespace: empty watches the whole cluster.
        selector: label selector as text.
        metadata_only: ask for ``PartialObjectMetadata``: the server leaves spec, status and data out.
        on_error: called with (resource, error) at each fault, before the pause; must not raise.
        times: see `WatchTimes`.
        rng: jitter.
    """

    def __init__(
        self,
        session: KubeSession,
        resource: str,
        namespace: str = "",
        selector: str = "",
        *,
        metadata_only: bool = False,
        on_error: Callable[[str, ApiError], None] | None = None,
        times: WatchTimes | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._session = session
        self.resource = resource
        self._path = path(resource, namespace)
        self._selector = selector
        self._list_accept = _PARTIAL.format(kind="List") if metadata_only else JSON
        self._watch_accept = _PARTIAL.format(kind="") if metadata_only else JSON
        self._on_error = on_error
        self._times = times or WatchTimes()
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._position = ""  # resourceVersion to watch from; empty: list first
        self._faults = 0
        self.last_seen: float | None = None
        """Monotonic time of the last sign of life: a list page, an event, a bookmark."""

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed and none has worked since."""
        return self._faults > 0

    async def events(self) -> AsyncGenerator[Event, None]:
        """List, then watch, for ever; ends only by cancellation or by closing the generator.

        Yields ``(type, object)``: ``ADDED``, ``MODIFIED``, ``DELETED``, and around each list ``(LISTING, {})`` and
        ``(SYNCED, {})``. After a lost position (410) everything is listed again as ``ADDED``: what did not come between
        ``LISTING`` and ``SYNCED`` is gone, and the consumer sweeps it. A list that breaks off half-way starts over with
        another ``LISTING``.
        """
        while True:
            started = time.monotonic()
            progressed = False
            try:
                if not self._position:
                    yield LISTING, {}
                    async for event in self._list():
                        yield event
                    yield SYNCED, {}
                async for event in self._watch():
                    progressed = True
                    yield event
            except ApiGone as error:
                self._position = ""
                await self._pause(error, progressed=progressed)
            except ApiError as error:
                if error.reason == TIMEOUT and self._faults and not progressed:
                    # Twice without so much as a bookmark: etcd may have been restored to before our position, and the
                    # API server waits in silence for it to come (seen with 1.36).
                    self._position = ""
                await self._pause(error, progressed=progressed)
            else:
                if not progressed and time.monotonic() - started < HEALTHY_SECONDS:
                    # A server or proxy that closes at once would be asked hundreds of times a second.
                    await self._pause(None, progressed=False)
                else:
                    self._faults = 0

    async def _list(self) -> AsyncGenerator[Event, None]:
        params = {"limit": str(CHUNK)}
        if self._selector:
            params["labelSelector"] = self._selector
        while True:
            page = await self._session.request("GET", self._path, params=params, accept=self._list_accept)
            metadata, items = page.get("metadata") or {}, page.get("items") or ()
            self.last_seen = time.monotonic()
            for item in items:
                yield "ADDED", item
            del page, items  # not to be in memory beside the next one
            following = metadata.get("continue")
            if not following:
                break
            params["continue"] = following
        position = metadata.get("resourceVersion")
        if not isinstance(position, str) or not position:
            raise garbage(f"list {self.resource}")
        self._position = position

    async def _watch(self) -> AsyncGenerator[Event, None]:
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._position,
            "timeoutSeconds": str(int(self._times.watch)),
        }
        if self._selector:
            params["labelSelector"] = self._selector
        async with self._session.stream(
            self._path,
            params,
            accept=self._watch_accept,
            idle_timeout=self._times.idle,
        ) as lines:
            self.last_seen = time.monotonic()
            async for line in lines:
                self.last_seen = time.monotonic()
                kind, found = self._decode(line)
                self._faults = 0  # not before: an ERROR is a line, too, and must not be answered at once for ever
                if kind in _CHANGES:
                    yield kind, found

    def _decode(self, line: bytes) -> Event:
        doing = f"watch {self.resource}"
        try:
            event = orjson.loads(line)
            kind, found = event["type"], event["object"]
            if kind == "ERROR":
                code = found.get("code")
                raise from_status(code if isinstance(code, int) else 0, found, doing)
            self._position = found["metadata"]["resourceVersion"]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise garbage(doing) from None  # the foreign one holds the document
        return kind, found

    async def _pause(self, error: ApiError | None, *, progressed: bool) -> None:
        self._faults = 1 if progressed else self._faults + 1
        if error is not None and self._on_error is not None:
            self._on_error(self.resource, error)
        asked = error.retry_after if error is not None and error.retry_after else 0.0
        if isinstance(error, ApiGone) and self._faults == 1:
            return  # ordinary after a long silence: list again at once
        ceiling = min(
            self._times.max_backoff,
            self._times.backoff * 2 ** min(self._faults - 1, 16),
        )
        await asyncio.sleep(asked + ceiling * (0.5 + self._rng.random() / 2))
