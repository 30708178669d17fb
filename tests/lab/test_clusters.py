"""A lab as the guest of another cluster, and the question that is asked first; the other cluster is a lab as well."""

from __future__ import annotations

import ast
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kubernetes.config import kube_config

from tests.lab import Lab, LabError
from tests.lab.binaries import FOLDER
from tests.lab.clusters import KIND_VERSION, NODE_IMAGE, borrowed, describe, hint_at_kind, kind_cluster, open_lab
from tests.lab.controlplane import FAKE_NODE
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
A_TEST = "tests/lab/test_vault.py::test_versions_count_up"
# One module of each folder that starts control planes of its own.
OWN = (
    "tests/reconcilers/test_sync.py",
    "tests/deploy/test_apply.py",
    "tests/security/test_canary.py",
    "tests/docs/test_demo_ends.py",
    "tests/crash",
    "tests/faults/test_lease.py",
)
STARTERS = {"Lab.start", "Site", "Demo", "OtherProcess", "bench.main"}


@pytest.fixture(scope="module")
def host(own_control_plane: None) -> Iterator[Lab]:  # noqa: ARG001
    """Start the lab that plays the user's own cluster."""
    with Lab.start(nodes=0, say=lambda _line: None) as started:
        yield started


def run(host: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on the cluster of the host's kubeconfig, without a terminal."""
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--cluster=current", *args]
    env = {**os.environ, "KUBECONFIG": str(host.kubeconfig)}
    return subprocess.run(command, cwd=ROOT, env=env, input="", capture_output=True, text=True, check=False)


def traces(host: Lab) -> set[str]:
    """Return the names of what a guest makes for itself in a cluster and is to remove."""
    listing = host.kubectl("get", "namespaces,clusterrolebindings,nodes", "-o", "name")
    own = {"namespace/voicekeys-lab-vault", "clusterrolebinding.rbac.authorization.k8s.io/voicekeys-lab-vault-reviewer"}
    return {line for line in listing.splitlines() if "voicekeys" in line or line.startswith("node/")} - own


def test_a_guest_brings_its_vault_and_its_nodes_and_leaves_nothing(host: Lab) -> None:
    with borrowed(host.kubeconfig) as endpoint, Lab.start(endpoint=endpoint, nodes=2, say=lambda _line: None) as guest:
        assert guest.api_url == host.api_url
        assert guest.vault_addr != host.vault_addr
        eventually(lambda: guest.kubectl("get", "nodes").count(" Ready ") == 2, "two nodes ready")
        guest.make_namespace("visited")
        guest.put_key("visited/k", api_key="a")
        read = guest.vault("GET", "secret/data/visited/k", token=guest.login("visited"))
        assert read["data"]["data"] == {"api_key": "a"}
        assert traces(host) > {"namespace/voicekeys-lab"}
        guest.api("DELETE", "/api/v1/namespaces/visited")
    eventually(lambda: not traces(host), "no trace of the guest")


def test_the_user_s_cluster_is_named_and_not_touched_without_a_yes(host: Lab) -> None:
    done = run(host, A_TEST)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"cluster: the current context of your kubeconfig, lab at {host.api_url}" in done.stdout
    assert "not confirmed" in done.stdout + done.stderr
    assert traces(host) == set()


def test_with_a_yes_tests_run_there_and_say_what_they_cannot_do(host: Lab) -> None:
    done = run(host, "--yes", A_TEST, "tests/lab/test_stages.py::test_an_exit_code_makes_a_failed_end")
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "needs simulated nodes" in done.stdout
    eventually(lambda: not traces(host), "no trace of the guest")


def test_without_a_kubeconfig_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(LabError, match="needs a kubeconfig with a current context"):
        describe("current")


def test_tls_without_verification_is_refused(host: Lab, tmp_path: Path) -> None:
    text = host.kubeconfig.read_text().replace("certificate-authority:", "insecure-skip-tls-verify: true\n    x-was:")
    careless = tmp_path / "careless.kubeconfig"
    careless.write_text(text)
    with pytest.raises(LabError, match="skips TLS verification"), borrowed(careless):
        pass


# ---- tests that need a control plane of their own


def test_what_needs_a_control_plane_of_its_own_is_skipped_aloud(host: Lab) -> None:
    done = run(host, "--yes", *OWN, A_TEST)
    told = re.search(
        r"--cluster=current: (\d+) of (\d+) tests are skipped: needs an API server of its own", done.stdout
    )
    assert told, done.stdout + done.stderr
    assert int(told[1]) == int(told[2]) - 1 > 40
    assert f"1 passed, {told[1]} skipped" in done.stdout
    assert done.stdout.index(told[0]) < done.stdout.index(f"lab at {host.api_url}")
    eventually(lambda: not traces(host), "no trace of the guest")


@pytest.mark.own_control_plane
def test_no_control_plane_is_started_when_another_cluster_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lab, "refuses_own", "--cluster=kind")
    with pytest.raises(LabError, match=r"--cluster=kind: .*own_control_plane"):
        Lab.start()


