"""The operator's process: settings → clients → reconcilers → kopf. Wiring only; decisions are in the layers below.

Order matters: the HTTP server answers from the start, a standby waits at the Lease without starting kopf, and all
tasks of ours start before kopf does, since kopf cancels whatever was started after it (facts §2, trap 9).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from asyncio.sslproto import SSLProtocol
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from pydantic import ValidationError

from voicekeys import __version__
from voicekeys.api import names
from voicekeys.clients.agents import AgentsClient
from voicekeys.clients.clock import SystemClock
from voicekeys.clients.files import stores_in
from voicekeys.clients.kube.cluster import KubeCluster
from voicekeys.clients.kube.credentials import kopf_connection_info, load_credentials
from voicekeys.clients.kube.events import EventEmitter
from voicekeys.clients.kube.lease import Elector, candidacy
from voicekeys.clients.kube.own import OwnNamespace
from voicekeys.clients.kube.session import KubeSession
from voicekeys.clients.kube.tasks import patiently
from voicekeys.clients.vault.connect import connect
from voicekeys.handlers.bindings import BindingHandlers
from voicekeys.handlers.checks import Checks
from voicekeys.handlers.http import Heartbeat, Hooks, HttpServer
from voicekeys.handlers.shell import Shell
from voicekeys.model.digest import Digester
from voicekeys.model.errors import ApiError, VoiceKeysError
from voicekeys.model.identity import Name
from voicekeys.reconcilers.admission import Admission
from voicekeys.reconcilers.arming import Arming
from voicekeys.reconcilers.binding import BindingReconciler
from voicekeys.reconcilers.calls import Calls
from voicekeys.reconcilers.drains import Drains
from voicekeys.reconcilers.engine import Engine
from voicekeys.reconcilers.gather import Gatherer
from voicekeys.reconcilers.inventory import Inventory
from voicekeys.reconcilers.leftovers import Leftovers
from voicekeys.reconcilers.outcome import Outcome
from voicekeys.reconcilers.pods import PodTracker
from voicekeys.reconcilers.queue import WorkQueue
from voicekeys.reconcilers.registering import RegisteringSource
from voicekeys.reconcilers.rollout import Rollouts
from voicekeys.reconcilers.shared import SharedKeys
from voicekeys.reconcilers.siblings import Siblings
from voicekeys.reconcilers.state import State
from voicekeys.reconcilers.store import StoreReconciler
from voicekeys.reconcilers.stores import Stores
from voicekeys.reconcilers.sync import Sync
from voicekeys.reconcilers.turns import Turns
from voicekeys.reconcilers.watchers import Watchers
from voicekeys.settings import Settings
from voicekeys.telemetry.logging import LogOptions, setup
from voicekeys.telemetry.metrics import Metrics
from voicekeys.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from voicekeys.api.store import StoreSpec
    from voicekeys.model.identity import WorkloadId
    from voicekeys.reconcilers.ports import KeySource
    from voicekeys.reconcilers.source import Source

log = structlog.get_logger(__name__)

EXIT_LOST_LEASE = 3
EXIT_STUCK = 4
PATIENCE_SECONDS = 30.0  # for an API server's own start
END_SECONDS = 25.0  # for an orderly end, within the 30 s that a kubelet gives; then the process is killed
TLS_BUFFER = 64 * 1024  # bytes of each TLS connection, of which there are dozens; asyncio would take 256 KiB
STORE_SETTLE_SECONDS = 2.0  # a store's status waits for the burst of its bindings to pass


class Operator:
    """One process of the operator, from start to end.

    Args:
        settings: see `Settings`.
        redactor: of the logs.
    """

    def __init__(self, settings: Settings, redactor: Redactor) -> None:
        self.settings = settings
        self.redactor = redactor
        self.clock = SystemClock()
        self.random = Random()  # noqa: S311 -- jitter, not secrets
        self.metrics = Metrics(__version__)
        credentials = load_credentials(settings.kubeconfig, settings.kube_context)
        self.session = KubeSession(credentials, observe=self.metrics.api_request)
        self.namespace = settings.pod_namespace or self.session.credentials.namespace or "voicekeys-system"
        self.cluster = KubeCluster(self.session, namespace=self.namespace, on_watch_error=_watch_error)
        self.own = OwnNamespace(self.session, self.namespace)
        identity, former = candidacy(settings.pod_name, settings.pod_uid)
        on_error = _warning("the Lease could not be read or renewed")
        self.elector = Elector(
            self.session, self.namespace, settings.lease_name, identity, predecessors=former, on_error=on_error
        )
        self.events = EventEmitter(self.session, instance=identity)
        self.queue = WorkQueue()
        self.metrics.watch_queue(lambda: len(self.queue))
        self.inventory = Inventory()
        self.stores = Stores(
            self._connect,
            self.clock,
            self.random,
            on_change=self._source_changed,
            on_store=self._store_changed,
            on_rebuilt=self._store_rebuilt,
            on_lag=self.metrics.poll_lag,
        )
        self.tracker = PodTracker(self.cluster, self._pods_changed)
        self.agents = AgentsClient()
        self.drains = Drains(self.agents, self.clock, self.random, self._pods_changed)
        # A team without cluster rights has no policy there, and may not look.
        ask = None if settings.namespaces else self.cluster.has_arming_policy
        self.admission = Admission(ask, self._arming_changed)
        self.gauge_image = settings.gauge_image
        self.heartbeat = Heartbeat(self.clock)
        self.handlers = BindingHandlers(self.inventory, self.queue, self.clock)
        self.checks = Checks(
            lambda: self.cluster.watchers,
            self.handlers,
            self.stores,
            lambda: self.leads,
            self.clock,
            settings.silent_seconds,
        )
        self.shell = Shell(
            self.handlers,
            lambda: kopf_connection_info(credentials),
            settings.namespaces,
            identity,
            self.random,
            on_start=self._take_signals,  # back from kopf, which would wait 5 s for tasks of ours to end by themselves
        )
        self.state = State(self.inventory, self.stores, lambda: self.leads, self.drains, self.clock)
        self.shared: SharedKeys | None = None
        self.watchers: Watchers | None = None
        self.stop = asyncio.Event()
        self.leads_since = 0.0

    @property
    def leads(self) -> bool:
        """Whether this process holds the Lease."""
        return self.elector.is_leader or (not self.settings.leader_election and self.watchers is not None)

    async def run(self) -> None:
        """Serve, wait for the Lease, lead until told to stop.

        Raises:
            VoiceKeysError: the start is not possible as things are.
        """
        self._take_signals()
        settings = self.settings
        http = HttpServer(
            self.metrics, self.state, self._hooks(), self.clock, host=settings.http_host, port=settings.http_port
        )
        port = await http.start()
        log.info("started", version=__version__, http_port=port, namespace=self.namespace)
        beat = asyncio.create_task(self.heartbeat.run(), name="heartbeat")
        try:
            await self._marked(leads=False)  # of a former life of this pod: a standby must not be notified
            if await self._acquired():
                await self._lead()
        finally:
            await self._close(beat, http)

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)

    async def _acquired(self) -> bool:
        """Wait for the Lease; False when told to stop before."""
        if not self.settings.leader_election:
            return True
        acquiring = asyncio.create_task(self.elector.acquire(), name="acquire")
        stopping = asyncio.create_task(self.stop.wait(), name="stop")
        await asyncio.wait({acquiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not acquiring.done():
            acquiring.cancel()
            return False
        acquiring.result()
        log.info("leading", lease=self.settings.lease_name)
        return True

    async def _lead(self) -> None:
        self.leads_since = self.clock.now().timestamp()
        self.events.start()
        await self._marked(leads=True)
        ends: set[asyncio.Task[Any]] = {asyncio.create_task(self.stop.wait(), name="stop")}
        if self.settings.leader_election:
            ends.add(asyncio.create_task(self._exit_on_loss(), name="lease lost"))
        beginning = asyncio.create_task(self._begin(), name="begin")
        try:
            await asyncio.wait({*ends, beginning}, return_when=asyncio.FIRST_COMPLETED)
            if beginning.done():
                ends |= beginning.result()
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            ends.add(beginning)
            self.stop.set()
            # No signal: the first process of a container cannot kill itself.
            asyncio.get_running_loop().call_later(END_SECONDS, os._exit, EXIT_STUCK)
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _begin(self) -> set[asyncio.Task[Any]]:
        """Start all that a leader does."""
        # An API server that has just started refuses what its rules of access, a moment late, will allow.
        again = _warning("cannot lead yet, tried again")
        digester = Digester(await patiently(self.own.fingerprint_key, PATIENCE_SECONDS, again))
        await patiently(self.admission.look, PATIENCE_SECONDS, again)
        engine, watchers = self._assemble(digester)
        for raw in stores_in(self.settings.stores_dir):
            await self.stores.upsert(raw)
        work = (watchers.run(), self._work(engine), self._sweep(), self.shell.run())
        return {asyncio.create_task(each) for each in work}

    async def _marked(self, *, leads: bool) -> None:
        """Mark the pod, or take the mark off: without it only /notify is lost, and polling goes on."""
        try:
            image = await self.own.mark_leader(self.settings.pod_name, leads=leads)
            self.gauge_image = self.settings.gauge_image or image
        except ApiError as error:
            log.warning("the pod's leader label was not set: /notify does not work", message=error.message)

    def _assemble(self, digester: Digester) -> tuple[Engine, Watchers]:
        self.shared = SharedKeys(digester, self.stores.find)
        self.watchers = Watchers(
            self.cluster,
            self.inventory,
            self.stores,
            self.queue,
            digester,
            namespaces=self.settings.namespaces,
            watch_stores=self.settings.stores_dir is None,
        )
        outcome = Outcome(self.cluster, self.events, self.inventory, self.handlers.take)
        gatherer = Gatherer(self.inventory, self.stores, self.cluster, self.clock)
        sync = Sync(gatherer, self.stores, self.cluster, self.inventory, outcome, digester, self.shared)
        siblings = Siblings(self.inventory)
        turns = Turns(self.inventory, self.settings.max_workloads, self.queue.add)
        calls = Calls(self.drains, self.tracker, self.cluster, outcome)
        arming = Arming(
            self.cluster,
            calls,
            self.clock,
            self.admission,
            lambda: self.gauge_image,
            self.inventory.of_agent,
        )
        leftovers = Leftovers(gatherer, self.tracker)
        rollouts = Rollouts(gatherer, siblings, turns, outcome, leftovers, arming, digester, self.clock)
        bindings = BindingReconciler(gatherer, sync, rollouts, outcome, self.stores, self.clock, self.queue)
        stores = StoreReconciler(self.stores, self.inventory, self.cluster, self.events, self.clock)
        reconcile = {names.BINDING_KIND: bindings.reconcile, names.STORE_KIND: stores.reconcile}
        return Engine(self.queue, reconcile, self.clock, self.random, self.metrics.reconcile), self.watchers

    async def _work(self, engine: Engine) -> None:
        if self.watchers is not None:
            await self.watchers.synced()
            # kopf does not tell when its first list is over; who owns a Secret needs all bindings to be known.
            await self._list_bindings(self.watchers)
        await engine.run()

    async def _sweep(self) -> None:
        while self.watchers is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.sweep_seconds * self.random.uniform(0.9, 1.1)):
                    await self.shell.resumed.wait()
            self.shell.resumed.clear()
            await self._marked(leads=True)
            await self._list_bindings(self.watchers)
            with contextlib.suppress(ApiError):  # as it was found last
                await self.admission.look()

    def _arming_changed(self) -> None:
        for name in self.inventory.bindings:
            self.queue.add(name)

    async def _list_bindings(self, watchers: Watchers) -> None:
        self.handlers.begin_listing()
        await watchers.sweep_bindings(self.handlers.on_listed)

    async def _exit_on_loss(self) -> NoReturn:
        await self.elector.lost()
        log.error("the Lease was lost: this process ends at once, since another one may lead")
        sys.stderr.flush()
        os._exit(EXIT_LOST_LEASE)  # not one write more, as any orderly end would make

    async def _close(self, beat: asyncio.Task[None], http: HttpServer) -> None:
        beat.cancel()
        self.queue.close()
        await self.tracker.close()
        await self.drains.close()
        await self.agents.close()
        await self.stores.close()
        await self.events.close()
        if self.elector.is_leader:
            await self._marked(leads=False)
        await self.elector.release()
        await http.stop()
        await self.session.close()
        log.info("stopped")

    def _hooks(self) -> Hooks:
        return Hooks(
            health={"loop": self.heartbeat.check, "watch": self.checks.watch},
            ready={"stores": self.checks.stores},
            key=self._notify_key,
            since=lambda: self.leads_since,
            notify=lambda store, path: self.stores.notify(store, path) or 0,
        )

    async def _notify_key(self) -> bytes | None:
        text = await self.cluster.read_own("Secret", names.NOTIFY_SECRET, "key")
        return text.encode() if text else None

    async def _connect(self, name: str, spec: StoreSpec) -> KeySource:
        client = await connect(
            name, spec, self.cluster, observe=self.metrics.vault_request, clock=self.clock, rng=self.random
        )
        return RegisteringSource(client, self.redactor)

    def _source_changed(self, source: Source) -> None:
        touched = self.shared.update(source) if self.shared is not None else set()
        for name in source.subscribers:
            self.queue.add(name)
        for other in touched:
            shared = self.stores.find(other)
            for name in shared.subscribers if shared else ():
                self.queue.add(name)
        self._store_changed(source.id.store)

    def _store_changed(self, name: str) -> None:
        self.queue.add_after(Name("", name), STORE_SETTLE_SECONDS)

    def _store_rebuilt(self, name: str) -> None:
        for record in self.inventory.of_store(name):
            self.queue.add(record.name)

    def _pods_changed(self, workload: WorkloadId, followers: Collection[Name]) -> None:
        for name in {*self.inventory.of_agent(workload), *followers}:
            self.queue.add_after(name, 0.1)


def _watch_error(resource: str, error: ApiError) -> None:
    log.warning("watch interrupted, goes on by itself", resource=resource, reason=error.reason, message=error.message)


def _warning(event: str) -> Callable[[ApiError], None]:
    return lambda error: log.warning(event, reason=error.reason, message=error.message)


async def _run(settings: Settings, redactor: Redactor) -> None:
    await Operator(settings, redactor).run()


def main() -> int:
    """Run the operator until it is told to stop; 0 is a clean end, 2 a wrong setting, 1 any other fault."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            print(f"VOICEKEYS_{str(fault['loc'][0]).upper()}: {fault['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold every key in memory
    SSLProtocol.max_size = TLS_BUFFER
    gc.freeze()  # what is imported stays: else a full collection waits until a quarter as much again is new
    redactor = Redactor()
    options = LogOptions(settings.log_level, settings.log_format, settings.log_libraries)
    setup(options, redactor)
    try:
        asyncio.run(_run(settings, redactor))
    except VoiceKeysError as error:
        log.error("cannot run", reason=error.reason, message=error.message)  # noqa: TRY400 -- the message says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
