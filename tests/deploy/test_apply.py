"""`kubectl apply` of what ships, on a real API server: accepted to the letter, twice without a change, fit to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.conftest import HOME, OPERATOR, own_pods
from tests.deploy.manifests import DEPLOY, EXAMPLES, Object, pick, render
from tests.lab import Lab, LabError
from tests.lab.http import ApiError
from tests.lab.processes import eventually
from voicekeys.api.binding import DEFAULT_DRAIN_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER_SIDE = ("--server-side", "--validate=strict")
REPLICAS = 2
CLIENT_SIDE = ("--validate=strict",)


@pytest.fixture(scope="module")
def bare(own_control_plane: None) -> Iterator[Lab]:  # noqa: ARG001
    """A lab on which nothing of ours was ever applied."""
    with Lab.start(nodes=0, scheduler=False, controller_manager=False) as lab:
        yield lab


def versions(lab: Lab, objects: list[Object]) -> dict[str, str]:
    """Return each object's generation, or resourceVersion where it has none: what any effective write would change."""
    found = {}
    for each in objects:
        meta = lab.api("GET", lab.cluster.path(each))["metadata"]
        found[f"{each['kind']}/{meta['name']}"] = str(meta.get("generation") or meta["resourceVersion"])
    return found


@pytest.mark.parametrize("flags", [CLIENT_SIDE, SERVER_SIDE], ids=["client-side", "server-side"])
def test_applied_twice_the_second_time_changes_nothing(bare: Lab, flags: tuple[str, ...]) -> None:
    conflicts = ("--force-conflicts",) if flags is SERVER_SIDE else ()
    bare.kubectl("apply", "-k", DEPLOY, *flags, *conflicts)
    objects = render(bare, DEPLOY)
    before = versions(bare, objects)

    bare.kubectl("apply", "-k", DEPLOY, *flags)

    assert versions(bare, objects) == before


def test_a_misspelt_field_would_have_been_refused(bare: Lab) -> None:
    """What makes the test above worth something: strict validation sees what the API server would drop."""
    (policy,) = (each for each in render(bare, DEPLOY) if each["kind"] == "NetworkPolicy")
    policy["spec"]["egres"] = []

    with pytest.raises(LabError, match=r'unknown field "spec\.egres"'):
        bare.kubectl("apply", *CLIENT_SIDE, "--dry-run=server", "-f", "-", stdin=str(policy))


def test_the_examples_apply_on_top(installed: Lab) -> None:
    installed.kubectl("apply", "-k", EXAMPLES, *SERVER_SIDE)
    before = versions(installed, objects := render(installed, EXAMPLES))

    installed.kubectl("apply", "-k", EXAMPLES, *SERVER_SIDE)

    assert versions(installed, objects) == before


@pytest.mark.parametrize(
    ("folder", "workload"),
    [(DEPLOY, OPERATOR), (EXAMPLES, "receptionist")],
    ids=["the operator", "the example's agent"],
)
def test_its_pods_fit_the_restricted_pod_security(installed: Lab, folder: Path, workload: str) -> None:
    template = pick(render(installed, folder), "Deployment", workload)["spec"]["template"]
    spec = {**template["spec"], "serviceAccountName": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    path = f"/api/v1/namespaces/{HOME}/pods?dryRun=All"
    installed.api("POST", path, pod)

    spec["securityContext"] = {}
    with pytest.raises(ApiError, match='violates PodSecurity "restricted:latest"'):
        installed.api("POST", path, pod)


def test_what_runs_is_hardened(installed: Lab) -> None:
    """As the API server has it, defaults and all, and as its pods have it."""
    deployment = installed.api("GET", f"/apis/apps/v1/namespaces/{HOME}/deployments/{OPERATOR}")
    pod = installed.api("GET", f"/api/v1/namespaces/{HOME}/pods/{own_pods(installed)[0]}")
    for spec in (deployment["spec"]["template"]["spec"], pod["spec"]):
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert "initContainers" not in spec
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        # No CPU limit: throttling would cost the Lease; the manifest says so.
        assert container["resources"]["limits"] == {"memory": "256Mi"}
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        # What it may write is in memory and small.
        (writable,) = (each for each in container["volumeMounts"] if not each.get("readOnly"))
        (volume,) = (each for each in spec["volumes"] if each["name"] == writable["name"])
        assert (writable["mountPath"], volume["emptyDir"]) == ("/tmp", {"medium": "Memory", "sizeLimit": "16Mi"})


GITOPS = {
    "argocd/application.yaml": {"applications.argoproj.io": ("Application", "v1alpha1")},
    "flux/receptionist.yaml": {
        "gitrepositories.source.toolkit.fluxcd.io": ("GitRepository", "v1"),
        "kustomizations.kustomize.toolkit.fluxcd.io": ("Kustomization", "v1"),
    },
}


@pytest.mark.parametrize("file", GITOPS)
def test_the_gitops_examples_apply(installed: Lab, file: str) -> None:
    """On kinds of these names that take any field: group, version, kind and syntax are tried, not the tools' schema."""
    made = {each["metadata"]["name"]: each for each in (_kind(name, *GITOPS[file][name]) for name in GITOPS[file])}
    installed.apply(list(made.values()))
    objects = [each for each in yaml.safe_load_all((EXAMPLES / file).read_text()) if each]
    for name in {each["metadata"]["namespace"] for each in objects}:
        installed.cluster.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        eventually(lambda: _applied(installed, EXAMPLES / file), f"{file} applied")
        assert {each["kind"] for each in objects} == {kind for kind, _ in GITOPS[file].values()}
        for each in objects:
            found = installed.api("GET", installed.cluster.path(each))
            assert found["spec"] == each["spec"]
            _leads_somewhere(installed, found["spec"])
    finally:
        installed.kubectl("delete", "crd", *made)


def _kind(name: str, kind: str, version: str) -> Object:
    plural, _, group = name.partition(".")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
        "versions": [served],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, a test's stand-in"}},
        "spec": spec,
    }


