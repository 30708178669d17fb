"""Counters and histograms: what is recorded is what is scraped, and all of it is declared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.generate import metrics_reference
from tests.telemetry.states import Rows
from voicekeys.telemetry.metrics import DECLARED, EVENTS, Declared, Metrics
from voicekeys.telemetry.state import BindingRow, StoreRow, exposition

ROOT = Path(__file__).parents[2]
PER_OBJECT = {"namespace", "name", "store"}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape: (sample name, sorted labels) to value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition())
        for sample in family.samples
    }


def test_vault_requests() -> None:
    metrics = Metrics("1.2.3")
    metrics.vault_request("read", "ok", 0.02)
    metrics.vault_request("read", "ok", 0.2)
    metrics.vault_request("login", "PermissionDenied", 0.01)
    seen = samples(metrics)
    read, login = (("operation", "read"), ("outcome", "ok")), (("operation", "login"), ("outcome", "PermissionDenied"))
    assert seen["voicekeys_vault_requests_total", read] == 2
    assert seen["voicekeys_vault_requests_total", login] == 1
    assert seen["voicekeys_vault_request_duration_seconds_sum", read] == pytest.approx(0.22)
    assert seen["voicekeys_vault_request_duration_seconds_bucket", (("le", "0.025"), *read)] == 1


def test_api_requests() -> None:
    metrics = Metrics("1.2.3")
    metrics.api_request("patch", "secrets", 200, 0.02)
    metrics.api_request("watch", "pods", 410, None)
    seen = samples(metrics)
    assert seen["voicekeys_api_requests_total", (("code", "200"), ("resource", "secrets"), ("verb", "patch"))] == 1
    assert seen["voicekeys_api_requests_total", (("code", "410"), ("resource", "pods"), ("verb", "watch"))] == 1
    assert seen["voicekeys_api_request_duration_seconds_count", (("verb", "patch"),)] == 1
    assert ("voicekeys_api_request_duration_seconds_count", (("verb", "watch"),)) not in seen


def test_reconciles_polls_notifies_and_the_queue() -> None:
    metrics = Metrics("1.2.3")
    depth = [4]
    metrics.watch_queue(lambda: depth[0])
    metrics.reconcile("VoiceKeyBinding", "ok", 0.003)
    metrics.poll_lag(-0.1)
    metrics.poll_lag(0.7)
    metrics.notify(202)
    seen = samples(metrics)
    assert seen["voicekeys_reconciles_total", (("kind", "VoiceKeyBinding"), ("outcome", "ok"))] == 1
    assert seen["voicekeys_reconcile_duration_seconds_count", (("kind", "VoiceKeyBinding"),)] == 1
    assert seen["voicekeys_poll_lag_seconds_sum", ()] == pytest.approx(0.7)
    assert seen["voicekeys_notify_requests_total", (("code", "202"),)] == 1
    assert seen["voicekeys_queue_depth", ()] == 4
    depth[0] = 0
    assert samples(metrics)["voicekeys_queue_depth", ()] == 0


def test_the_version_and_the_process_are_shown() -> None:
    seen = samples(Metrics("1.2.3"))
    assert seen["voicekeys_build_info", (("version", "1.2.3"),)] == 1
    assert seen["process_resident_memory_bytes", ()] > 0


def test_two_operators_in_one_process_do_not_share() -> None:
    first, second = Metrics("1"), Metrics("2")
    first.notify(202)
    assert ("voicekeys_notify_requests_total", (("code", "202"),)) not in samples(second)


def test_exactly_the_declared_is_scraped() -> None:
    """With every recorder used and every field filled: names, types, helps and labels are those declared."""
    metrics = Metrics("1")
    metrics.vault_request("read", "ok", 1)
    metrics.api_request("get", "pods", 200, 1)
    metrics.reconcile("VoiceKeyBinding", "ok", 1)
    metrics.notify(202)
    row = BindingRow("a", "b", "c", "d", 1, 1, "Idle", 1, 1, True, "Stalled", 1, True, *[1] * 7)
    text = metrics.exposition() + "".join(exposition(Rows([row], [StoreRow("c")])))
    seen = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("process_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        seen[name] = (family.type, family.documentation, labels)
    assert seen == {metric.name: (metric.kind, metric.help, set(metric.labels)) for metric in DECLARED}


def test_no_name_is_declared_twice() -> None:
    assert len({metric.name for metric in DECLARED}) == len(DECLARED)


@pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
def test_declarations_follow_the_rules(metric: Declared) -> None:
    """Prometheus naming; a help text; and nothing by object is kept: what is, is written from state at scrape."""
    assert re.fullmatch(r"voicekeys_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    if metric in EVENTS:
        assert not PER_OBJECT & set(metric.labels)
    assert bool(metric.buckets) == (metric.kind == "histogram")


def test_the_reference_page_is_fresh() -> None:
    for path, text in metrics_reference.render().items():
        assert (ROOT / path).read_text() == text, f"{path} is stale: hatch run generate"
        assert all(f"| `{metric.name}` |" in text for metric in DECLARED)
