"""All metrics of the operator: declared here and in `voicekeys.telemetry.state`, once, with their help text.

What happens (requests, reconciles) is counted by `Metrics`; what is (bindings, stores) is written at scrape from state.
The wiring hands the recording methods to the clients and reconcilers as plain callables. No series is labelled by
object here: cost and cardinality stay the same for ten bindings and ten thousand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.process_collector import ProcessCollector

from voicekeys.telemetry import state

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.telemetry.state import Family

# Requests: from a local cache hit to the 30 s of a Vault that hangs.
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECONCILE_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
LAG_SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)


class Declared(NamedTuple):
    """One metric's declaration, as the reference page shows it.

    Args:
        name: as scraped, without the suffixes of a histogram.
        kind: counter, gauge or histogram.
        labels: label names.
        help: one sentence.
        buckets: of a histogram, in its unit.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


VAULT_REQUESTS = Declared(
    "voicekeys_vault_requests_total",
    "counter",
    ("operation", "outcome"),
    "Requests to Vault by operation (login, read, renew, revoke) and outcome (ok, or the reason of the error).",
)
VAULT_SECONDS = Declared(
    "voicekeys_vault_request_duration_seconds",
    "histogram",
    ("operation", "outcome"),
    "How long requests to Vault took.",
    REQUEST_SECONDS,
)
API_REQUESTS = Declared(
    "voicekeys_api_requests_total",
    "counter",
    ("verb", "resource", "code"),
    "Requests to the Kubernetes API by verb, resource and HTTP status (0: no answer).",
)
API_SECONDS = Declared(
    "voicekeys_api_request_duration_seconds",
    "histogram",
    ("verb",),
    "How long requests to the Kubernetes API took; watches are not timed.",
    REQUEST_SECONDS,
)
RECONCILES = Declared(
    "voicekeys_reconciles_total",
    "counter",
    ("kind", "outcome"),
    "Reconciles by kind (VoiceKeyBinding, VoiceKeyStore) and outcome (ok, retry: tried again, error: a fault of ours).",
)
RECONCILE_DURATION = Declared(
    "voicekeys_reconcile_duration_seconds",
    "histogram",
    ("kind",),
    "How long a reconcile took, from the queue's exit to the written status.",
    RECONCILE_SECONDS,
)
QUEUE_DEPTH = Declared("voicekeys_queue_depth", "gauge", (), "Objects that wait for a reconcile.")
POLL_LAG = Declared(
    "voicekeys_poll_lag_seconds",
    "histogram",
    (),
    "How much later than planned a poll of Vault began.",
    LAG_SECONDS,
)
NOTIFIES = Declared(
    "voicekeys_notify_requests_total",
    "counter",
    ("code",),
    "POST /notify requests by the HTTP status of the answer.",
)
BUILD_INFO = Declared("voicekeys_build_info", "gauge", ("version",), "1, labelled by the operator's version.")

EVENTS = (
    *(VAULT_REQUESTS, VAULT_SECONDS, API_REQUESTS, API_SECONDS, RECONCILES, RECONCILE_DURATION),
    *(QUEUE_DEPTH, POLL_LAG, NOTIFIES, BUILD_INFO),
)


def _declared(family: Family) -> Declared:
    return Declared(family.name, family.kind, family.labels, family.help)


DECLARED: tuple[Declared, ...] = (
    *map(_declared, (*state.BINDING_FAMILIES, state.CALLS_ENDED[0], *state.STORE_FAMILIES, state.LEADER)),
    *EVENTS,
)


class Metrics:
    """Counters and histograms of one operator process, in a registry of its own.

    Args:
        version: the operator's version, for ``voicekeys_build_info``.
    """

    def __init__(self, version: str) -> None:
        # Else each counter has a second series, which nothing reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._vault_requests = self._counter(VAULT_REQUESTS)
        self._vault_seconds = self._histogram(VAULT_SECONDS)
        self._api_requests = self._counter(API_REQUESTS)
        self._api_seconds = self._histogram(API_SECONDS)
        self._reconciles = self._counter(RECONCILES)
        self._reconcile_seconds = self._histogram(RECONCILE_DURATION)
        self._queue_depth = Gauge(QUEUE_DEPTH.name, QUEUE_DEPTH.help, registry=self.registry)
        self._poll_lag = self._histogram(POLL_LAG)
        self._notifies = self._counter(NOTIFIES)
        build = Gauge(BUILD_INFO.name, BUILD_INFO.help, BUILD_INFO.labels, registry=self.registry)
        build.labels(version).set(1)

    def vault_request(self, operation: str, outcome: str, seconds: float) -> None:
        """Count one request to Vault: ``operation`` is login, read, renew or revoke, ``outcome`` ok or a reason."""
        self._vault_requests.labels(operation, outcome).inc()
        self._vault_seconds.labels(operation, outcome).observe(seconds)

    def api_request(self, verb: str, resource: str, code: int, seconds: float | None) -> None:
        """Count one request to the Kubernetes API; ``code`` 0 where none came back, ``seconds`` None for watches."""
        self._api_requests.labels(verb, resource, str(code)).inc()
        if seconds is not None:
            self._api_seconds.labels(verb).observe(seconds)

    def reconcile(self, kind: str, outcome: str, seconds: float) -> None:
        """Count one reconcile of an object of ``kind``."""
        self._reconciles.labels(kind, outcome).inc()
        self._reconcile_seconds.labels(kind).observe(seconds)

    def poll_lag(self, seconds: float) -> None:
        """Count one poll that began ``seconds`` after its planned time."""
        self._poll_lag.observe(max(0.0, seconds))

    def notify(self, code: int) -> None:
        """Count one answer of ``POST /notify``."""
        self._notifies.labels(str(code)).inc()

    def watch_queue(self, depth: Callable[[], float]) -> None:
        """Ask ``depth`` at each scrape how many objects wait."""
        self._queue_depth.set_function(depth)

    def exposition(self) -> str:
        """Write counters, histograms and the process's own metrics as Prometheus text 0.0.4."""
        return generate_latest(self.registry).decode()

    def _counter(self, declared: Declared) -> Counter:
        return Counter(declared.name, declared.help, declared.labels, registry=self.registry)

    def _histogram(self, declared: Declared) -> Histogram:
        return Histogram(
            declared.name, declared.help, declared.labels, buckets=declared.buckets, registry=self.registry
        )
