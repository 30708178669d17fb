"""Kubernetes Events of the operator: few, aggregated, rate limited, written in the background.

Events are news for people, never state: an event that cannot be written is counted and forgotten. The API is
``events.k8s.io/v1``; ``kubectl describe`` shows these like any other. The limits are client-go's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from voicekeys.api.names import FIELD_MANAGER
from voicekeys.clients.kube.paths import path
from voicekeys.clients.kube.session import MERGE_PATCH
from voicekeys.clients.kube.tasks import stop
from voicekeys.model.errors import ApiNotFound, ApiThrottled, ApiUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voicekeys.clients.kube.session import KubeSession

AGGREGATE_SECONDS: Final = 600.0
"""The same object, reason and message within this time raise the count of one Event."""
BURST: Final = 25
REFILL_SECONDS: Final = 300.0
"""Each object may have ``BURST`` events at once, and one more per ``REFILL_SECONDS``."""
QUEUE: Final = 1000
CACHE: Final = 2048
"""Events and objects remembered for aggregation and rate limits."""
FLUSH_SECONDS: Final = 2.0

_MAX_NOTE = 1024  # bytes, by the API's validation
_MAX_WORD = 128
_MAX_NAME = 253 - 17
_TRIES = 3
_HOME = "default"  # where events about cluster-scoped objects live


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class _Event:
    """One Event object: what it says, and how much of it is written."""

    regarding: dict[str, str]
    kind: str
    reason: str
    note: str
    seen: float
    count: int = 1
    written: int = 0  # the count in the API server; 0: not there yet
    queued: bool = False
    name: str = ""
    first: str = field(default_factory=_micro_time)
    last: str = field(default_factory=_micro_time)

    @property
    def namespace(self) -> str:
        return self.regarding.get("namespace") or _HOME


class EventEmitter:
    """Queues events and writes them from a task of its own.

    Args:
        session: the connection.
        component: ``reportingController``, shown by ``kubectl describe`` in "From".
        instance: ``reportingInstance``, such as the pod's name.
        monotonic: seconds, for aggregation and rate limits.
        retry_seconds: first pause after a failed write; doubles.
    """

    def __init__(
        self,
        session: KubeSession,
        *,
        component: str = FIELD_MANAGER,
        instance: str = FIELD_MANAGER,
        monotonic: Callable[[], float] = time.monotonic,
        retry_seconds: float = 1.0,
    ) -> None:
        self._session = session
        self._component = component
        self._instance = instance[:_MAX_WORD]
        self._monotonic = monotonic
        self._retry_seconds = retry_seconds
        self._known: OrderedDict[tuple[str, ...], _Event] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._queue: deque[_Event] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0
        """Events given up because the queue was full or the object had too many."""
        self.failed = 0
        """Events that the API server did not take."""

    def start(self) -> None:
        """Start the writing task. Before ``kopf.operator()``, which cancels every task that was made after it."""
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="events")

    def emit(self, regarding: Mapping[str, str], kind: str, reason: str, message: str) -> None:
        """Queue one event; never blocks and never raises.

        Args:
            regarding: apiVersion, kind, namespace, name, uid of the object.
            kind: ``Normal`` or ``Warning``.
            reason: CamelCase word.
            message: for a person; never a value. Cut at 1024 bytes.
        """
        now = self._monotonic()
        target = {key: str(value) for key, value in regarding.items() if value}
        note = message.encode(errors="replace")[:_MAX_NOTE].decode(errors="ignore")
        if not self._allowed(_object_key(target), now):
            self.dropped += 1
            return
        event = self._aggregate(_Event(target, kind, reason[:_MAX_WORD], note, now))
        if not event.queued:
            event.queued = True
            self._queue.append(event)
            if len(self._queue) > QUEUE:
                self._queue.popleft().queued = False
                self.dropped += 1
        self._idle.clear()
        self._wake.set()

    async def close(self) -> None:
        """Write what is queued, for two seconds at most, then stop."""
        if self._writer is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._idle.wait()
        await stop(self._writer)
        self._writer = None

    def _allowed(self, target: str, now: float) -> bool:
        """Take one token of the object's bucket."""
        tokens, filled = self._buckets.pop(target, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - filled) / REFILL_SECONDS)
        allowed = tokens >= 1
        self._buckets[target] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > CACHE:
            self._buckets.popitem(last=False)
        return allowed

    def _aggregate(self, event: _Event) -> _Event:
        key = (_object_key(event.regarding), event.kind, event.reason, event.note)
        known = self._known.pop(key, None)
        if known is not None and event.seen - known.seen < AGGREGATE_SECONDS:
            known.count += 1
            known.seen, known.last = event.seen, event.last
            event = known
        self._known[key] = event
        while len(self._known) > CACHE or event.seen - next(iter(self._known.values())).seen >= AGGREGATE_SECONDS:
            self._known.popitem(last=False)
        return event

    async def _write_all(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            event = self._queue.popleft()
            event.queued = False
            await self._write(event)

    async def _write(self, event: _Event) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                await self._write_once(event)
            except (ApiThrottled, ApiUnreachable) as error:
                if attempt < _TRIES:
                    await asyncio.sleep(error.retry_after or self._retry_seconds * 2 ** (attempt - 1))
            except Exception:  # noqa: BLE001 - an event is news: no fault of it may end the task that writes the next
                break
            else:
                return
        self.failed += 1

    async def _write_once(self, event: _Event) -> None:
        count = event.count
        if event.written and count > event.written:
            series = {"count": count, "lastObservedTime": event.last}
            try:
                await self._session.request(
                    "PATCH", path("events", event.namespace, event.name), {"series": series}, content_type=MERGE_PATCH
                )
            except ApiNotFound:  # events live an hour, by the API server's default
                event.written = 0
        if not event.written:
            event.name = f"{event.regarding.get('name', 'unknown')[:_MAX_NAME]}.{uuid.uuid4().hex[:16]}"
            await self._session.request("POST", path("events", event.namespace), self._manifest(event, count))
        event.written = count

    def _manifest(self, event: _Event, count: int) -> dict[str, Any]:
        manifest: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": event.namespace},
            "regarding": event.regarding,
            "type": event.kind,
            "reason": event.reason,
            "action": event.reason,
            "note": event.note,
            "eventTime": event.first,
            "reportingController": self._component,
            "reportingInstance": self._instance,
        }
        if count > 1:
            manifest["series"] = {"count": count, "lastObservedTime": event.last}
        return manifest


def _object_key(regarding: Mapping[str, str]) -> str:
    return regarding.get("uid") or "/".join(regarding.get(part, "") for part in ("kind", "namespace", "name"))
