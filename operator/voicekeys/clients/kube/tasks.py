"""Ends background tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any


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
