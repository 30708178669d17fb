"""A lab as the guest of another cluster, and the question that is asked first; the other cluster is a lab as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kubernetes.config import kube_config

from tests.lab import Lab, LabError
from tests.lab.clusters import borrowed, describe
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
A_TEST = "tests/lab/test_vault.py::test_versions_count_up"


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
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
