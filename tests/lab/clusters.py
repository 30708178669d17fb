"""Which cluster a lab stands on: its own (`lab`), kind's (`kind`) or the one of the user's kubeconfig (`current`).

Vault is the lab's own binary in each case, on this machine's loopback, and so is the operator under test: both only
need to reach the cluster's API server, and nothing in the cluster needs to reach them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import kubernetes

from tests.lab.binaries import cache_folder
from tests.lab.cluster import CONFLICT, NOT_FOUND, REVIEWER_NAMESPACE
from tests.lab.controlplane import FAKE_NODE, Endpoint
from tests.lab.lab import Lab
from tests.lab.processes import LabError, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.build import Say

CHOICES = ("lab", "kind", "current")
KIND_VERSION = "v0.33.0"
# The image of Kubernetes 1.36 that this version of kind was released with: its release notes give tag and digest.
NODE_IMAGE = "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
KIND_URL = "https://github.com/kubernetes-sigs/kind/releases/download"
KIND_CLUSTER = "voicekeys"
GUEST = "voicekeys-lab"
BINDINGS = (GUEST, "voicekeys-lab-vault-reviewer", "voicekeys-lab-issuer")


@contextmanager
def open_lab(choice: str = "lab", *, nodes: int = 3, keep: bool = False, **options: Any) -> Iterator[Lab]:
    """Start a lab on the chosen cluster; `options` are those of `Lab.start`.

    On `lab` and `kind` there are `nodes` simulated nodes, on which all pods run; the user's own cluster gets none.
    `keep` leaves kind's cluster running for the next time.
    """
    if choice == "lab":
        with Lab.start(nodes=nodes, **options) as lab:
            yield lab
    elif choice == "kind":
        with (
            kind_cluster(keep=keep) as config,
            borrowed(config) as endpoint,
            Lab.start(nodes=nodes, endpoint=endpoint, **options) as lab,
        ):
            yield lab
    else:
        with borrowed() as endpoint, Lab.start(nodes=0, endpoint=endpoint, **options) as lab:
            yield lab


def describe(choice: str) -> str:
    """Return one line that says what cluster a choice means, here and now."""
    if choice == "kind":
        return f"cluster: kind {KIND_VERSION} with {NODE_IMAGE.partition('@')[0]} (Docker), Vault on this machine"
    if choice == "current":
        context, server = current_context()
        return f"cluster: the current context of your kubeconfig, {context} at {server}, Vault on this machine"
    return "cluster: a control plane and Vault of the tests' own on this machine (--cluster=kind|current for others)"


def docker_answers() -> bool:
    """Tell whether there is a Docker that kind could use."""
    if not shutil.which("docker"):
        return False
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=5)
        return done.returncode == 0
    return False


def hint_at_kind(say: Say, but: str = "") -> None:
    """Say that kind is quicker than a build, where it could be used; `but` is what it costs."""
    if docker_answers():
        say(f"hint: Docker answers here; --cluster=kind builds kubectl, kwok and Vault, but no control plane{but}")


# ---- the user's cluster


def current_context() -> tuple[str, str]:
    """Return name and API server of the kubeconfig's current context; raises LabError when there is none."""
    try:
        _, active = kubernetes.config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
        api = _clients()[0]
    except kubernetes.config.ConfigException as error:
        raise LabError(f"--cluster=current needs a kubeconfig with a current context: {error}") from error
    return active["name"], api.configuration.host


def _clients(config: Path | None = None) -> tuple[Any, Any, Any]:
    """Return the official client of a kubeconfig and its core and RBAC APIs: it knows every way to authenticate."""
    api = kubernetes.config.new_client_from_config(str(config) if config else None)  # type: ignore[no-untyped-call]
    return api, kubernetes.client.CoreV1Api(api), kubernetes.client.RbacAuthorizationV1Api(api)


