"""Names that go into clusters fit where Kubernetes puts them, and are those of the CRDs."""

from __future__ import annotations

import pytest

from tests.crds.schemas import BINDINGS, STORES, load, part, schema_of
from voicekeys.api import names


@pytest.mark.parametrize(
    ("file", "kind", "plural"),
    [(BINDINGS, names.BINDING_KIND, names.BINDING_PLURAL), (STORES, names.STORE_KIND, names.STORE_PLURAL)],
)
def test_the_crds_have_these_names(file: str, kind: str, plural: str) -> None:
    spec = load(file)["spec"]
    assert spec["group"] == names.GROUP
    assert [version["name"] for version in spec["versions"]] == [names.VERSION]
    assert (spec["names"]["kind"], spec["names"]["plural"]) == (kind, plural)
    assert f"{names.GROUP}/{names.VERSION}" == names.API_VERSION


def test_the_longest_binding_name_fills_the_annotation_and_no_more() -> None:
    longest = "n" * names.MAX_BINDING_NAME
    annotation = names.trigger_annotation(longest)
    assert annotation == f"voicekeys.dev/key.{longest}"
    assert len(annotation.partition("/")[2]) == 63
    (limit,) = [rule["rule"] for rule in schema_of(BINDINGS)["x-kubernetes-validations"] if "name) <=" in rule["rule"]]
    assert limit == f"size(self.metadata.name) <= {names.MAX_BINDING_NAME}"


def test_bindings_of_one_workload_have_field_managers_of_their_own() -> None:
    managers = {names.trigger_field_manager(binding) for binding in ("a", "b")}
    assert len(managers) == 2
    assert names.FIELD_MANAGER not in managers
    assert len(names.trigger_field_manager("n" * names.MAX_BINDING_NAME)) <= 128


def test_names_of_ours_are_closed_to_users() -> None:
    closed = [
        rule["rule"]
        for node in part(BINDINGS, "spec")
        if node.path in {"spec.target.labels", "spec.target.annotations"}
        for rule in node.schema["x-kubernetes-validations"]
        if names.MANAGED_BY_LABEL in rule["rule"]
    ]
    assert len(closed) == 2
    assert all(f"startsWith('{names.GROUP}/')" in rule for rule in closed)
    own = (names.BINDING_LABEL, names.KEY_VERSION_ANNOTATION, names.KEY_CREATED_ANNOTATION, names.DIGEST_ANNOTATION)
    assert all(name.startswith(f"{names.GROUP}/") for name in own)
