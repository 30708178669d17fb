"""The kopf edge: events of bindings become records and keys of work. Handlers decide nothing and never wait.

kopf swallows what an ``on.event`` handler raises and never retries it (facts §2, trap 5), so nothing that can fail
for long happens here.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import kopf
import structlog

from voicekeys.api import names
from voicekeys.model.identity import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from random import Random

    from voicekeys.reconcilers.inventory import Inventory
    from voicekeys.reconcilers.queue import WorkQueue

log = structlog.get_logger(__name__)


class BindingHandlers:
    """Takes bindings in.

    Args:
        inventory: told of each binding.
        queue: told which to work on.
    """

    def __init__(self, inventory: Inventory, queue: WorkQueue) -> None:
        self._inventory = inventory
        self._queue = queue

    async def on_event(self, event: Mapping[str, Any], **_: object) -> None:
        """Take one watch event of a binding; a coroutine, since kopf runs plain functions in threads of their own."""
        raw = event["object"]
        if event["type"] == "DELETED":
            self._drop(raw)
        else:
            self.take(raw)

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
            edited = known is not None and (known.generation, known.sync_now) != (record.generation, record.sync_now)
            self._queue.add(record.name, urgent=edited)
            targets = {record.secret} | ({known.secret} if known is not None else set())
            for rival in {other for target in targets for other in self._inventory.of_secret(target)} - {name}:
                self._queue.add(rival)  # whose Secret it is may have changed


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


def kopf_settings(random: Random) -> kopf.OperatorSettings:
    """Settings measured in facts §2: little memory per object, no write of kopf's own, no end after API faults."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.queueing.idle_timeout = 0.01  # for so long an object that was taken in stays in memory
    settings.watching.chunk_size = 100  # a page of a list is in memory several times over while it is taken in
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 320
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = Backoffs(random)
    settings.process.ultimate_exiting_timeout = 25
    return settings


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing of an object: kopf copies each one whole to find changes, which only its other handlers ask."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        """Give an empty essence."""
        del body, extra_fields
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Give None: nothing was stored."""
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing: an annotation would be a write for each object."""


class Backoffs:
    """Endless jittered pauses, from half a second to half a minute: kopf ends the process when its list runs out.

    Args:
        random: jitter.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def __iter__(self) -> Iterator[float]:
        for attempt in itertools.count():
            yield min(30.0, 0.5 * 2.0 ** min(attempt, 10)) * self._random.uniform(0.5, 1)
