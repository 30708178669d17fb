"""What `/healthz` and `/readyz` ask beside the event loop: do the watches live, has a store answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from voicekeys.clients.kube.watch import Watcher
    from voicekeys.handlers.bindings import BindingHandlers
    from voicekeys.reconcilers.ports import Clock
    from voicekeys.reconcilers.stores import Stores


class Checks:
    """Answers with a reason when something is wrong, with None when all is well.

    Args:
        watchers: the watches of our own that run now.
        handlers: knows what kopf's watch of bindings has told.
        stores: the stores and their pollers.
        leads: whether this process holds the Lease.
        clock: monotonic time.
        silent_seconds: silence after which a watch counts as dead.
    """

    def __init__(
        self,
        watchers: Callable[[], Iterable[Watcher]],
        handlers: BindingHandlers,
        stores: Stores,
        leads: Callable[[], bool],
        clock: Clock,
        silent_seconds: float,
    ) -> None:
        self._watchers = watchers
        self._handlers = handlers
        self._stores = stores
        self._leads = leads
        self._clock = clock
        self._limit = silent_seconds

    def watch(self) -> str | None:
        """A watch that neither hears nor errs for long is dead; one whose API server is down is not our fault."""
        now = self._clock.monotonic()
        silent = [
            one.resource
            for one in self._watchers()
            if one.last_seen is not None and not one.failing and now - one.last_seen > self._limit
        ]
        if self._handlers.deaf_for(now) > self._limit:
            silent.append("voicekeybindings")
        return f"no sign of life for {self._limit:.0f} s on the watch of {', '.join(silent)}" if silent else None

    def stores(self) -> str | None:
        """Not ready while no read of any store has ended, well or badly; a standby asks no store."""
        if not self._leads():
            return None
        stores = self._stores.all.values()
        pollers = [store.poller for store in stores if store.poller is not None and store.poller.sources]
        waiting = [one for one in pollers if one.starting]
        return "no store has answered yet" if waiting and len(waiting) == len(pollers) else None