def test_every_test_that_starts_one_says_so() -> None:
    silent = [
        f"{file.relative_to(ROOT)}:{function.lineno} {function.name}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for tree in [ast.parse(file.read_text())]
        if "own_control_plane" not in _module_marks(tree)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and _is_asked_by_pytest(function) and _starts_one(function)
        if "own_control_plane" not in _said(function)
    ]
    assert silent == []


def _module_marks(tree: ast.Module) -> str:
    marks = (
        each for each in tree.body if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "pytestmark"
    )
    return " ".join(ast.unparse(each.value) for each in marks)


def _is_asked_by_pytest(function: ast.FunctionDef) -> bool:
    decorators = " ".join(map(ast.unparse, function.decorator_list))
    return function.name.startswith("test_") or "fixture" in decorators


def _starts_one(function: ast.FunctionDef) -> bool:
    calls = [each for each in ast.walk(function) if isinstance(each, ast.Call)]
    return any(
        ast.unparse(call.func) in STARTERS and "endpoint" not in {keyword.arg for keyword in call.keywords}
        for call in calls
    )


def _said(function: ast.FunctionDef) -> str:
    return " ".join([*map(ast.unparse, function.decorator_list), ast.unparse(function.args)])


def test_binaries_are_there_before_the_first_test(tmp_path: Path) -> None:
    """Also where no test asks for the run's own lab; else a build would run on a test's time."""
    go = stand_in(tmp_path / "bin", "go", 'test "$1" = env && echo go1.99.0 || { echo stand-in >&2; exit 9; }')
    (tmp_path / "none").mkdir()
    env = {name: value for name, value in os.environ.items() if name != FOLDER}
    env |= {"PATH": f"{go.parent}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "none")}
    module = "tests/security/test_checker.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", module]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "lab: building 1/" in done.stdout
    assert re.search(rf"go build .* failed.*:\n +go: {STAND_IN}", done.stdout + done.stderr)
    assert f"{module} " not in done.stdout  # no dot of a test


# ---- kind, by stand-ins: neither Docker nor kind is tried here, only what is asked of them


STAND_IN = "a stand-in, neither Docker nor kind"


def stand_in(folder: Path, name: str, script: str) -> Path:
    """Put an executable of that name into a folder. It writes down how it is called, and says what it is."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    notes = folder / f"{name}.notes"
    file.write_text(f"#!/bin/sh\necho '{name}: {STAND_IN}' >&2\necho \"$*\" >> {notes}\n{script}\n")
    file.chmod(0o755)
    return file


def notes(command: Path) -> list[str]:
    """How a stand-in was called."""
    file = command.with_name(f"{command.name}.notes")
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(("script", "hinted"), [("echo 27.0.0", True), ("exit 1", False), (None, False)])
def test_kind_is_hinted_at_where_docker_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, *, hinted: bool
) -> None:
    docker = stand_in(tmp_path, "docker" if script else "podman", script or "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path) if script is None else f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    hint_at_kind(said.append, ", but slowly")
    if script:
        assert notes(docker) == ["info --format {{.ServerVersion}}"]
    told = "hint: Docker answers here; --cluster=kind builds kubectl, kwok and Vault, but no control plane, but slowly"
    assert said == ([told] if hinted else [])


@pytest.fixture
def kind(host: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for kind, where pytest-kind would put the download; its cluster is the host, with a "real" node."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KIND_DOWNLOAD_URL", raising=False)
    folder = tmp_path / "voicekeys" / "kind"
    folder.mkdir(parents=True)
    binaries = tmp_path / "binaries"
    binaries.mkdir()
    for name, file in host.binaries.items():
        (binaries / name).symlink_to(file)
    monkeypatch.setenv(FOLDER, str(binaries))
    script = f"""
