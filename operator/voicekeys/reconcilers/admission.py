"""Whether the API server arms new pods, looked at now and then by the leader.

What depends on it is kept in a pod template for good, so that no single answer decides: a policy that is replaced is
gone for a moment, and rules of access come and go with their own manifests.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 5.0
"""A policy that is gone is looked for once more after this."""


class Admission:
    """What is known of the arming policy.

    Args:
        ask: whether the policy is there; None where that may not be read. No such question: nothing is armed.
        on_change: called when it came or went while the operator ran: what was known of pods may be so no more.
        again: seconds between two looks for a policy that has gone, or that may not be read yet.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool | None]] | None,
        on_change: Callable[[], None],
        again: float = AGAIN_SECONDS,
    ) -> None:
        self._ask = ask
        self._on_change = on_change
        self._again = again
        self._known: bool | None = None
        self.changes = 0
        """How often it came or went while this process knew of it."""
        self._said = ""

    @property
    def arms(self) -> bool:
        """Whether the API server arms new pods."""
        return bool(self._known)

    async def look(self) -> None:
        """Look whether the policy is there.

        Raises:
            ApiError: the API server did not answer; what was known holds.
        """
        if self._ask is None:
            return
        found = await self._ask()
        if (found is False and self._known) or (found is None and self._known is None):
            await asyncio.sleep(self._again)
            found = await self._ask()
        if found is None:
            unknown = "the arming policy may not be read: check the operator's RBAC on mutatingadmissionpolicies"
            self._say(f"{unknown}; what was known holds: {'admission' if self.arms else 'their templates'}")
            return
        before, self._known = self._known, found
        self._say("admission" if found else "their templates: the arming policy is not there")
        if before is not None and before is not found:
            self.changes += 1
            self._on_change()

    def _say(self, by: str) -> None:
        if by != self._said:
            self._said = by
            log.info("how new pods of agents are armed", by=by)
