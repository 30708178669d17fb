"""A lab starts, is what it says, stands beside another one, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, LabError
from tests.lab.http import ApiError
from tests.lab.processes import Ports, Processes, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EVERYTHING = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "vault"}


def processes_of(folder: Path) -> dict[int, str]:
    """Return id and name of every process of a lab, also of grandchildren: each has the lab's folder as its HOME."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                name = (entry / "cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
            except (OSError, IndexError):
                continue
            if f"HOME={folder}".encode() in environment.split(b"\0") and state != "Z":
                found[int(entry.name)] = name
    return found


class OtherProcess:
    """A Python process that starts a lab and then waits to be killed."""

    def __init__(self) -> None:
        code = (
            "from tests.lab import Lab; lab = Lab.start(nodes=1, say=lambda line: None);"
            "print(lab.dir, lab.processes._supervisor.pid, flush=True); import time; time.sleep(600)"
        )
        self._process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        folder, supervisor = self._process.stdout.readline().split()
        self.folder, self.supervisor = Path(folder), int(supervisor)

    def kill(self) -> None:
        """Kill it as the kernel's OOM killer would."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def other(own_control_plane: None) -> Iterator[OtherProcess]:  # noqa: ARG001
    """Start a process with a lab of its own; kill it, and what it would have left, after the test."""
    process = OtherProcess()
    yield process
    process.kill()
    for pid in processes_of(process.folder):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.own_control_plane
def test_all_of_it_is_real_and_runs(lab: Lab) -> None:
    assert EVERYTHING.issubset(processes_of(lab.dir).values())
    assert lab.api("GET", "/version")["gitVersion"].startswith("v1.36.")
    assert lab.vault("GET", "sys/health")["version"].startswith("1.")
    assert "Ready" in lab.kubectl("get", "nodes")


def test_admission_policies_are_served(lab: Lab) -> None:
    served = {each["kind"] for each in lab.api("GET", "/apis/admissionregistration.k8s.io/v1")["resources"]}
    assert {"ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"} <= served


def test_rbac_decides_what_a_service_account_may_do(lab: Lab, namespace: str) -> None:
    config = lab.kubeconfig_for(f"{namespace}/somebody")
    with pytest.raises(LabError, match=f"system:serviceaccount:{namespace}:somebody.*cannot list"):
        lab.kubectl(f"--kubeconfig={config}", "get", "secrets", "-n", namespace)
    with pytest.raises(LabError, match='User "mallory" cannot list'):
        lab.kubectl("get", "secrets", as_user="mallory")
    with pytest.raises(ApiError, match="cannot list") as caught:
        lab.api("GET", "/api/v1/secrets", as_user="mallory")
    assert caught.value.status == 403


def test_apply_takes_yaml_dicts_and_lists_and_waits_for_crds(lab: Lab, namespace: str) -> None:
    crd = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.lab.example.com}
spec:
  group: lab.example.com
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: lab.example.com/v1
kind: Thing
metadata: {name: one, namespace: default}
"""
    assert [each["kind"] for each in lab.apply(crd)] == ["CustomResourceDefinition", "Thing"]
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}}
    assert lab.apply([config_map, config_map | {"data": {"x": "y"}}])[1]["data"] == {"x": "y"}
    assert lab.cluster.exists(lab.cluster.path(config_map))
    lab.kubectl("delete", "crd", "things.lab.example.com")


def test_kubectl_reads_stdin_and_its_errors_are_told(lab: Lab, namespace: str) -> None:
    manifest = f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: b, namespace: {namespace}}}}}"
    assert lab.kubectl("apply", "-f", "-", stdin=manifest) == "configmap/b created\n"
    with pytest.raises(LabError, match=r"kubectl get nothing: .*the server doesn't have a resource type"):
        lab.kubectl("get", "nothing")


@pytest.mark.own_control_plane
def test_two_labs_stand_side_by_side(lab: Lab) -> None:
    with Lab.start(nodes=0, users={"alice": ["devs"]}, say=lambda _line: None) as second:
        assert second.dir != lab.dir
        assert (second.api_url, second.vault_addr) != (lab.api_url, lab.vault_addr)
        second.put_key("both/k", api_key="second")
        second.make_namespace("only-in-the-second")
        assert not lab.cluster.exists("/api/v1/namespaces/only-in-the-second")
        with pytest.raises(ApiError, match="404"):
            lab.vault("GET", "secret/data/both/k")
        whoami = second.kubectl(f"--kubeconfig={second.kubeconfig_for('alice')}", "auth", "whoami")
        assert "alice" in whoami
        assert "devs" in whoami
        folder = second.dir
    assert not folder.exists()
    assert processes_of(folder) == {}
    assert lab.kubectl("get", "nodes")


