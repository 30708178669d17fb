"""What the operator's own identity is held to beyond RBAC: acts that the API server refuses, and those it lets pass.

Each case is one request with the operator's real token, as a dry run where the server has one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.conftest import HOME, OPERATOR, POLICIES, TENANT, Call
from tests.deploy.refusals import FORBIDDEN, STRATEGIC, Case, check, names, refusal
from tests.deploy.reviews import Act, may
from tests.lab.http import ApiError
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.manifests import Object
    from tests.lab import Lab

OURS = {"app.kubernetes.io/managed-by": "voicekeys", "voicekeys.dev/binding": "frejun"}
SECRETS = f"/api/v1/namespaces/{TENANT}/secrets"
APPLY = "application/apply-patch+yaml"

ONLY_OURS = (
    "voicekeys may write only Secrets that carry the labels app.kubernetes.io/managed-by=voicekeys and "
    "voicekeys.dev/binding=<binding>."
)
NOT_MADE_BY_US = (
    "voicekeys may change only Secrets that it made. To hand this one over, set target.adopt: true in the binding and "
    "label the Secret voicekeys.dev/adopt=<binding>."
)
NOT_THIS_TYPE = (
    "voicekeys may not make Secrets of a type that a controller acts on (a ServiceAccount token, a bootstrap token, a "
    "Helm release)."
)
NO_DELETION = "voicekeys never deletes a Secret; one with deletionPolicy Delete goes by its ownerReference."
NO_WORKLOAD_MADE = "voicekeys may neither make, delete nor scale workloads."
NO_POD_MADE = "voicekeys may neither make nor delete pods, nor get into one."
NO_MORE_OF_A_POD = (
    "voicekeys may change nothing of a pod but its annotation controller.kubernetes.io/pod-deletion-cost and, on its "
    "own pods, the label voicekeys.dev/leader."
)
LEADS_NOT = "voicekeys may change the label voicekeys.dev/leader only on the pods of its own Deployment."
NOT_FOR_API_SERVER = (
    "voicekeys may mint tokens for Vault only, not for the API server. Set auth.kubernetes.audience or "
    "auth.jwt.audience of the VoiceKeyStore to an audience of Vault's."
)
ONE_HOUR = "voicekeys may mint tokens of at most one hour."


def secret(name: str, labels: dict[str, str] | None = None, **fields: Any) -> Object:
    """Return a Secret of the tenant."""
    meta: Object = {"name": name, "namespace": TENANT, "labels": labels or {}, **fields.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, **fields}


def test_the_policies_pass_the_api_servers_type_check(installed: Lab) -> None:
    policies = installed.api("GET", POLICIES)["items"]

    assert len(policies) == 5
    assert {each["metadata"]["name"]: each["status"]["typeChecking"] for each in policies} == {
        each["metadata"]["name"]: {} for each in policies
    }
    assert {each["spec"]["failurePolicy"] for each in policies} == {"Fail"}


# ---- Secrets


@pytest.mark.parametrize(
    "case",
    [
        Case("with both labels", secret("new", OURS), None),
        Case("without labels", secret("new"), ONLY_OURS),
        Case("without the binding's label", secret("new", {"app.kubernetes.io/managed-by": "voicekeys"}), ONLY_OURS),
        Case("with another manager's label", secret("new", OURS | {"app.kubernetes.io/managed-by": "Helm"}), ONLY_OURS),
        Case(
            "for TLS, with both labels",
            secret("new", OURS, type="kubernetes.io/tls", data={"tls.crt": "", "tls.key": ""}),
            None,
        ),
        Case("a bootstrap token", secret("new", OURS, type="bootstrap.kubernetes.io/token"), NOT_THIS_TYPE),
        Case("a Helm release", secret("new", OURS, type="helm.sh/release.v1"), NOT_THIS_TYPE),
        Case(
            "a ServiceAccount token",
            secret(
                "new",
                OURS,
                type="kubernetes.io/service-account-token",
                metadata={"annotations": {"kubernetes.io/service-account.name": "default"}},
            ),
            NOT_THIS_TYPE,
        ),
    ],
    ids=names,
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_making_a_secret(operator: Call, case: Case, method: str) -> None:
    """By create, and by server-side apply of a Secret that is not there yet."""
    path, content_type = f"{SECRETS}?dryRun=All", None
    if method == "PATCH":
        name = case.body["metadata"]["name"]
        path, content_type = f"{SECRETS}/{name}?fieldManager=voicekeys&force=true&dryRun=All", APPLY

    assert refusal(operator, method, path, case.body, content_type) == case.refusal


@pytest.fixture(scope="module")
def secrets(installed: Lab, operator: Call) -> None:
    """Secrets of several owners: ours, somebody's, one handed over, and two that were ours until a hand edit."""
    installed.apply(secret("somebodys", stringData={"password": "x"}))
    installed.apply(secret("handed-over", {"voicekeys.dev/adopt": "frejun"}))
    installed.apply(secret("handed-to-another", {"voicekeys.dev/adopt": "other"}))
    for name in ("ours", "ours-unlabelled"):
        path = f"{SECRETS}/{name}?fieldManager=voicekeys&force=true"
        operator("PATCH", path, secret(name, OURS, data={"K": "eA=="}), content_type=APPLY)
    installed.api("PATCH", f"{SECRETS}/ours-unlabelled", {"metadata": {"labels": None}})


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    "case",
    [
        Case("ours gets a new key", {"data": {"K": "eQ=="}}, None, at="ours"),
        Case("ours loses its label", {"metadata": {"labels": None}}, ONLY_OURS, at="ours"),
        Case("ours, label taken off by hand, is put right", {"metadata": {"labels": OURS}}, None, at="ours-unlabelled"),
        Case("somebody's is overwritten", {"data": {"K": "eQ=="}}, ONLY_OURS, at="somebodys"),
        Case("somebody's is labelled as ours", {"metadata": {"labels": OURS}}, NOT_MADE_BY_US, at="somebodys"),
        Case("one handed over to the binding is adopted", {"metadata": {"labels": OURS}}, None, at="handed-over"),
        Case(
            "one handed over to another binding is adopted",
            {"metadata": {"labels": OURS}},
            NOT_MADE_BY_US,
            at="handed-to-another",
        ),
        Case(
            "the operator hands one to itself",
            {"metadata": {"labels": OURS | {"voicekeys.dev/adopt": "frejun"}}},
            NOT_MADE_BY_US,
            at="somebodys",
        ),
    ],
    ids=names,
)
def test_changing_a_secret(operator: Call, case: Case) -> None:
    check(operator, f"{SECRETS}/{case.at}", case)


