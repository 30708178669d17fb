"""The benchmark itself, small: it runs, and its exact counts hold at every size."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.bench import __main__ as bench
from tests.bench import report
from tests.bench.ledger import Ledger
from tests.bench.watching import SecretWatch
from voicekeys.api import names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

BINDINGS, PATHS, NAMESPACES = 40, 8, 2


@pytest.mark.own_control_plane
def test_the_counts_of_a_small_run_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sync.json"
    arguments = f"sync --bindings {BINDINGS} --paths {PATHS} --namespaces {NAMESPACES} --idle 4 --notifies 2 --polled 0"
    monkeypatch.setattr("sys.argv", ["bench", *arguments.split(), "--fan", "20", "--json", str(file)])
    bench.main()
    run = json.loads(file.read_text())
    assert run["cold_vault_reads"] == PATHS
    assert run["cold_vault_logins"] == NAMESPACES
    assert run["cold_api_writes"] == 2 * BINDINGS
    assert (run["event_api_writes"], run["other_api_writes"]) == (0, 0)
    assert run["idle_api_writes"] == 0
    assert run["idle_event_api_writes"] == 0
    assert run["idle_vault_logins"] == 0
    assert (run["restart_vault_reads"], run["restart_vault_logins"], run["restart_api_writes"]) == (
        PATHS,
        NAMESPACES,
        0,
    )
    assert run["change_to_secret_ms"]["notify"]["samples"] == 2 * BINDINGS // PATHS
    assert run["fanout_bindings"] == 20
    assert run["operators_own_count_differs"] == {}


def test_a_watch_may_be_silent_and_ends_at_once(lab: Lab, namespace: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "late", "namespace": namespace, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY}},
    }
    with SecretWatch(lab) as watch:
        time.sleep(11)  # longer than its connection may take
        since = time.monotonic()
        lab.apply(secret)
        assert watch.wait([f"{namespace}/late"], since, 10)
        ending = time.monotonic()
    assert time.monotonic() - ending < 5, "it waited for an answer that nobody owes it"


def test_a_missed_target_is_shown_as_missed() -> None:
    results = {"bindings": 10, "paths": 2, "namespaces": 1, "cold_vault_reads": 3, "idle_api_writes": 0}
    verdicts = report.judged(results)
    assert verdicts["cold_vault_reads"] == {"target": "= 2", "value": 3, "met": False}
    assert verdicts["idle_api_writes"]["met"]
    assert "MISSED" in report.table(results)


def test_the_ledger_takes_a_line_only_when_it_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    log = tmp_path / "vault-audit.log"
    line = b'{"type":"request","request":{"path":"secret/data/keys/a"},"auth":{"policies":["tenant"]}}\n'
    log.write_bytes(line + line[:20])
    assert ledger.update().reads == 1
    log.write_bytes(line + line)
    assert ledger.update().reads == 2


def test_what_root_does_in_vault_is_not_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / "vault-audit.log").write_text(
        '{"type":"request","request":{"path":"secret/data/keys/a"},"auth":{"policies":["root"]}}\n'
    )
    assert ledger.update().vault == 0


def test_linearity_is_cost_per_binding() -> None:
    run = {"cold_seconds": 1.0, "cpu_seconds": 1.0, "restart_cpu_seconds": 1.0, "cold_vault_reads": 10}
    small = {"bindings": 100, "rss_mib": 60.0, "cold_api_writes": 200, **run}
    large = {**{key: 20 * value for key, value in small.items()}, "bindings": 1000, "rss_mib": 69.0}
    found = report.linearity([small, large])
    assert found["largest_over_smallest"]["cold_seconds"] == 2.0
    assert found["rss_kib_per_further_binding"] == 10.2


def test_a_run_is_one_row_of_the_page() -> None:
    run = {"bindings": 3000, "paths": 300, "cold_seconds": 1.5, "cold_settled_seconds": 2.5, "cold_vault_reads": 300}
    run |= {"cold_vault_logins": 1, "cold_api_writes": 6000, "cpu_seconds": 3.5, "restart_api_writes": 0}
    run |= {"restart_seconds": 4.5, "restart_cpu_seconds": 5.5, "rss_mib": 90.1}
    head, rule, row = report.markdown([{**run, "machine": {"load_average_before_and_after": [0.1, 1.9]}}]).splitlines()
    assert row == "| 3,000 over 300 | 1.5 s | 2.5 s | 300, 1, 6,000 | 3.5 s | 0, 4.5 s, 5.5 s | 90.1 MiB | 0.1, 1.9 |"
    assert head.count("|") == rule.count("|") == row.count("|")
