"""Callbacks before the deadline: say goodbye, transfer the caller. Each runs once for each live call."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from voicekeys.agent.core import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from voicekeys.agent.call import Call


@dataclass(slots=True)
class _Farewell:
    callback: Callable[[Call], object]
    before: float
    told: WeakSet[Call] = field(default_factory=WeakSet)


class Farewells:
    """What is to be done with calls that are still live shortly before the grace ends."""

    def __init__(self) -> None:
        self._all: list[_Farewell] = []

    def add(self, callback: Callable[[Call], object], before: float) -> None:
        """Run a callback for each live call, that many seconds before the deadline."""
        self._all = [*self._all, _Farewell(callback, before)]

    def step(self, now: float, deadline: float | None, calls: Iterable[Call]) -> float | None:
        """Run what is due. Returns when the next is.

        Args:
            now: the monotonic clock.
            deadline: when the grace ends; None when nothing ends, or nobody knows when.
            calls: the live ones.
        """
        if deadline is None:
            return None
        live = list(calls)
        for farewell in self._all:
            if now >= deadline - farewell.before:
                for call in live:
                    if call not in farewell.told:
                        farewell.told.add(call)
                        run(farewell.callback, call)
        return min((at for one in self._all if (at := deadline - one.before) > now), default=None)


def run(callback: Callable[[Call], object], call: Call) -> None:
    """Run a callback where its call lives: on the loop that the call began on, else in a thread of its own.

    Never on the library's own thread, and without waiting: a callback may take as long as the grace lasts.
    """
    loop = call.loop
    if loop is None or loop.is_closed():
        threading.Thread(target=_in_thread, args=(callback, call), name="voicekeys-farewell", daemon=True).start()
        return
    try:
        loop.call_soon_threadsafe(_on_loop, callback, call)
    except RuntimeError:  # it closed meanwhile, and its calls with it
        logger.info("a call's loop closed before its farewell")


_running: set[asyncio.Task[None]] = set()
"""Loops hold their tasks weakly."""


def _on_loop(callback: Callable[[Call], object], call: Call) -> None:
    task = asyncio.get_running_loop().create_task(_told(callback, call))
    _running.add(task)
    task.add_done_callback(_running.discard)


def _in_thread(callback: Callable[[Call], object], call: Call) -> None:
    work: Coroutine[Any, Any, None] = _told(callback, call)
    asyncio.run(work)


async def _told(callback: Callable[[Call], object], call: Call) -> None:
    try:
        result = callback(call)
        if inspect.isawaitable(result):
            await result
    except Exception as error:  # noqa: BLE001 - the agent's own callback; its message may hold anything
        logger.error("a farewell failed: %s", type(error).__name__)