def _applied(lab: Lab, file: Path) -> bool:
    try:
        lab.kubectl("apply", *SERVER_SIDE, "-f", file)
    except LabError:  # a kind is served a moment after its CRD is there
        return False
    return True


def _leads_somewhere(lab: Lab, spec: Object) -> None:
    """Its path is a folder of this repository that kustomize can build; what it waits for is among what it applies."""
    path = spec.get("path") or spec.get("source", {}).get("path")
    if path is None:
        return
    built = {(each["kind"], each["metadata"]["name"]) for each in render(lab, DEPLOY.parent / path)}
    assert built
    assert {(each["kind"], each["name"]) for each in spec.get("healthChecks", [])} <= built


def test_two_replicas_run_and_a_drain_takes_one_at_a_time(installed: Lab) -> None:
    deployment = f"/apis/apps/v1/namespaces/{HOME}/deployments/{OPERATOR}"
    budget = f"/apis/policy/v1/namespaces/{HOME}/poddisruptionbudgets/{OPERATOR}"

    def available() -> int:
        return int(installed.api("GET", deployment)["status"].get("availableReplicas", 0))

    eventually(lambda: available() == REPLICAS, "two replicas", seconds=60)
    eventually(lambda: installed.api("GET", budget)["status"].get("disruptionsAllowed") == 1, "the budget", seconds=60)


def test_metrics_reach_both_replicas_and_notify_the_leader_alone(installed: Lab) -> None:
    """Before one leads, /notify has no endpoint: a pipeline's request fails instead of being lost on the standby."""
    pods = f"/api/v1/namespaces/{HOME}/pods"
    running = eventually(
        lambda: [each for each in installed.api("GET", pods)["items"] if each["metadata"]["name"].startswith(OPERATOR)],
        "the operator's pods",
        seconds=60,
    )

    def chosen(service: str) -> set[str]:
        selector = installed.api("GET", f"/api/v1/namespaces/{HOME}/services/{service}")["spec"]["selector"]
        query = ",".join(f"{key}={value}" for key, value in selector.items())
        return {each["metadata"]["name"] for each in installed.api("GET", f"{pods}?labelSelector={query}")["items"]}

    names = {each["metadata"]["name"] for each in running}
    assert chosen("voicekeys-metrics") == names
    assert chosen("voicekeys-notify") == set()

    leader = min(names)
    installed.api("PATCH", f"{pods}/{leader}", {"metadata": {"labels": {"voicekeys.dev/leader": "true"}}})
    assert chosen("voicekeys-notify") == {leader}
    assert chosen("voicekeys-metrics") == names
    installed.api("PATCH", f"{pods}/{leader}", {"metadata": {"labels": {"voicekeys.dev/leader": None}}})


def test_every_port_by_name_is_one_that_the_container_has(installed: Lab) -> None:
    manifests = render(installed, DEPLOY)
    (container,) = pick(manifests, "Deployment", OPERATOR)["spec"]["template"]["spec"]["containers"]
    named = {each["name"]: each["containerPort"] for each in container["ports"]}

    used = [port["targetPort"] for each in manifests if each["kind"] == "Service" for port in each["spec"]["ports"]]
    used += [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    (policy,) = (each for each in manifests if each["kind"] == "NetworkPolicy")
    (ingress,) = policy["spec"]["ingress"]

    assert set(used) == {"http"}
    assert [each["port"] for each in ingress["ports"]] == [named["http"]]


def test_the_operator_may_reach_every_pod_at_the_drain_port_and_at_no_other(installed: Lab) -> None:
    (policy,) = (each for each in render(installed, DEPLOY) if each["kind"] == "NetworkPolicy")
    to_pods = [each for each in policy["spec"]["egress"] if "to" in each]

    assert to_pods == [{"to": [{"namespaceSelector": {}}], "ports": [{"port": DEFAULT_DRAIN_PORT, "protocol": "TCP"}]}]


def test_nothing_of_the_install_carries_the_label_of_our_secrets(installed: Lab) -> None:
    """The operator watches by that label: its own manifests are not what it manages."""
    for each in render(installed, DEPLOY):
        assert each["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "voicekeys"


def test_no_image_floats(installed: Lab) -> None:
    manifests = [*render(installed, DEPLOY), *render(installed, EXAMPLES)]
    pods = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "Deployment"]
    images = [container["image"] for pod in pods for container in pod["containers"]]

    assert len(images) == 2
    for image in images:
        tag = image.rpartition(":")[2]
        assert tag[0].isdigit(), image
