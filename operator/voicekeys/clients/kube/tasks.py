"""Ends background tasks for certain, and calls again what fails at first."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from voicekeys.model.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; what it raised is dropped.

    Cancelled more than once if need be: a library may take a cancellation for a timeout of the same instant, and a task
    that goes on after timeouts would then never end.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    if not task.cancelled():
        task.exception()  # marks it as seen


async def patiently(
    call: Callable[[], Awaitable[T]], seconds: float, on_error: Callable[[ApiError], None], pause: float = 1.0
) -> T:
    """Call, and again for a while when the API server refuses or does not answer.

    Args:
        call: what may fail.
        seconds: for which it is tried again; a call that is under way then goes on.
        on_error: told of each failure but the last.
        pause: seconds between two calls.

    Raises:
        ApiError: of the last call.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except ApiError as error:
            if time.monotonic() > end:
                raise
            on_error(error)
            await asyncio.sleep(pause)
