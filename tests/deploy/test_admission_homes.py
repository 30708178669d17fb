"""Operators in other namespaces than voicekeys-system: held like the one there, and not stopped where it would not be.

The gauge's image is looked up in a Deployment. Where there is none, as for the operator of one team on a cluster
without another, all other writes still go through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.conftest import OPERATOR, TENANT, Call
from tests.deploy.refusals import Case, check, names
from tests.deploy.reviews import Act, may
from tests.deploy.test_admission_arming import IMAGE, NO_OTHER_IMAGE, gauge, note
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.manifests import Object
    from tests.lab import Lab

NOT_KNOWN_HERE = (
    "voicekeys may add the gauge only where the image that it runs itself can be looked up: from voicekeys-system, or "
    "from the workload's own namespace."
)
TRIGGER = note("voicekeys.dev/key.frejun", "1")
JSON_PATCH = "application/json-patch+json"
AGENT = f"/apis/apps/v1/namespaces/{TENANT}/deployments/agent"

pytestmark = pytest.mark.usefixtures("workloads")


def operator_of(lab: Lab, namespace: str) -> Call:
    """Give an operator of another namespace the rights of the installed one, and return how it calls."""
    subject = {"kind": "ServiceAccount", "name": OPERATOR, "namespace": namespace}
    token = lab.cluster.token_for(namespace, OPERATOR)
    lab.cluster.bind(f"operator-of-{namespace}", OPERATOR, subject)
    patch = Act("apps", "deployments", "patch", TENANT)
    eventually(lambda: may(lab, f"{namespace}/{OPERATOR}", patch), "the binding to take effect", seconds=10)

    def call(method: str, path: str, body: Any = None, **options: Any) -> Any:
        return lab.api(method, path, body, token=token, **options)

    return call


@pytest.fixture(scope="module")
def moved(installed: Lab) -> Iterator[Call]:
    """An operator in a namespace that no policy knows."""
    installed.make_namespace("elsewhere")
    yield operator_of(installed, "elsewhere")
    installed.api("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/operator-of-elsewhere")


@pytest.fixture(scope="module")
def team(installed: Lab) -> Iterator[Call]:
    """A team's operator beside its workloads, with its Deployment."""
    labels = {"app": "team-operator"}
    pod: Object = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "operator", "image": "own:2"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": OPERATOR, "namespace": TENANT}}
    installed.apply({**made, "spec": spec})
    yield operator_of(installed, TENANT)
    installed.api("DELETE", f"/apis/apps/v1/namespaces/{TENANT}/deployments/{OPERATOR}")
    installed.api("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/operator-of-{TENANT}")


@pytest.mark.parametrize(
    "case",
    [
        Case("a trigger", TRIGGER, None, content_type=JSON_PATCH),
        gauge("the gauge", NOT_KNOWN_HERE),
        gauge("another image", NOT_KNOWN_HERE, image="evil:1"),
    ],
    ids=names,
)
def test_an_operator_that_was_moved(moved: Call, case: Case) -> None:
    check(moved, AGENT, case)


@pytest.mark.parametrize(
    "case",
    [
        Case("a trigger", TRIGGER, None, content_type=JSON_PATCH),
        gauge("its own image", None, image="own:2"),
        gauge("the image of the cluster's operator", NO_OTHER_IMAGE, image=IMAGE),
    ],
    ids=names,
)
def test_the_operator_of_one_team(team: Call, case: Case) -> None:
    eventually(lambda: _knows(team), "the Deployment to be read by the API server", seconds=10)
    check(team, AGENT, case)


def _knows(call: Call) -> bool:
    try:
        check(call, AGENT, gauge("", NO_OTHER_IMAGE, image="unknown:1"))
    except AssertionError:
        return False
    return True


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(
    "case",
    [gauge("the gauge", None), gauge("the image of the team's operator", NO_OTHER_IMAGE, image="own:2")],
    ids=names,
)
def test_a_teams_deployment_says_nothing_for_the_clusters_operator(operator: Call, case: Case) -> None:
    check(operator, AGENT, case)
