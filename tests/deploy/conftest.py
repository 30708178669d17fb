"""A lab of its own for `deploy/`: it installs cluster-wide policies, which other tests should not meet by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.deploy import job
from tests.deploy.audit import Audit
from tests.deploy.manifests import DEPLOY, NAMESPACED, Object
from tests.lab import Lab
from tests.lab.http import ApiError
from tests.lab.processes import eventually

HOME = "voicekeys-system"
OPERATOR = "voicekeys-operator"
APP = "voicekeys"
TENANT = "voice"
TEAM = "voice-prod"
REPLICAS = 2
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"

Call = Callable[..., Any]


@pytest.fixture(scope="package")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The audit log of `installed`."""
    return Audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="package")
def installed(own_control_plane: None, audit: Audit) -> Iterator[Lab]:  # noqa: ARG001
    """A lab after `kubectl apply -k deploy/`, with the admission policies in force and a Vault under TLS."""
    with Lab.start(nodes=1, vault_tls=True, apiserver_flags=audit.flags) as lab:
        lab.kubectl("apply", "-k", DEPLOY, "--server-side", "--validate=strict")
        lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT}})
        _await_policies(lab)
        yield lab


@pytest.fixture(scope="package")
def prepared(installed: Lab) -> Lab:
    """`installed` with what a platform team adds to the operator's namespace: see `job.prepare`."""
    job.prepare(installed, HOME)
    return installed


@pytest.fixture(scope="module")
def workloads(installed: Lab) -> Iterator[None]:
    """One workload of each kind, all named `agent`, with an annotation and a hook of somebody's, a trigger of ours."""
    kinds: dict[str, Object] = {
        "Deployment": {"replicas": 0},
        "StatefulSet": {"replicas": 0, "serviceName": "agent"},
        "DaemonSet": {},
    }
    helper: Object = {
        "name": "helper",
        "image": "helper:1",
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        "env": [{"name": "VOICEKEYS_DRAIN_PORT", "value": "7"}, {"name": "A", "value": "b"}],
    }
    containers: list[Object] = [{"name": "agent", "image": "agent:1"}, helper]
    pod = {
        "metadata": {"labels": {"app": "agent"}, "annotations": {"team": "voice", "voicekeys.dev/key.old": "0"}},
        "spec": {"nodeSelector": {"no": "node"}, "containers": containers},
    }
    for kind, extra in kinds.items():
        spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": pod, **extra}
        meta = {"name": "agent", "namespace": TENANT, "labels": {"team": "voice"}, "annotations": {"mail": "v@x"}}
        installed.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec})
    yield
    for kind in kinds:
        installed.api("DELETE", f"/apis/apps/v1/namespaces/{TENANT}/{kind.lower()}s/agent")


@pytest.fixture(scope="package")
def operator(installed: Lab) -> Call:
    """Call the API server as the installed operator: `operator(method, path, body)`."""
    token = installed.cluster.token_for(HOME, OPERATOR)

    def call(method: str, path: str, body: Any = None, **options: Any) -> Any:
        return installed.api(method, path, body, token=token, **options)

    return call


def _await_policies(lab: Lab) -> None:
    """Wait until each policy refuses: the API server reads new ones with a delay of about a second."""
    user = f"system:serviceaccount:{HOME}:{OPERATOR}"
    lab.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "voicekeys-reader", "namespace": TENANT}}
    )
    probes = {
        "voicekeys-operator-secrets": (
            f"/api/v1/namespaces/{TENANT}/secrets?dryRun=All",
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "probe"}},
        ),
        "voicekeys-operator-tokens": (
            f"/api/v1/namespaces/{TENANT}/serviceaccounts/voicekeys-reader/token?dryRun=All",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}},
        ),
    }

    def refuses(policy: str) -> bool:
        path, body = probes[policy]
        try:
            lab.api("POST", path, body, as_user=user)
        except ApiError as error:
            return policy in str(error)
        return False

    for policy in probes:
        eventually(lambda policy=policy: refuses(policy), f"{policy} to be in force", seconds=30)  # type: ignore[misc]
    names = {each["metadata"]["name"] for each in lab.api("GET", POLICIES)["items"]}
    eventually(lambda: all(_checked(lab, name) for name in names), "the policies to be type-checked", seconds=30)


def _checked(lab: Lab, policy: str) -> bool:
    return "typeChecking" in lab.api("GET", f"{POLICIES}/{policy}").get("status", {})


@pytest.fixture(scope="package")
def team_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The audit log of `team`."""
    return Audit(tmp_path_factory.mktemp("team-audit"))


@pytest.fixture(scope="package")
def team(own_control_plane: None, team_audit: Audit) -> Iterator[Lab]:  # noqa: ARG001
    """A lab with the CRDs, as an administrator leaves it, and one team's install by overlays/namespaced."""
    with Lab.start(nodes=1, apiserver_flags=team_audit.flags) as lab:
        lab.kubectl("apply", "-k", DEPLOY.parent / "crds", "--server-side")
        lab.kubectl("apply", "-f", DEPLOY / "base" / "admission.yaml", "--server-side")
        for name in (TEAM, "voice-staging"):
            lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        lab.kubectl("apply", "-k", NAMESPACED, "--server-side", "--validate=strict")
        yield lab


def own_pods(lab: Lab, namespace: str = HOME) -> list[str]:
    """Return the names of the pods of the installed Deployment, once both run (on a simulated node)."""

    def running() -> list[str]:
        query = f"labelSelector=app.kubernetes.io/name%3D{APP}"
        pods = lab.api("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")["items"]
        alive = [each for each in pods if each["status"].get("phase") == "Running"]
        names = sorted(each["metadata"]["name"] for each in alive if "deletionTimestamp" not in each["metadata"])
        return names if len(names) >= REPLICAS else []

    return eventually(running, "the operator's pods", seconds=60)
