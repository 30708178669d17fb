"""The CA of a store, read again while the store runs: one that was exchanged is trusted without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Final

from voicekeys.model.errors import VoiceKeysError

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.clients.vault.access import ReadCa
    from voicekeys.clients.vault.calls import Clock

LOOK_EVERY: Final = 300.0
"""Seconds between two looks while all is well."""
LOOK_AFTER_FAILURE: Final = 30.0
"""Seconds between two looks while the TLS connection fails."""
LOOK_WITHIN: Final = 30.0
"""Seconds that one look may take."""


class CaWatch:
    """Looks for another CA beside the reads, so that no read waits for the Kubernetes API.

    Args:
        read: reads the CA.
        take: told the CA at each look that found one; it keeps the former one where that is no certificate.
        clock: tells when to look.
    """

    def __init__(self, read: ReadCa, take: Callable[[str], None], clock: Clock) -> None:
        self._read = read
        self._take = take
        self._clock = clock
        self._looked_at = clock.monotonic()
        self._failed_at = -math.inf
        self._look: asyncio.Task[None] | None = None

    def remind(self, *, failed: bool = False) -> None:
        """Begin a look if it is time for one; ``failed`` says that the TLS connection has just failed."""
        now = self._clock.monotonic()
        if failed and now - self._failed_at >= LOOK_AFTER_FAILURE:
            self._failed_at = now
        elif now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._once())

    async def _once(self) -> None:
        found = None
        # What is trusted stays so while the ConfigMap is gone or cannot be read.
        with contextlib.suppress(VoiceKeysError, TimeoutError):
            async with asyncio.timeout(LOOK_WITHIN):
                found = await self._read()
        if found is not None:
            self._take(found)

    async def close(self) -> None:
        """End a look under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
