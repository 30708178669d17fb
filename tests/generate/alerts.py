"""Writes the PrometheusRule of ``deploy/components/alerts`` from the plain rules file, which is the one to edit."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[2]
RULES = "deploy/alerts/voicekeys.rules.yaml"
PROMETHEUS_RULE = "deploy/components/alerts/prometheusrule.yaml"

_HEAD = f"""\
# Generated from {RULES} by `hatch run generate`: edit that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: voicekeys
  namespace: voicekeys-system
  labels:
    app.kubernetes.io/name: voicekeys
    app.kubernetes.io/component: alerts
spec:
"""


def render() -> dict[str, str]:
    """Give the generated file's text by its path below the repository's root."""
    text = (ROOT / RULES).read_text()
    groups = text[text.index("groups:") :]
    return {PROMETHEUS_RULE: _HEAD + indent(groups, "  ")}
