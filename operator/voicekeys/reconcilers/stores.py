"""The stores: their specs, one poller each, who subscribes to what, and their status."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from voicekeys.api.status import StoreStatus, parse_store_status
from voicekeys.api.store import StoreSpec, parse_store_spec
from voicekeys.model.errors import VoiceKeysError
from voicekeys.model.verdict import Verdict
from voicekeys.reconcilers.inventory import pack_status
from voicekeys.reconcilers.poller import StorePoller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from voicekeys.model.identity import Name, SourceId
    from voicekeys.reconcilers.ports import Clock, KeySource
    from voicekeys.reconcilers.source import Source

log = structlog.get_logger(__name__)

POLLER_PAUSE_SECONDS = 5.0


class Connect(Protocol):
    """Makes the client of a store."""

    async def __call__(self, name: str, spec: StoreSpec) -> KeySource:
        """Give a client; Terminal where the store's own settings cannot be used (a CA that is not there)."""


@dataclass(slots=True)
class Store:
    """One store as the operator runs it."""

    name: str
    spec: StoreSpec
    uid: str = ""
    generation: int = 0
    resource_version: int = 0
    status_json: bytes = b"{}"
    poller: StorePoller | None = None
    client: KeySource | None = None
    task: asyncio.Task[None] | None = None
    problem: Verdict | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one start at a time

    @property
    def from_file(self) -> bool:
        """Whether it came from a file, not from the API server: it has no status to write."""
        return not self.uid

    def status(self) -> StoreStatus:
        """Parse the status as last written."""
        return parse_store_status(self.status_json)


class _Former(NamedTuple):
    """What a store ran on before its settings changed."""

    task: asyncio.Task[None] | None
    client: KeySource | None