@pytest.mark.parametrize(
    ("namespace", "name", "words"),
    [
        (HOME, "voicekeys-fingerprint-key", None),
        (HOME, "voicekeys-notify-key", ONLY_OURS),
        (TENANT, "voicekeys-fingerprint-key", ONLY_OURS),
    ],
)
def test_the_one_secret_without_label(operator: Call, namespace: str, name: str, words: str | None) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
    check(operator, f"/api/v1/namespaces/{namespace}/secrets", Case("", body, words, method="POST"))


# ---- pods

COST = "controller.kubernetes.io/pod-deletion-cost"
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}


@pytest.fixture(scope="module")
def own_pod(installed: Lab) -> str:
    """The path of one of the operator's own pods."""
    pods = f"/api/v1/namespaces/{HOME}/pods"
    items = eventually(lambda: installed.api("GET", pods)["items"], "the operator's pods", seconds=30)
    return f"{pods}/{items[0]['metadata']['name']}"


@pytest.mark.parametrize(
    "case",
    [
        Case("the leader's label is set", {"metadata": {"labels": {"voicekeys.dev/leader": "true"}}}, None),
        Case("the leader's label is removed", {"metadata": {"labels": {"voicekeys.dev/leader": None}}}, None),
        Case("another label is set", {"metadata": {"labels": {"app": "victim"}}}, NO_MORE_OF_A_POD),
        Case(
            "the deletion cost is set",
            {"metadata": {"annotations": {COST: "7"}}},
            None,
        ),
        Case("a label is removed", {"metadata": {"labels": {"app.kubernetes.io/component": None}}}, NO_MORE_OF_A_POD),
        Case("an annotation is set", {"metadata": {"annotations": {"a": "b"}}}, NO_MORE_OF_A_POD),
        Case("a finalizer is set", {"metadata": {"finalizers": ["a.b/c"]}}, NO_MORE_OF_A_POD),
        Case(
            "the image is changed",
            {"spec": {"containers": [{"name": "operator", "image": "other:1"}]}},
            NO_MORE_OF_A_POD,
            content_type=STRATEGIC,
        ),
    ],
    ids=names,
)
def test_changing_its_own_pod(operator: Call, own_pod: str, case: Case) -> None:
    check(operator, own_pod, case)