@contextmanager
def borrowed(config: Path | None = None) -> Iterator[Endpoint]:
    """Be a guest of the cluster of a kubeconfig (default: the user's), by a ServiceAccount that is cluster-admin.

    Everything of the lab's own in the cluster is removed at the end. Raises LabError when the server's certificate
    cannot be checked.
    """
    api, core, rbac = _clients(config)
    if not api.configuration.verify_ssl:
        raise LabError("this kubeconfig skips TLS verification (insecure-skip-tls-verify): the lab does not")
    with tempfile.TemporaryDirectory(prefix="voicekeys-lab-guest-") as folder:
        ca_file = Path(folder) / "ca.crt"
        shutil.copyfile(api.configuration.ssl_ca_cert or certifi.where(), ca_file)
        try:
            yield Endpoint(api.configuration.host.rstrip("/"), ca_file, _be_guest(core, rbac))
        finally:
            _leave(core, rbac)
            api.close()


def _be_guest(core: Any, rbac: Any) -> str:
    with _unless(CONFLICT):
        core.create_namespace({"metadata": {"name": GUEST}})
    with _unless(CONFLICT):
        core.create_namespaced_service_account(GUEST, {"metadata": {"name": GUEST}})
    binding = {
        "metadata": {"name": GUEST},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": GUEST, "namespace": GUEST}],
    }
    with _unless(CONFLICT):
        rbac.create_cluster_role_binding(binding)
    request = {"spec": {"expirationSeconds": 12 * 3600}}
    return str(core.create_namespaced_service_account_token(GUEST, GUEST, request).status.token)


def _leave(core: Any, rbac: Any) -> None:
    for name in (GUEST, REVIEWER_NAMESPACE):
        with _unless(NOT_FOUND):
            core.delete_namespace(name)
    for name in BINDINGS:
        with _unless(NOT_FOUND):
            rbac.delete_cluster_role_binding(name)
    core.delete_collection_node(label_selector=",".join(f"{key}={value}" for key, value in FAKE_NODE.items()))


@contextmanager
def _unless(status: int) -> Iterator[None]:
    try:
        yield
    except kubernetes.client.ApiException as error:
        if error.status != status:
            raise


# ---- kind


@contextmanager
def kind_cluster(*, keep: bool = False) -> Iterator[Path]:
    """Create kind's cluster by pytest-kind (or take the one that was kept); yield its kubeconfig.

    Its real node is cordoned once its own pods run, so that every pod of a test lands on a simulated node.
    """
    # Needed for this choice alone, and without types.
    pytest_kind: Any = importlib.import_module("pytest_kind.cluster")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    os.environ.setdefault("KIND_DOWNLOAD_URL", f"{KIND_URL}/{KIND_VERSION}/kind-linux-{machine}")
    folder = cache_folder("kind")
    folder.mkdir(parents=True, exist_ok=True)
    # It makes a folder for its downloads in the working directory, whatever paths it is given.
    with contextlib.chdir(folder):
        cluster = pytest_kind.KindCluster(
            KIND_CLUSTER,
            kubeconfig=folder / "kubeconfig",
            image=NODE_IMAGE,
            kind_path=folder / f"kind-{KIND_VERSION}",
        )
    try:
        cluster.create()
        _cordon(folder / "kubeconfig")
        yield folder / "kubeconfig"
    finally:
        # Without kind itself there is nothing to delete, and why it is not there must be told.
        if not keep and cluster.kind_path.exists():
            cluster.delete()


def _cordon(config: Path) -> None:
    api, core, _ = _clients(config)

    def settled() -> bool:
        pods = [pod for pod in core.list_namespaced_pod("kube-system").items if not pod.metadata.deletion_timestamp]
        ready = [any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []) for pod in pods]
        return bool(pods) and all(ready)

    eventually(settled, "kind's own pods ready", seconds=180, pause=1)
    for node in core.list_node().items:
        if not FAKE_NODE.items() <= (node.metadata.labels or {}).items():
            core.patch_node(node.metadata.name, {"spec": {"unschedulable": True}})
    api.close()