class Stores:
    """All stores.

    Args:
        connect: makes a store's client.
        clock: time.
        random: jitter of the pollers.
        on_change: told the source whose key or error changed.
        on_store: told the name of a store that wants a look.
        on_rebuilt: told the name of a store whose bindings must look anew.
        on_lag: told by how many seconds a read came after its planned time.
    """

    def __init__(
        self,
        connect: Connect,
        clock: Clock,
        random: Random,
        *,
        on_change: Callable[[Source], None],
        on_store: Callable[[str], None],
        on_rebuilt: Callable[[str], None],
        on_lag: Callable[[float], None],
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._on_store = on_store
        self._on_rebuilt = on_rebuilt
        self._on_lag = on_lag
        self.all: dict[str, Store] = {}
        self._subscribed: dict[Name, SourceId] = {}
        self._previous: dict[Name, SourceId] = {}

    def spec(self, name: str) -> StoreSpec | None:
        """A store's spec, None if there is no such store."""
        store = self.all.get(name)
        return store.spec if store else None

    def is_starting(self, name: str) -> bool:
        """Whether a store has no poller only because it is being connected; its bindings are woken afterwards."""
        store = self.all.get(name)
        return store is not None and store.poller is None and store.problem is None and not store.spec.suspend

    async def upsert(self, raw: Mapping[str, Any]) -> None:
        """Take in a store from the API server or a file (which has no UID).

        Raises:
            ValueError: the spec cannot be used.
        """
        metadata = raw["metadata"]
        name, version = metadata["name"], int(metadata.get("resourceVersion", 0))
        known = self.all.get(name)
        if known and known.uid == metadata.get("uid", "") and version and version <= known.resource_version:
            return
        spec = parse_store_spec(raw["spec"])
        store = known or Store(name, spec)
        rebuilt = known is None or known.spec != spec
        store.spec, store.uid = spec, metadata.get("uid", "")
        store.generation, store.resource_version = metadata.get("generation", 0), version
        store.status_json = pack_status(raw.get("status"))
        self.all[name] = store
        if rebuilt:
            former = self._detach(store)  # before any await: nobody may read by the former settings from here on
            await self._end(store, former)
            await self.start(store)
            self._on_rebuilt(name)
        self._on_store(name)

    async def remove(self, name: str) -> None:
        """Forget a store; its bindings keep their Secrets and say that the store is gone."""
        store = self.all.pop(name, None)
        if store is not None:
            sources = list(store.poller.sources.values()) if store.poller is not None else []
            await self._end(store, self._detach(store))
            for source in sources:
                source.subscribers.clear()
                self._on_change(source)  # nobody's any more: others may no longer share its key
            self._on_rebuilt(name)

    async def start(self, store: Store) -> None:
        """Connect and poll, unless the store is suspended or its settings cannot be used yet."""
        async with store.lock:
            if store.poller is None:
                await self._start(store)

    async def _start(self, store: Store) -> None:
        """Connect by the store's present settings; those of a moment ago are let go of, and not polled by."""
        while store.poller is None and self.all.get(store.name) is store:
            spec = store.spec
            if spec.suspend:
                store.problem = None
                return
            try:
                client = await self._connect(store.name, spec)
            except VoiceKeysError as error:
                if store.spec == spec:
                    store.problem = Verdict(error.reason, error.message)
                    return
                continue
            if store.spec == spec and self.all.get(store.name) is store:
                self._begin(store, client)
            else:
                await client.close()

    def _begin(self, store: Store, client: KeySource) -> None:
        store.problem, store.client = None, client
        interval = store.spec.poll.interval
        store.poller = StorePoller(
            client,
            self._clock,
            self._random,
            reads_per_second=store.spec.poll.reads_per_second,
            interval=interval.total_seconds() if interval else None,
            on_change=self._on_change,
            on_state=lambda: self._on_store(store.name),
            on_lag=self._on_lag,
        )
        store.task = asyncio.create_task(self._poll(store.name, store.poller), name=f"poll {store.name}")

    async def _poll(self, name: str, poller: StorePoller) -> None:
        """Poll for ever: a fault of ours in one round must not end the reading of a whole store."""
        while True:
            try:
                await poller.run()
            except Exception:
                log.exception("poller failed, goes on", store=name)
                await asyncio.sleep(POLLER_PAUSE_SECONDS)

    def _detach(self, store: Store) -> _Former:
        """Take poller and subscriptions away at once; bindings that look now see a store that is being connected."""
        former = _Former(store.task, store.client)
        if store.poller is not None:
            store.poller.retire()
        store.task = store.client = store.poller = store.problem = None
        for table in (self._subscribed, self._previous):
            for binding in [name for name, source in table.items() if source.store == store.name]:
                del table[binding]
        return former

    @staticmethod
    async def _end(store: Store, former: _Former) -> None:
        """Close what was taken away, and wait for a start that is under way: it finds the settings changed."""
        if former.task is not None:
            former.task.cancel()
            await asyncio.gather(former.task, return_exceptions=True)
        if former.client is not None:
            await former.client.close()
        async with store.lock:
            pass

    async def retry(self, store: Store) -> None:
        """Try again to use a store whose settings could not be used before; its bindings look anew if it works."""
        await self.start(store)
        if store.poller is not None:
            self._on_rebuilt(store.name)

    async def close(self) -> None:
        """Stop every poller and close every client."""
        known = list(self.all.values())
        self.all.clear()
        # All at once: one that hangs must not take the time in which the Lease is given back.
        await asyncio.gather(*(self._end(store, self._detach(store)) for store in known), return_exceptions=True)

    def subscribe(self, binding: Name, source_id: SourceId, environment: str) -> Source | None:
        """Give the source that a binding reads; a former one is let go. None while the store cannot be used."""
        return self._take(self._subscribed, binding, source_id, environment)

    def subscribe_previous(self, binding: Name, source_id: SourceId, environment: str) -> Source | None:
        """Give the pinned version that a rollback of the binding needs."""
        return self._take(self._previous, binding, source_id, environment)

    def _take(self, table: dict[Name, SourceId], binding: Name, source_id: SourceId, environment: str) -> Source | None:
        poller = self._poller(source_id)
        if table.get(binding) != source_id:
            self._release(table, binding)
            if poller is not None:
                table[binding] = source_id
                self._on_store(source_id.store)
        if poller is None:
            return None
        source = poller.subscribe(source_id, binding)
        table[binding] = source.id  # one for all that share it
        if source.subscribers.get(binding) != environment:
            news = environment not in source.subscribers.values()
            source.subscribers[binding] = environment
            if news and source.key is not None:
                self._on_change(source)  # whether the key is shared between environments has to be asked anew
        return source

    def release(self, binding: Name) -> None:
        """Let go of all that a binding reads."""
        self._release(self._subscribed, binding)
        self._release(self._previous, binding)

    def release_previous(self, binding: Name) -> None:
        """Let go of the pinned version of a rollback."""
        self._release(self._previous, binding)

    def _release(self, table: dict[Name, SourceId], binding: Name) -> None:
        source_id = table.pop(binding, None)
        if source_id is None:
            return
        poller = self._poller(source_id)
        other = self._previous if table is self._subscribed else self._subscribed
        source = poller.sources.get(source_id) if poller is not None else None
        if poller is not None and source is not None and other.get(binding) != source_id:
            poller.unsubscribe(source_id, binding)
            if not source.subscribers:
                self._on_change(source)  # nobody's any more: others may no longer share its key
        self._on_store(source_id.store)

    def _poller(self, source_id: SourceId) -> StorePoller | None:
        store = self.all.get(source_id.store)
        return store.poller if store else None

    def find(self, source_id: SourceId) -> Source | None:
        """A source by its id, None if nobody subscribes to it."""
        poller = self._poller(source_id)
        return poller.sources.get(source_id) if poller else None

    def source_of(self, binding: Name) -> Source | None:
        """The source that a binding reads, None if it reads none."""
        source_id = self._subscribed.get(binding)
        return self.find(source_id) if source_id else None

    def read_now(self, source: Source) -> None:
        """Read a source at once."""
        poller = self._poller(source.id)
        if poller is not None:
            poller.read_now(source)

    def notify(self, store: str, path: str) -> int | None:
        """Read a path at once, for every identity that reads it.

        Returns:
            How many bindings are concerned; None where there is no such store.
        """
        known = self.all.get(store)
        if known is None:
            return None
        sources = [one for one in (known.poller.sources.values() if known.poller else ()) if one.id.path == path]
        for source in sources:
            self.read_now(source)
        return sum(len(source.subscribers) for source in sources)