def strangers(installed: Lab, namespace: str) -> str:
    """Make a pod of somebody's, with a label, an annotation and a deletion cost; return its path."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "c", "image": "c:1", "securityContext": restricted}
    meta = {
        "name": "stranger",
        "namespace": namespace,
        "labels": {"app": "a"},
        "annotations": {"mail": "v@x", COST: "1"},
    }
    installed.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}})
    return f"/api/v1/namespaces/{namespace}/pods/stranger"


@pytest.mark.parametrize(
    "case",
    [
        Case("the deletion cost is changed", {"metadata": {"annotations": {COST: "7"}}}, None),
        Case("the deletion cost is removed", {"metadata": {"annotations": {COST: None}}}, None),
        Case(
            "with another annotation",
            {"metadata": {"annotations": {COST: "7", "voicekeys.dev/armed": "HTTP"}}},
            NO_MORE_OF_A_POD,
        ),
        Case("an annotation is changed", {"metadata": {"annotations": {"mail": "w@x"}}}, NO_MORE_OF_A_POD),
        Case("all annotations are removed", {"metadata": {"annotations": None}}, NO_MORE_OF_A_POD),
        Case("a label is changed", {"metadata": {"labels": {"app": "b"}}}, NO_MORE_OF_A_POD),
        Case("the leader's label is set", {"metadata": {"labels": {"voicekeys.dev/leader": "true"}}}, LEADS_NOT),
        Case("it is given an owner", {"metadata": {"ownerReferences": [OWNER]}}, NO_MORE_OF_A_POD),
        Case(
            "the image is changed",
            {"metadata": {"annotations": {COST: "7"}}, "spec": {"containers": [{"name": "c", "image": "other:1"}]}},
            NO_MORE_OF_A_POD,
            content_type=STRATEGIC,
        ),
        Case("its grace is cut short", {"spec": {"activeDeadlineSeconds": 1}}, NO_MORE_OF_A_POD),
    ],
    ids=names,
)
@pytest.mark.parametrize("namespace", [HOME, TENANT])
def test_changing_a_strangers_pod(installed: Lab, operator: Call, namespace: str, case: Case) -> None:
    check(operator, strangers(installed, namespace), case)


def test_a_deletion_cost_is_set_on_a_pod_that_has_no_annotation(installed: Lab, operator: Call) -> None:
    path = strangers(installed, TENANT)
    installed.api("PATCH", path, {"metadata": {"annotations": None}})
    check(operator, path, Case("", {"metadata": {"annotations": {COST: "7"}}}, None))


# ---- tokens


@pytest.mark.parametrize(
    "case",
    [
        Case("for Vault", {"audiences": ["vault"], "expirationSeconds": 600}, None),
        Case("without an audience", {}, NOT_FOR_API_SERVER),
        Case("for the API server", {"audiences": ["https://kubernetes.default.svc.cluster.local"]}, NOT_FOR_API_SERVER),
        Case("for both", {"audiences": ["vault", "https://kubernetes.default.svc"]}, NOT_FOR_API_SERVER),
        Case("for two hours", {"audiences": ["vault"], "expirationSeconds": 7200}, ONE_HOUR),
    ],
    ids=names,
)
def test_minting_a_token(operator: Call, case: Case) -> None:
    path = f"/api/v1/namespaces/{TENANT}/serviceaccounts/voicekeys-reader/token"
    check(operator, path, Case(case.says, {"spec": case.body}, case.refusal, method="POST"))


# ---- what RBAC alone refuses, and who is not meant


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", f"{SECRETS}/ours", None),
        ("DELETE", SECRETS, None),
        ("GET", f"/api/v1/namespaces/{TENANT}/configmaps", None),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", None),
        ("POST", f"/api/v1/namespaces/{TENANT}/pods", {"metadata": {"name": "x"}}),
        ("POST", f"/api/v1/namespaces/{TENANT}/pods/x/eviction", {}),
        ("POST", f"/api/v1/namespaces/{TENANT}/serviceaccounts/default/token", {"spec": {"audiences": ["vault"]}}),
        ("PATCH", f"/apis/voicekeys.dev/v1alpha1/namespaces/{TENANT}/voicekeybindings/x", {"spec": {}}),
        ("PATCH", "/apis/voicekeys.dev/v1alpha1/voicekeystores/x", {"spec": {}}),
        ("PATCH", f"/apis/apps/v1/namespaces/{TENANT}/deployments/x/scale", {"spec": {"replicas": 0}}),
        ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/voicekeys-operator", {"rules": []}),
        ("PATCH", f"{POLICIES}/voicekeys-operator-secrets", {"spec": {}}),
        ("GET", "/api/v1/nodes", None),
    ],
)
def test_what_rbac_refuses(operator: Call, method: str, path: str, body: Any) -> None:
    with pytest.raises(ApiError, match=f'system:serviceaccount:{HOME}:{OPERATOR}" cannot ') as error:
        operator(method, path, body)
    assert error.value.status == FORBIDDEN


@contextmanager
def cluster_admin(lab: Lab, account: str) -> Iterator[None]:
    """Bind an account of the operator's namespace to cluster-admin for a while."""
    nodes = Act("", "nodes", "list")
    lab.cluster.bind(
        f"{account}-by-mistake", "cluster-admin", {"kind": "ServiceAccount", "name": account, "namespace": HOME}
    )
    try:
        eventually(lambda: may(lab, f"{HOME}/{account}", nodes), "the binding to take effect", seconds=10)
        yield
    finally:
        lab.api("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{account}-by-mistake")
        eventually(lambda: not may(lab, f"{HOME}/{account}", nodes), "the binding to be gone", seconds=10)


