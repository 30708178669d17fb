"""Writes ``operator/METRICS.md`` from the metrics' declarations."""

from __future__ import annotations

from voicekeys.telemetry.metrics import DECLARED, Declared

PAGE = "operator/METRICS.md"

_HEAD = """\
# Metrics

Generated from `operator/voicekeys/telemetry/` by `hatch run generate`.

Served as `/metrics` by every replica on the port of its probes (8080). Series of bindings and stores are written at
each scrape from the operator's state and come from the leader alone: a series goes when its object goes. Times are
Unix timestamps: `time() - <metric>` is an age. The label `namespace` is the binding's own, so scrape with
`honor_labels: true` (the ServiceMonitor in `deploy/components/alerts` does). No histogram is labelled by object.
Alerts on these metrics: [ALERTS.md](ALERTS.md).

| metric | type | labels | meaning |
|---|---|---|---|
"""


def render() -> dict[str, str]:
    """Give the generated file's text by its path below the repository's root."""
    rows = "".join(_row(metric) for metric in DECLARED)
    return {PAGE: f"{_HEAD}{rows}\nBeside these, the process's own (`process_*`) of the Prometheus client.\n"}


def _row(metric: Declared) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)} s." if metric.buckets else ""
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help}{buckets} |\n"
