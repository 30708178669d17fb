"""One logical request: what of it is tried again at once, and what each try is counted as.

A read tries again by itself only what is often gone in a moment (`RETRIED_IN_CALL`), twice at most. Anything longer is
for whoever polls: there, one probe serves the whole store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from hvac import exceptions as hvac_errors

from voicekeys.clients.vault import errors
from voicekeys.model.errors import SourceError

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from voicekeys.clients.vault.answer import Answer

T = TypeVar("T")

RETRIES: Final = 2
FIRST_PAUSE: Final = 0.1
"""Seconds before the first retry, doubled for the second, each ± half at random."""
LONGEST_PAUSE: Final = 1.0
"""Seconds; a server that asks for more is left alone, and the caller told how long."""


class Clock(Protocol):
    """Time, so that tests can hold it."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class Calls:
    """Runs requests with retries and reports each try.

    Args:
        where: Vault's name in messages.
        clock: measures.
        rng: jitters.
        observe: is told ``(operation, outcome, seconds)`` of each try; operation is one of ``read``, ``login``,
            ``renew``, ``revoke``, ``inspect``; outcome is ``ok`` or a `Reason`.
        patience: seconds after whose passing no retry begins.
    """

    def __init__(
        self,
        where: str,
        clock: Clock,
        rng: random.Random,
        observe: Callable[[str, str, float], None],
        patience: float,
    ) -> None:
        self._where = where
        self._clock = clock
        self._rng = rng
        self._observe = observe
        self._patience = patience

    async def run(self, operation: str, send: Callable[[], Awaitable[Answer]], understand: Callable[[Answer], T]) -> T:
        """Send a request until it is understood, or until trying again at once makes no sense.

        Args:
            operation: see ``observe``.
            send: makes one try.
            understand: reads the answer; raises SourceError for one that is not good.

        Raises:
            SourceError: of the last try.
        """
        latest = self._clock.monotonic() + self._patience
        tries = 0
        while True:
            started = self._clock.monotonic()
            try:
                result = understand(await send())
            except SourceError as error:
                failure = errors.fresh(error)
            except hvac_errors.VaultError as error:
                failure = errors.from_foreign(error, self._where)
            else:
                self._observe(operation, errors.OK, self._clock.monotonic() - started)
                return result
            ended = self._clock.monotonic()
            self._observe(operation, failure.reason, ended - started)
            pause = self._pause(failure, tries)
            if pause is None or ended + pause >= latest:
                raise failure
            tries += 1
            await asyncio.sleep(pause)

    def _pause(self, failure: SourceError, tries: int) -> float | None:
        """Seconds until the next try; None where there is none."""
        if tries >= RETRIES or failure.reason not in errors.RETRIED_IN_CALL:
            return None
        pause: float = FIRST_PAUSE * 2**tries * self._rng.uniform(0.5, 1.5)
        if failure.retry_after is None:
            return pause
        return failure.retry_after + pause if failure.retry_after <= LONGEST_PAUSE else None
