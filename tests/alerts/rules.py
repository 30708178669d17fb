"""The rules file, parsed; and a promtool unit test made of one case."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES_FILE = ROOT / "deploy/alerts/voicekeys.rules.yaml"
_LABEL = re.compile(r"\{\{\s*\$labels\.(\w+)\s*\}\}")


class Case(NamedTuple):
    """One promtool test: series go in, and at ``at`` the alert fires with these labels, or does not (None).

    Args:
        title: a sentence.
        alert: name of the alert.
        series: samples by series, in promtool's notation; the first is at second 0.
        at: when it is looked at.
        fires: labels of the alert without its name and severity; None for silence.
        texts: what the templates other than labels turn into.
        interval: time between samples and evaluations.
    """

    title: str
    alert: str
    series: dict[str, str]
    at: str
    fires: dict[str, str] | None = None
    texts: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, never changed
    interval: str = "1m"


def alerts() -> dict[str, dict[str, Any]]:
    """All alerting rules by name."""
    groups = yaml.safe_load(RULES_FILE.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool() -> str:
    """Path of promtool; without it the test is skipped, and says so."""
    path = shutil.which("promtool")
    if path is None:
        hint = "promtool is missing, so no alert was tested: apt-get install prometheus (or put promtool on PATH)"
        warnings.warn(hint, stacklevel=2)
        pytest.skip(hint)
    return path


def run(case: Case, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let promtool judge one case."""
    file = folder / "case.yaml"
    file.write_text(yaml.safe_dump(as_test(case), allow_unicode=True, width=10_000))
    return subprocess.run(
        [promtool(), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )


def as_test(case: Case) -> dict[str, Any]:
    """Give a case as promtool's unit-test file has it."""
    rule = alerts()[case.alert]
    expected = []
    if case.fires is not None:
        expected.append(
            {
                "exp_labels": {**rule["labels"], **case.fires},
                "exp_annotations": {name: _rendered(text, case) for name, text in rule["annotations"].items()},
            }
        )
    return {
        "rule_files": [str(RULES_FILE)],
        "evaluation_interval": case.interval,
        "tests": [
            {
                "interval": case.interval,
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [{"alertname": case.alert, "eval_time": case.at, "exp_alerts": expected}],
            }
        ],
    }


def _rendered(text: str, case: Case) -> str:
    for template, result in case.texts.items():
        text = text.replace(template, result)
    return _LABEL.sub(lambda match: (case.fires or {})[match[1]], text)
