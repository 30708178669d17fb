"""The engine: a fixed number of workers take keys from the queue, reconcile, and put back what must be tried again.

Keys with a namespace are bindings, keys without are stores.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from voicekeys.api.names import BINDING_KIND, STORE_KIND
from voicekeys.model.errors import ApiConflict, Retryable
from voicekeys.policies.schedule import backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from random import Random

    from voicekeys.model.identity import Name
    from voicekeys.reconcilers.ports import Clock
    from voicekeys.reconcilers.queue import WorkQueue

log = structlog.get_logger(__name__)

WORKERS = 16
MIN_PAUSE_SECONDS = 0.5
"""Between a reconcile and the look that it asks for: whatever it asks, the API server is not asked in a loop."""


class Measure(Protocol):
    """Where the engine's durations go."""

    def __call__(self, kind: str, outcome: str, seconds: float) -> None:
        """Take one reconcile: the kind; ``ok``, ``retry`` or ``error``; seconds."""


class Engine:
    """Runs reconciles.

    Args:
        queue: where keys come from.
        reconcile: by kind: what to do with a key; it answers when to look again.
        clock: time.
        random: jitter of backoffs.
        measure: durations.
    """

    def __init__(
        self,
        queue: WorkQueue,
        reconcile: Mapping[str, Callable[[Name], Awaitable[datetime | None]]],
        clock: Clock,
        random: Random,
        measure: Measure,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._random = random
        self._measure = measure
        self._failures: dict[Name, int] = {}

    async def run(self) -> None:
        """Work for ever; cancel to stop. A reconcile that is under way is cancelled at its next await."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._one(key)
            finally:
                self._queue.done(key)

    async def _one(self, key: Name) -> None:
        kind = BINDING_KIND if key.namespace else STORE_KIND
        started = time.perf_counter()
        outcome = "ok"
        try:
            wake = await self._reconcile[kind](key)
        except Retryable as error:
            outcome = "retry"
            self._again(key, error)
            log.warning("will try again", kind=kind, object=str(key), reason=error.reason, message=error.message)
        except Exception:
            outcome = "error"
            self._again(key, None)
            log.exception("reconcile failed", kind=kind, object=str(key))
        else:
            self._failures.pop(key, None)
            if wake is not None:
                seconds = (wake - self._clock.now()).total_seconds()
                self._queue.add_after(key, max(MIN_PAUSE_SECONDS, seconds))
        self._measure(kind, outcome, time.perf_counter() - started)

    def _again(self, key: Name, error: Retryable | None) -> None:
        attempt = self._failures.get(key, 0) + 1
        self._failures[key] = attempt
        # A conflict means that somebody else wrote first: read again at once, but not for ever at that pace.
        base = 0.05 if isinstance(error, ApiConflict) else 1.0
        asked = error.retry_after if error is not None and error.retry_after else 0.0
        self._queue.add_after(key, max(asked, backoff(attempt, self._random, base=base)))
