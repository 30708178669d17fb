"""kopf, kept running: what ends it does not end the operator.

A 410 in answer to kopf's list, or an answer that is no JSON, comes out of kopf as an exception of its root tasks. It is
started again, in the same process, after a pause: the engine, the polls and the watches of ours go on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kopf
import structlog

from voicekeys.handlers.bindings import registry
from voicekeys.handlers.kopf_settings import Backoffs, kopf_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from random import Random

    from voicekeys.handlers.bindings import BindingHandlers

log = structlog.get_logger(__name__)

STEADY_SECONDS = 60.0
"""After running for so long, kopf is started again with the shortest pause."""

LISTED_SECONDS = 10.0
"""So long after its start kopf has listed, or else has ended again."""


class Shell:
    """Runs kopf.

    Args:
        handlers: for bindings.
        login: gives the fields of ``kopf.ConnectionInfo``.
        namespaces: the namespaces to watch; empty for the whole cluster.
        identity: this process's name. Without one kopf asks the system for the user's, which an image need not have:
            under a user that is a number only, as in ours, that ends kopf at its start (facts of `getpass.getuser`).
        random: jitter.
        on_start: called after each start: kopf has then put its own signal handlers in place.
    """

    def __init__(
        self,
        handlers: BindingHandlers,
        login: Callable[[], Mapping[str, Any]],
        namespaces: Sequence[str],
        identity: str,
        random: Random,
        on_start: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._login = login
        scope = {"namespaces": namespaces} if namespaces else {"clusterwide": True}
        self._options: dict[str, Any] = {"standalone": True, "identity": identity, **scope}
        self._random = random
        self._on_start = on_start
        self.resumed = asyncio.Event()
        """Set when kopf was started again and has had time to list: what was deleted meanwhile, nobody tells."""

    async def run(self) -> None:
        """Run kopf for ever; cancel to stop."""
        pauses = iter(Backoffs(self._random))
        while True:
            started = time.monotonic()
            try:
                await self._once()
            except Exception as error:  # noqa: BLE001 -- kopf raises what its tasks died of, whatever it is
                # Neither text nor traceback: an exception of a client may hold headers.
                cause = f"{type(error).__name__} at {_place(error)}"
            else:
                cause = "no error"
            if time.monotonic() - started > STEADY_SECONDS:
                pauses = iter(Backoffs(self._random))
            pause = next(pauses)
            log.warning("the watch of bindings ended, starts again", cause=cause, seconds=round(pause, 1))
            await asyncio.sleep(pause)
            asyncio.get_running_loop().call_later(LISTED_SECONDS, self.resumed.set)

    async def _once(self) -> None:
        tasks = await kopf.spawn_tasks(
            registry=registry(self._handlers, self._login),
            settings=kopf_settings(self._random),
            **self._options,
        )
        self._on_start()
        await kopf.run_tasks(tasks, ignored=OthersTasks())


def _place(error: BaseException) -> str:
    """Where an error was raised: a file's name and a line, no text of anybody's."""
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    return f"{Path(frame.f_code.co_filename).name}:{line}"


class OthersTasks(Collection[asyncio.Task[Any]]):
    """Every task but kopf's own: at its end kopf cancels all that it does not find here (facts §2, trap 9)."""

    def __contains__(self, task: object) -> bool:
        """Whether a task runs code that is not kopf's."""
        code = getattr(task.get_coro(), "cr_code", None) if isinstance(task, asyncio.Task) else None
        return code is None or "/kopf/" not in code.co_filename.replace("\\", "/")

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return (task for task in asyncio.all_tasks() if task in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
