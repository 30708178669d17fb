"""What the operator may write on workloads: its triggers, and the drain hook where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.conftest import TENANT, Call
from tests.deploy.refusals import STRATEGIC, Case, check, names

if TYPE_CHECKING:
    from tests.deploy.manifests import Object

NO_METADATA = "voicekeys may not change a workload's metadata."
NO_SPEC = "voicekeys may not change a workload's spec beyond the annotations of its pod template."
NO_TEMPLATE = "voicekeys may not change a pod template beyond its annotations and its drain hook."
NO_ANNOTATION = (
    "voicekeys may change only the annotations voicekeys.dev/key.<binding> and those of arming of a pod template."
)
NO_CONTAINER = (
    "voicekeys may add to a container nothing but a drain hook (preStop.httpGet to /voicekeys/v1/drain, or "
    "preStop.sleep), and only where it has no preStop."
)


def template(**annotations: str | None) -> Object:
    """Return a merge patch that annotates a pod template; `key_x` stands for `voicekeys.dev/key.x`."""
    marks = {name.replace("key_", "voicekeys.dev/key."): value for name, value in annotations.items()}
    return {"spec": {"template": {"metadata": {"annotations": marks}}}}


CONTAINER = {"spec": {"template": {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}}}
SIDECAR = {"spec": {"template": {"spec": {"containers": [{"name": "more", "image": "more:1"}]}}}}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}


@pytest.mark.usefixtures("workloads")
@pytest.mark.parametrize(
    "case",
    [
        Case("a trigger is set", template(key_new="1"), None),
        Case("a trigger is changed", template(key_old="1"), None),
        Case("a trigger is removed", template(key_old=None), None),
        Case("two triggers in one patch", template(key_old=None, key_new="1"), None),
        Case("nothing is changed", template(), None),
        Case("another annotation is set", template(restartedAt="now"), NO_ANNOTATION),
        Case("another annotation is changed", template(team="ops"), NO_ANNOTATION),
        Case("another annotation is removed", template(team=None), NO_ANNOTATION),
        Case("all annotations are removed", {"spec": {"template": {"metadata": {"annotations": None}}}}, NO_ANNOTATION),
        Case("a trigger and another annotation", template(key_new="1", team="ops"), NO_ANNOTATION),
        Case("an image is changed", CONTAINER, NO_CONTAINER, content_type=STRATEGIC),
        Case("a container is added", SIDECAR, NO_CONTAINER, content_type=STRATEGIC),
        Case(
            "the pods' account is changed",
            {"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}},
            NO_TEMPLATE,
        ),
        Case("a pod label is added", {"spec": {"template": {"metadata": {"labels": {"more": "x"}}}}}, NO_TEMPLATE),
        Case(
            "a finalizer of pods is added", {"spec": {"template": {"metadata": {"finalizers": ["a.b/c"]}}}}, NO_TEMPLATE
        ),
        Case("a label is added", {"metadata": {"labels": {"more": "x"}}}, NO_METADATA),
        Case("a label is removed", {"metadata": {"labels": {"team": None}}}, NO_METADATA),
        Case("an annotation is added", {"metadata": {"annotations": {"voicekeys.dev/key.x": "1"}}}, NO_METADATA),
        Case("an annotation is removed", {"metadata": {"annotations": {"mail": None}}}, NO_METADATA),
        Case("a finalizer is added", {"metadata": {"finalizers": ["a.b/c"]}}, NO_METADATA),
        Case("an owner is added", {"metadata": {"ownerReferences": [OWNER]}}, NO_METADATA),
        Case("minReadySeconds is changed", {"spec": {"minReadySeconds": 7}}, NO_SPEC),
        Case("the history limit is changed", {"spec": {"revisionHistoryLimit": 3}}, NO_SPEC),
    ],
    ids=names,
)
@pytest.mark.parametrize("kind", ["deployments", "statefulsets", "daemonsets"])
def test_changing_a_workload(operator: Call, kind: str, case: Case) -> None:
    check(operator, f"/apis/apps/v1/namespaces/{TENANT}/{kind}/agent", case)


@pytest.mark.usefixtures("workloads")
@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("deployments", {"replicas": 9}),
        ("deployments", {"paused": True}),
        ("deployments", {"strategy": {"type": "Recreate", "rollingUpdate": None}}),
        ("statefulsets", {"replicas": 9}),
        ("statefulsets", {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}),
        ("daemonsets", {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}),
    ],
    ids=str,
)
def test_changing_what_one_kind_alone_has(operator: Call, kind: str, spec: Object) -> None:
    check(operator, f"/apis/apps/v1/namespaces/{TENANT}/{kind}/agent", Case("", {"spec": spec}, NO_SPEC))
