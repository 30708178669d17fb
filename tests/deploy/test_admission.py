"""What the operator's own identity is held to beyond RBAC: acts that the API server refuses, and those it lets pass.

Each case is one request with the operator's real token, as a dry run where the server has one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.conftest import HOME, OPERATOR, POLICIES, TENANT, Call
from tests.deploy.reviews import Act, may
from tests.lab.http import ApiError
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.manifests import Object
    from tests.lab import Lab

FORBIDDEN = 403
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
NO_METADATA = "voicekeys may not change a workload's metadata."
NO_SPEC = "voicekeys may not change a workload's spec beyond the annotations of its pod template."
NO_TEMPLATE = "voicekeys may not change a pod template beyond its annotations."
NO_ANNOTATION = "voicekeys may change only the annotations voicekeys.dev/key.<binding> of a pod template."
NO_WORKLOAD_MADE = "voicekeys may neither make, delete nor scale workloads."
ONLY_OWN_PODS = "voicekeys may write only the pods of its own Deployment."
ONLY_LEADER_LABEL = "voicekeys may change only the label voicekeys.dev/leader of a pod."
NOT_FOR_API_SERVER = (
    "voicekeys may mint tokens for Vault only, not for the API server. Set auth.kubernetes.audience or "
    "auth.jwt.audience of the VoiceKeyStore to an audience of Vault's."
)
ONE_HOUR = "voicekeys may mint tokens of at most one hour."


@dataclass(frozen=True)
class Case:
    """A sentence, the request that it is about, and the policy's words that refuse it (None: it is allowed)."""

    says: str
    body: Any
    refusal: str | None
    at: str = ""
    method: str = "PATCH"
    content_type: str | None = None


def refusal(call: Call, method: str, path: str, body: Any, content_type: str | None = None) -> str | None:
    """Send a request and return the policy's words that refuse it, None where it is allowed.

    Any other error is raised, also a refusal by RBAC.
    """
    try:
        call(method, path, body, content_type=content_type)
    except ApiError as error:
        _, denied, words = str(error).rpartition("denied request: ")
        if error.status != FORBIDDEN or not denied:
            raise
        return words
    return None


def check(call: Call, path: str, case: Case) -> None:
    """Send a case's request as a dry run and compare the answer."""
    assert refusal(call, case.method, f"{path}?dryRun=All", case.body, case.content_type) == case.refusal


def names(case: Case) -> str:
    """Return the name of a parametrised test: its sentence."""
    return case.says


def secret(name: str, labels: dict[str, str] | None = None, **fields: Any) -> Object:
    """Return a Secret of the tenant."""
    meta: Object = {"name": name, "namespace": TENANT, "labels": labels or {}, **fields.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, **fields}


def template(**annotations: str | None) -> Object:
    """Return a merge patch that annotates a pod template; `key_x` stands for `voicekeys.dev/key.x`."""
    marks = {name.replace("key_", "voicekeys.dev/key."): value for name, value in annotations.items()}
    return {"spec": {"template": {"metadata": {"annotations": marks}}}}


def test_the_policies_pass_the_api_servers_type_check(installed: Lab) -> None:
    policies = installed.api("GET", POLICIES)["items"]

    assert len(policies) == 4
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


# ---- workloads


@pytest.fixture(scope="module")
def workloads(installed: Lab) -> Iterator[None]:
    """One workload of each kind, all named `agent`, with an annotation of somebody's and one of ours."""
    kinds: dict[str, Object] = {
        "Deployment": {"replicas": 0},
        "StatefulSet": {"replicas": 0, "serviceName": "agent"},
        "DaemonSet": {},
    }
    pod = {
        "metadata": {"labels": {"app": "agent"}, "annotations": {"team": "voice", "voicekeys.dev/key.old": "0"}},
        "spec": {"nodeSelector": {"no": "node"}, "containers": [{"name": "agent", "image": "agent:1"}]},
    }
    for kind, extra in kinds.items():
        spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": pod, **extra}
        meta = {"name": "agent", "namespace": TENANT, "labels": {"team": "voice"}, "annotations": {"mail": "v@x"}}
        installed.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec})
    yield
    for kind in kinds:
        installed.api("DELETE", f"/apis/apps/v1/namespaces/{TENANT}/{kind.lower()}s/agent")


STRATEGIC = "application/strategic-merge-patch+json"
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
        Case("an image is changed", CONTAINER, NO_TEMPLATE, content_type=STRATEGIC),
        Case("a container is added", SIDECAR, NO_TEMPLATE, content_type=STRATEGIC),
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


# ---- pods


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
        Case("another label is set", {"metadata": {"labels": {"app": "victim"}}}, ONLY_LEADER_LABEL),
        Case("a label is removed", {"metadata": {"labels": {"app.kubernetes.io/component": None}}}, ONLY_LEADER_LABEL),
        Case("an annotation is set", {"metadata": {"annotations": {"a": "b"}}}, ONLY_LEADER_LABEL),
        Case("a finalizer is set", {"metadata": {"finalizers": ["a.b/c"]}}, ONLY_LEADER_LABEL),
        Case(
            "the image is changed",
            {"spec": {"containers": [{"name": "operator", "image": "other:1"}]}},
            ONLY_LEADER_LABEL,
            content_type=STRATEGIC,
        ),
    ],
    ids=names,
)
def test_changing_its_own_pod(operator: Call, own_pod: str, case: Case) -> None:
    check(operator, own_pod, case)


def test_a_strangers_pod_next_to_it_stays_as_it_is(installed: Lab, operator: Call) -> None:
    restricted = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "c", "image": "c:1", "securityContext": restricted}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "namespace": HOME}}
    installed.apply({**pod, "spec": {"containers": [container]}})

    label = {"metadata": {"labels": {"voicekeys.dev/leader": "true"}}}
    check(operator, f"/api/v1/namespaces/{HOME}/pods/stranger", Case("", label, ONLY_OWN_PODS))


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
        check(operator, f"/api/v1/namespaces/{TENANT}/pods", Case("", pod, ONLY_OWN_PODS, method="POST"))
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
