"""The kopf edge: events of bindings become records and keys of work. Handlers decide nothing and never wait.

kopf swallows what an ``on.event`` handler raises and never retries it (facts §2, trap 5), so nothing that can fail
for long happens here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kopf
import structlog

from voicekeys.api import names
from voicekeys.model.identity import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voicekeys.reconcilers.inventory import Inventory
    from voicekeys.reconcilers.ports import Clock
    from voicekeys.reconcilers.queue import WorkQueue

log = structlog.get_logger(__name__)


class BindingHandlers:
    """Takes bindings in.

    Args:
        inventory: told of each binding.
        queue: told which to work on.
        clock: monotonic time.
    """

    def __init__(self, inventory: Inventory, queue: WorkQueue, clock: Clock) -> None:
        self._inventory = inventory
        self._queue = queue
        self._clock = clock
        self._heard = 0  # newest resourceVersion that kopf's watch has told of
        self._listed = 0  # newest that a list of ours has shown
        self._behind_since = 0.0

    async def on_event(self, event: Mapping[str, Any], **_: object) -> None:
        """Take one watch event of a binding; a coroutine, since kopf runs plain functions in threads of their own."""
        raw = event["object"]
        self._heard = max(self._heard, _version(raw))
        self._behind_since = self._clock.monotonic()
        if event["type"] == "DELETED":
            self._drop(raw)
        else:
            self.take(raw)

    def begin_listing(self) -> None:
        """Forget the list before: its newest binding may be gone, and nobody tells of it."""
        self._listed = 0

    def on_listed(self, raw: Mapping[str, Any]) -> None:
        """Take a binding that a list of ours has shown: what is in it, kopf's watch must tell as well."""
        version = _version(raw)
        if version > self._listed:
            if self._listed <= self._heard:
                self._behind_since = self._clock.monotonic()
            self._listed = version
        self.take(raw)

    def deaf_for(self, now: float) -> float:
        """Seconds for which kopf's watch has told nothing although it is behind; 0 while it is not.

        Args:
            now: monotonic seconds.
        """
        return now - self._behind_since if self._listed > self._heard else 0.0

    def _drop(self, raw: Mapping[str, Any]) -> None:
        name = Name(raw["metadata"]["namespace"], raw["metadata"]["name"])
        known = self._inventory.bindings.get(name)
        if known is None or known.uid == raw["metadata"]["uid"]:
            self._inventory.remove(name)
            self._queue.forget(name)
            heirs = self._inventory.of_secret(known.secret) if known else ()
            for concerned in (name, *heirs):
                self._queue.add(concerned)

    def take(self, raw: Mapping[str, Any]) -> None:
        """Take a binding as it is now; a person's edit goes before the rest."""
        if "deletionTimestamp" in raw["metadata"]:
            self._drop(raw)  # whatever its finalizers wait for: nothing more is done for it
            return
        name = Name(raw["metadata"]["namespace"], raw["metadata"]["name"])
        known = self._inventory.bindings.get(name)
        try:
            record = self._inventory.upsert(raw)
        except ValueError:
            # The CRD refuses all that we refuse, so an older CRD is installed. The error's text may quote the spec.
            log.error("binding cannot be used: install the CRDs of this version", binding=str(name))  # noqa: TRY400
            return
        if record is not None:
            edited = known is not None and (known.generation, known.orders) != (record.generation, record.orders)
            self._queue.add(record.name, urgent=edited)
            targets = {record.secret} | ({known.secret} if known is not None else set())
            for rival in {other for target in targets for other in self._inventory.of_secret(target)} - {name}:
                self._queue.add(rival)  # whose Secret it is may have changed


def _version(raw: Mapping[str, Any]) -> int:
    return int(raw["metadata"]["resourceVersion"])


def registry(handlers: BindingHandlers, login: Callable[[], Mapping[str, Any]]) -> kopf.OperatorRegistry:
    """What kopf is to call.

    Args:
        handlers: for bindings.
        login: gives the fields of ``kopf.ConnectionInfo``: kopf's own login would go through whatever client library
            happens to be installed (facts §2, trap 10).
    """
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    def log_in(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**login())

    kopf.on.event(names.GROUP, names.VERSION, names.BINDING_PLURAL, registry=made)(handlers.on_event)
    return made
