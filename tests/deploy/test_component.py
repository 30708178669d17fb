"""The component of the alerts: rendered by the line of the pages, and applied to the Prometheus operator's two kinds.

The kinds here have no more fields than ours use, by the names and types of prometheus-operator's own CRDs, so that a
misspelt one is refused; what else those CRDs ask for is not tried.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.manifests import DEPLOY, ROOT, Object, pick, render
from tests.deploy.overlays import of_the_page, write
from tests.lab import Lab, LabError
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP = "monitoring.coreos.com"
INSTALL = ROOT / "operator" / "docs" / "install.md"
RULES = DEPLOY / "alerts" / "voicekeys.rules.yaml"
MINE = "https://git.example.com/platform/voicekeys/src/v0.1.0/operator/ALERTS.md"

TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def listed(**fields: Any) -> Object:
    return {"type": "array", "items": {"type": "object", "properties": fields}}


RULE = listed(alert=TEXT, expr={"x-kubernetes-int-or-string": True}, labels=TEXTS, annotations=TEXTS, **{"for": TEXT})
SPECS: dict[str, Object] = {
    "PrometheusRule": {"groups": listed(name=TEXT, rules=RULE)},
    "ServiceMonitor": {
        "selector": {"type": "object", "properties": {"matchLabels": TEXTS}},
        "endpoints": listed(port=TEXT, path=TEXT, interval=TEXT, honorLabels={"type": "boolean"}),
    },
}


def definition(kind: str) -> Object:
    """One kind of the Prometheus operator's."""
    plural = f"{kind.lower()}s"
    spec = {"type": "object", "properties": SPECS[kind]}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def monitored(own_control_plane: None) -> Iterator[Lab]:  # noqa: ARG001
    """A cluster with the Prometheus operator's kinds."""
    with Lab.start(nodes=0, scheduler=False, controller_manager=False) as lab:
        lab.apply([definition(kind) for kind in SPECS])
        for kind in SPECS:
            path = f"/apis/{GROUP}/v1/{kind.lower()}s"
            eventually(lambda path=path: lab.cluster.exists(path), f"{kind} served")  # type: ignore[misc]
        yield lab


def by_the_line_of_install() -> Object:
    """The overlay of install.md with the line that the page has for the alerts."""
    (line,) = re.findall(r"`(components: .*?)`", INSTALL.read_text())
    return {**of_the_page(INSTALL), **yaml.safe_load(line)}


def by_the_page_of_the_alerts() -> Object:
    """The overlay of ALERTS.md, which sets where links lead, too."""
    return of_the_page(ROOT / "operator" / "ALERTS.md")


@pytest.mark.parametrize("overlay", [by_the_line_of_install, by_the_page_of_the_alerts])
@pytest.mark.parametrize("namespace", [None, "elsewhere"])
def test_it_comes_with_the_operator_and_into_its_namespace(
    monitored: Lab, tmp_path: Path, overlay: Any, namespace: str | None
) -> None:
    document = overlay() if namespace is None else {**overlay(), "namespace": namespace}
    objects = render(monitored, write(tmp_path, document))

    assert {each["kind"] for each in objects} - {each["kind"] for each in render(monitored, DEPLOY)} == set(SPECS)
    for kind in SPECS:
        assert pick(objects, kind, "voicekeys")["metadata"]["namespace"] == (namespace or "voicekeys-system")


def test_its_fields_are_those_of_the_prometheus_operator(monitored: Lab, tmp_path: Path) -> None:
    folder = write(tmp_path, by_the_line_of_install())
    monitored.kubectl("apply", "-k", folder, "--server-side", "--validate=strict")

    found = monitored.api("GET", f"/apis/{GROUP}/v1/namespaces/voicekeys-system/prometheusrules/voicekeys")
    assert found["spec"] == yaml.safe_load(RULES.read_text())
    monitor = pick(render(monitored, folder), "ServiceMonitor", "voicekeys")
    applied = monitored.api("GET", f"/apis/{GROUP}/v1/namespaces/voicekeys-system/servicemonitors/voicekeys")
    assert applied["spec"] == monitor["spec"]
    monitor["spec"]["endpoints"][0]["honourLabels"] = True
    with pytest.raises(LabError, match="unknown field"):
        monitored.kubectl("apply", "--validate=strict", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(monitor))


def test_links_lead_where_the_overlay_says(monitored: Lab, tmp_path: Path) -> None:
    objects = render(monitored, write(tmp_path, by_the_page_of_the_alerts()))
    groups = pick(objects, "PrometheusRule", "voicekeys")["spec"]["groups"]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]}

    assert links == {name: f"{MINE}#{name.lower()}" for name in links}
    assert len(links) == RULES.read_text().count("- alert: ")
