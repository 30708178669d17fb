"""However the demo ends, it leaves no process and no file, and a borrowed cluster as it was."""

from __future__ import annotations

import signal

import pytest

from tests.docs.running import Demo
from tests.lab import Lab
from tests.lab.processes import eventually

OPERATOR_RUNS = "runs here, as ServiceAccount"
EXAMPLES_APPLIED = "kubectl apply -k deploy/examples/"

# The demo brings a lab of its own.
pytestmark = pytest.mark.own_control_plane


def test_a_kill_in_the_middle_leaves_no_process() -> None:
    with Demo("--exit") as demo:
        demo.until(OPERATOR_RUNS)
        assert any("kube-apiserver" in each for each in demo.left())
        assert demo.end(signal.SIGKILL) == -signal.SIGKILL
        demo.wait_for_nothing()


def test_it_ends_when_what_started_it_is_killed() -> None:
    with Demo("--exit", shell=True) as demo:
        demo.until(OPERATOR_RUNS)
        demo.process.kill()
        demo.until("the process that started the demo is gone", seconds=15)
        demo.wait_for_nothing()


def test_sigterm_ends_it_and_a_borrowed_cluster_is_as_before() -> None:
    with Lab.start(nodes=0, say=lambda _line: None) as host:
        before = everything(host)
        with Demo("--exit", "--cluster=current", "--yes", env={"KUBECONFIG": str(host.kubeconfig)}) as demo:
            demo.until(EXAMPLES_APPLIED)
            assert everything(host) != before
            assert demo.end(signal.SIGTERM) == 128 + signal.SIGTERM, demo.said
            demo.wait_for_nothing()
        # The lab's own namespace goes in the background.
        eventually(lambda: everything(host) == before, "the cluster as before")


def test_a_borrowed_cluster_with_a_namespace_of_that_name_is_not_touched() -> None:
    with Lab.start(nodes=0, scheduler=False, say=lambda _line: None) as host:
        host.make_namespace("voicekeys-system")
        with Demo("--exit", "--cluster=current", "--yes", env={"KUBECONFIG": str(host.kubeconfig)}) as demo:
            assert demo.end() == 1
            assert "this cluster has Namespace voicekeys-system already" in demo.said
        assert "voicekeys" not in host.kubectl("get", "crds,clusterroles", "-o", "name")
        host.kubectl("get", "namespace", "voicekeys-system")


def everything(host: Lab) -> set[str]:
    """Names of what the demo could leave in a cluster; Vault's reviewer is the lab's own, of both labs."""
    kinds = "namespaces,crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,priorityclasses,nodes"
    listed = host.kubectl("get", kinds, "-o", "name").split()
    return {each for each in listed if "voicekeys-lab-vault" not in each}
