"""A fixed number of slots, fairly shared: whoever has fewest of them gets the next one."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Owner = TypeVar("Owner")


class FairSlots(Generic[Owner]):
    """Slots for one event loop.

    Args:
        number: how many there are.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._taken: Counter[Owner] = Counter()
        self._waiting: dict[Owner, deque[asyncio.Future[None]]] = {}

    @property
    def taken(self) -> int:
        """Slots that somebody has."""
        return self._taken.total()

    @asynccontextmanager
    async def slot(self, owner: Owner) -> AsyncIterator[None]:
        """Have a slot; waits for one in the order of the owner's own, and of who has fewest."""
        if self.taken < self.number and not self._waiting:
            self._taken[owner] += 1
        else:
            await self._wait(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    async def _wait(self, owner: Owner) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                self._withdraw(owner, mine)
            else:  # it was given one at the same moment
                self._give_back(owner)
            raise

    def _withdraw(self, owner: Owner, mine: asyncio.Future[None]) -> None:
        line = self._waiting.get(owner, deque())
        if mine in line:  # else it was passed over already
            line.remove(mine)
            if not line:
                del self._waiting[owner]

    def _give_back(self, owner: Owner) -> None:
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        while self._waiting and self.taken < self.number:
            # The first of equals is who has waited longest without one: an owner that got one goes to the end.
            chosen = min(self._waiting, key=lambda one: self._taken[one])
            line = self._waiting.pop(chosen)
            mine = line.popleft()
            if line:
                self._waiting[chosen] = line
            if not mine.done():  # one that is being cancelled needs none
                self._taken[chosen] += 1
                mine.set_result(None)