def test_with_more_rights_than_deploy_gives_the_policies_still_hold(installed: Lab, operator: Call) -> None:
    """Somebody binds the operator to cluster-admin by mistake: what it was never meant to do stays refused."""
    installed.apply(secret("ours", OURS))
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}}
    pods = {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}
    workload = {"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pods}}
    deployments = f"/apis/apps/v1/namespaces/{TENANT}/deployments"

    with cluster_admin(installed, OPERATOR):
        check(operator, f"{SECRETS}/ours", Case("", None, NO_DELETION, method="DELETE"))
        check(operator, f"/api/v1/namespaces/{TENANT}/pods", Case("", pod, NO_POD_MADE, method="POST"))
        check(operator, deployments, Case("", workload, NO_WORKLOAD_MADE, method="POST"))


def test_nobody_else_is_held(installed: Lab) -> None:
    """The same act by an administrator, and by another ServiceAccount of the operator's namespace."""
    token = installed.cluster.token_for(HOME, "colleague")
    with cluster_admin(installed, "colleague"):
        for who in (token, installed.admin_token):
            installed.api("POST", f"{SECRETS}?dryRun=All", secret("unlabelled"), token=who)


def test_a_status_patch_changes_nothing_but_the_status(installed: Lab, operator: Call) -> None:
    spec = {"environment": "production", "source": {"path": "voice/production/x"}}
    binding = {"apiVersion": "voicekeys.dev/v1alpha1", "kind": "VoiceKeyBinding"}
    (made,) = installed.apply({**binding, "metadata": {"name": "x", "namespace": TENANT}, "spec": spec})

    path = f"/apis/voicekeys.dev/v1alpha1/namespaces/{TENANT}/voicekeybindings/x"
    wish = {"metadata": {"labels": {"a": "b"}, "finalizers": ["a.b/c"]}, "spec": {"suspend": True}}
    after = operator("PATCH", f"{path}/status", {**wish, "status": {"observedGeneration": 1}})

    assert after["spec"] == made["spec"]
    assert after["status"]["observedGeneration"] == 1
    assert "labels" not in after["metadata"]
    assert "finalizers" not in after["metadata"]
