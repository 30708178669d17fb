"""Every alert: declared metrics only, a page, a case that fires and one that does not, judged by promtool."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.alerts.cases import CASES
from tests.alerts.rules import ROOT, RULES_FILE, Case, alerts, promtool, run
from tests.generate import alerts as generator
from voicekeys.telemetry.metrics import DECLARED

if TYPE_CHECKING:
    from pathlib import Path

NAMES = tuple(alerts())
PAGE = (ROOT / "operator/ALERTS.md").read_text()
# Absolute, or Alertmanager makes no link of it; that it leads nowhere by itself, and how it is set, is in the page.
RUNBOOKS = "https://voicekeys.example/operator/ALERTS.md"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.title}")
def test_promtool_agrees(case: Case, tmp_path: Path) -> None:
    """The alert fires, with these labels and texts, or stays quiet."""
    judged = run(case, tmp_path)
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.parametrize("fires", [True, False])
def test_a_wrong_expectation_fails(fires: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """The harness itself can fail: an expectation turned round is caught, whichever way."""
    case = next(case for case in CASES if (case.fires is not None) == fires)
    turned = case._replace(fires=None if fires else {"namespace": "x", "name": "x", "store": "x", "environment": "x"})
    assert run(turned, tmp_path).returncode != 0


@pytest.mark.parametrize("name", NAMES)
def test_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    assert {case.fires is None for case in CASES if case.alert == name} == {True, False}


def test_no_case_is_for_an_alert_that_is_gone() -> None:
    assert {case.alert for case in CASES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_has_texts_and_a_page(name: str) -> None:
    """The texts are there, and the runbook link leads to a section with meaning, impact and what to do."""
    rule = alerts()[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"
    assert rule["labels"]["severity"] in {"warning", "critical"}
    section = _section(name)
    for part in ("**Meaning.**", "**Impact.**", "**What to do.**"):
        assert part in section


def test_no_page_is_for_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Voice\w+)$", PAGE, re.MULTILINE)) == set(NAMES)


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {name.lower() for name in NAMES}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors


@pytest.mark.parametrize("name", NAMES)
def test_uses_declared_metrics_and_labels_only(name: str) -> None:
    """A typing error in a metric's name or label would make an alert that never fires."""
    declared = {metric.name: set(metric.labels) for metric in DECLARED}
    expression = alerts()[name]["expr"]
    used = set(re.findall(r"voicekeys_\w+", expression))
    assert used
    assert used <= set(declared)
    for metric, selector in re.findall(r"(voicekeys_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[!=]", selector)) <= declared[metric]


def test_rules_are_well_formed() -> None:
    checked = subprocess.run(
        [promtool(), "check", "rules", str(RULES_FILE)], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_rule_is_the_rules_file() -> None:
    """The generated PrometheusRule is fresh and says the same."""
    for path, text in generator.render().items():
        assert (ROOT / path).read_text() == text, f"{path} is stale: hatch run generate"
        assert yaml.safe_load(text)["spec"] == yaml.safe_load(RULES_FILE.read_text())


def test_component_lists_what_is_there() -> None:
    folder = ROOT / "deploy/components/alerts"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert listed["kind"] == "Component"
    assert set(listed["resources"]) == {file.name for file in folder.iterdir()} - {"kustomization.yaml"}


def test_the_monitor_finds_the_metrics_service() -> None:
    """Labels and port of the ServiceMonitor are those of a Service that the install makes, and no other's."""
    monitor = yaml.safe_load((ROOT / "deploy/components/alerts/servicemonitor.yaml").read_text())
    services = [
        item
        for file in (ROOT / "deploy/base").rglob("*.yaml")
        for item in yaml.safe_load_all(file.read_text())
        if item and item["kind"] == "Service"
    ]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [service for service in services if wanted <= service["metadata"]["labels"].items()]
    assert [service["metadata"]["name"] for service in found] == ["voicekeys-metrics"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in found[0]["spec"]["ports"]}
    assert endpoint["honorLabels"] is True


def _section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