case "$1 $2" in
  "get clusters") cat {tmp_path}/clusters 2>/dev/null || true ;;
  "create cluster") cat {host.kubeconfig} > {folder}/kubeconfig; echo voicekeys > {tmp_path}/clusters ;;
  "delete cluster") rm {tmp_path}/clusters ;;
  *) exit 9 ;;
esac"""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "spec": {"nodeName": "real", "containers": [{"name": "c", "image": "c"}]},
    }
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "real"}}
    eventually(lambda: host.cluster.exists("/api/v1/namespaces/kube-system/serviceaccounts/default"), "an account")
    made = host.apply([node, pod])
    ready = {"type": "Ready", "status": "True"}
    host.api("PATCH", f"{host.cluster.path(made[1])}/status", {"status": {"phase": "Running", "conditions": [ready]}})
    yield stand_in(folder, f"kind-{KIND_VERSION}", script)
    host.api("DELETE", host.cluster.path(made[1]), {"gracePeriodSeconds": 0})
    host.api("DELETE", host.cluster.path(made[0]))


NAMED = "--name=voicekeys"


def test_kind_makes_a_cluster_of_the_pinned_image_cordons_its_node_and_removes_it(host: Lab, kind: Path) -> None:
    with kind_cluster() as config:
        assert config.read_text() == host.kubeconfig.read_text()
        assert host.api("GET", "/api/v1/nodes/real")["spec"]["unschedulable"] is True
        own = f"--kubeconfig={config}"
        assert notes(kind) == ["get clusters", f"create cluster {NAMED} {own} --image={NODE_IMAGE}"]
    assert notes(kind)[2:] == [f"delete cluster {NAMED} {own}"]
    assert not list(Path.cwd().glob(".pytest-kind"))


def test_kind_s_kept_cluster_is_taken_again(kind: Path) -> None:
    with kind_cluster(keep=True):
        pass
    with kind_cluster(keep=True):
        pass
    assert [note.split()[0] for note in notes(kind)] == ["get", "create", "get"]


def test_a_lab_on_kind_is_a_guest_with_simulated_nodes(host: Lab, kind: Path) -> None:
    with open_lab("kind", nodes=1, say=lambda _line: None) as guest:
        assert guest.api_url == host.api_url
        names = guest.kubectl("get", "nodes", "-l", ",".join(f"{k}={v}" for k, v in FAKE_NODE.items()), "-o", "name")
        assert len(names.split()) == 1
    assert notes(kind)[-1].startswith("delete cluster")
    eventually(lambda: traces(host) == {"node/real"}, "no trace of the guest")


def test_kind_is_downloaded_for_this_machine_in_its_pinned_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address alone: it is one of this machine where nobody listens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tests.lab.clusters.KIND_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KIND_DOWNLOAD_URL", "so that it is put back")
    monkeypatch.delenv("KIND_DOWNLOAD_URL")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    with pytest.raises(OSError, match=f"/{KIND_VERSION}/kind-linux-{machine}"), kind_cluster():
        pass


def test_a_kind_that_fails_leaves_nothing(kind: Path) -> None:
    kind.write_text(kind.read_text().replace('"create cluster") ', '"create cluster") exit 3 ;;\n  "x") '))
    with pytest.raises(subprocess.CalledProcessError), kind_cluster():
        pass
    assert [note.split()[0] for note in notes(kind)] == ["get", "create", "delete"]