def test_killed_it_leaves_neither_process_nor_folder(other: OtherProcess) -> None:
    running = processes_of(other.folder)
    assert EVERYTHING.issubset(running.values())
    assert len(running) > len(EVERYTHING)  # Vault's plugin
    other.kill()
    eventually(lambda: not processes_of(other.folder), "all processes gone", seconds=10)
    eventually(lambda: not other.folder.exists(), "folder gone", seconds=10)


def test_with_the_supervisor_killed_as_well_no_process_stays(other: OtherProcess) -> None:
    os.kill(other.supervisor, signal.SIGKILL)
    other.kill()
    eventually(lambda: not processes_of(other.folder), "all processes gone", seconds=20)
    subprocess.run(["rm", "-r", other.folder], check=True)


@pytest.mark.own_control_plane
def test_a_part_that_fails_to_start_is_named_with_its_own_words() -> None:
    with pytest.raises(LabError, match=r"(?s)kube-apiserver ended with code 1 before ready.*unknown flag: --no-such"):
        Lab.start(nodes=0, apiserver_flags=["--no-such"], say=lambda _line: None)


def test_a_part_that_ends_by_itself_is_noticed(lab: Lab) -> None:
    lab.processes.check()
    lab.processes.start("short", ["/bin/sh", "-c", "echo out of memory; exit 9"])
    eventually(lambda: lab.processes.code("short") is not None, "ended")
    with pytest.raises(LabError, match=r"(?s)short ended with code 9.*out of memory"):
        lab.processes.check()
    lab.processes.stop("short")
    lab.processes.check()


@pytest.mark.own_control_plane
def test_without_controllers_it_starts_lean() -> None:
    start = time.monotonic()
    with Lab.start(nodes=0, controller_manager=False, scheduler=False, say=lambda _line: None) as lean:
        assert time.monotonic() - start < 15
        assert not {"kube-controller-manager", "kube-scheduler", "kwok"} & set(processes_of(lean.dir).values())
        lean.make_namespace("bench")
        lean.put_key("bench/k", api_key="a")
        assert lean.login("bench")


# ---- the processes' own ways, with small commands


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start a supervisor without a lab."""
    started = Processes(tmp_path, remove=False)
    yield started
    started.close()


def shell(processes: Processes, name: str, script: str) -> int:
    """Start a shell script as a process."""
    return processes.start(name, ["/bin/sh", "-c", script])


def test_a_process_that_ends_early_is_reported_with_its_log(processes: Processes) -> None:
    shell(processes, "p", "echo to stdout; echo to stderr >&2; exit 3")
    with pytest.raises(LabError, match=r"(?s)p ended with code 3 before ready.*to stdout.*to stderr"):
        processes.wait("p", lambda: False, "ready", seconds=5)


def test_a_process_that_never_gets_ready_is_reported_after_the_time(processes: Processes) -> None:
    shell(processes, "p", "sleep 60")
    with pytest.raises(LabError, match=r"p: not ready after 0.2 s"):
        processes.wait("p", lambda: False, "ready", seconds=0.2)


def test_stop_asks_first_and_kills_what_does_not_listen(processes: Processes) -> None:
    shell(processes, "polite", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    shell(processes, "deaf", "trap '' TERM; while :; do sleep 0.05; done")
    time.sleep(0.3)
    assert processes.stop("polite") == 7
    assert processes.stop("deaf", seconds=0.3) == -signal.SIGKILL


def test_a_frozen_process_can_be_stopped(processes: Processes) -> None:
    shell(processes, "p", "exec sleep 60")
    processes.signal("p", "STOP")
    assert processes.stop("p") == -signal.SIGTERM


def test_a_name_is_free_again_after_its_end(processes: Processes) -> None:
    first = shell(processes, "p", "sleep 60")
    with pytest.raises(LabError, match="p runs already"):
        shell(processes, "p", "sleep 60")
    processes.kill("p")
    assert shell(processes, "p", "sleep 60") != first


def test_a_missing_binary_is_an_error_of_start(processes: Processes) -> None:
    with pytest.raises(LabError, match="cannot start p: FileNotFoundError"):
        processes.start("p", ["/no/such/binary"])


def test_children_do_not_inherit_the_environment(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "of-the-user")
    shell(processes, "p", "env")
    eventually(lambda: processes.code("p") == 0, "ended")
    assert "VAULT" not in processes.logs("p")


def test_close_ends_what_a_child_left_behind(tmp_path: Path) -> None:
    started = Processes(tmp_path, remove=False)
    shell(started, "p", "setsid sleep 61 & echo $!")
    eventually(lambda: started.logs("p").strip() and started.code("p") == 0, "ended")
    orphan = int(started.logs("p"))
    started.close()
    assert not Path(f"/proc/{orphan}").exists()


def test_ports_are_never_given_twice() -> None:
    first, second = Ports(), Ports()
    taken = [ports.take() for ports in (first, second) for _ in range(200)]
    assert len(set(taken)) == 400
    first.close()
    second.close()
