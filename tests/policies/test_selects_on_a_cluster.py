"""Our reading of label selectors is the API server's: both are asked about the same labels."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests import gen
from voicekeys.policies.access import selects
from voicekeys.reconcilers.pods import selector_text

if TYPE_CHECKING:
    from tests.lab import Lab

LABELS: list[dict[str, str]] = [
    {},
    {"a": ""},
    {"a": "1"},
    {"a": "2"},
    {"b": "1"},
    {"a": "1", "b": "1"},
    {"a": "3", "b": "2"},
]
EXPRESSIONS: list[dict[str, Any]] = [
    {"key": "a", "operator": "In", "values": ["1", "2"]},
    {"key": "a", "operator": "NotIn", "values": ["1", "2"]},
    {"key": "a", "operator": "Exists"},
    {"key": "a", "operator": "DoesNotExist"},
    {"key": "b", "operator": "NotIn", "values": ["1"]},
]
SELECTORS: list[dict[str, Any]] = [
    {},
    {"matchLabels": {"a": "1"}},
    {"matchLabels": {"a": "1", "b": "1"}},
    {"matchLabels": {"b": "1"}, "matchExpressions": [EXPRESSIONS[1]]},
    *({"matchExpressions": [one]} for one in EXPRESSIONS),
    *({"matchExpressions": list(pair)} for pair in itertools.combinations(EXPRESSIONS, 2)),
]


def test_the_api_server_selects_the_same(lab: Lab, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number, labels in enumerate(LABELS):
        metadata = {"name": f"labels-{number}", "labels": labels | {"of": "test"}}
        lab.api("POST", path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    for selector in SELECTORS:
        asked = ",".join(filter(None, ["of=test", selector_text(selector)]))
        listed = lab.api("GET", f"{path}?labelSelector={quote(asked)}")["items"]
        theirs = {item["metadata"]["name"] for item in listed}
        ours = {f"labels-{number}" for number, labels in enumerate(LABELS) if selects(gen.selector(**selector), labels)}
        assert ours == theirs, selector
