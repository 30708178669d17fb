"""Real nodes as machines: what runs on them, what may happen to them, and that nothing of them is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.nodes import RealNodes, cgroups
from tests.lab.nodes.realnodes import sweep
from tests.lab.processes import LabError, eventually
from tests.lab.supervisor import children_of
from tests.nodes.footprint import changed, footprint, sysctls
from tests.nodes.pods import DRAIN, probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nodes.stage import Stage

ROOT = Path(__file__).parents[2]
LAB = """
import sys, time
from tests.lab.nodes import RealNodes
nodes = RealNodes.start(count=1)
nodes.lab.make_namespace("left")
container = {"name": "c", "image": "voicekeys.lab/pause:1", "imagePullPolicy": "Never"}
spec = {"containers": [container], "volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}]}
nodes.lab.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "left"}, "spec": spec})
nodes.lab.kubectl("-n", "left", "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
print("RUNNING", nodes.network.number, nodes.dir, nodes.lab.dir, flush=True)
time.sleep(600)
"""


def of_lab(number: int, *folders: str) -> list[str]:
    """What is there of one lab: processes, control groups, interfaces, routes, folders."""
    processes = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(folder in command for folder in folders):
            processes.append(command)
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    network = [line for line in routes.splitlines() if f"10.{100 + number}." in line]
    groups = [str(each) for each in cgroups.tops(f"{cgroups.PREFIX}{number}")]
    return [*processes, *network, *groups, *(each for each in folders if Path(each).exists())]


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Another lab with a real node beside this one, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", LAB], stdout=subprocess.PIPE, text=True, env=env) as process:
        yield process
        process.kill()


def test_a_killed_test_run_leaves_nothing(nodes: RealNodes, other: subprocess.Popen[str]) -> None:
    """Two labs stand side by side; one's test run is killed; the other goes on, and the machine is as before."""
    before, settings = footprint(), sysctls()
    assert other.stdout is not None
    line = next(line for line in other.stdout if line.startswith("RUNNING"))
    _, number, *folders = line.split()
    assert of_lab(int(number), *folders)

    other.send_signal(signal.SIGKILL)
    other.wait()

    eventually(lambda: not of_lab(int(number), *folders), "the killed lab to be gone", seconds=30)
    assert footprint() == before
    assert changed(settings) == {}
    assert nodes.is_ready("worker-1")
    assert nodes.is_ready("worker-2")


def test_what_a_lab_left_goes_at_the_next_start(other: subprocess.Popen[str]) -> None:
    """Killed are the test run, both supervisors and the janitor: the kernel ends the rest, the next start sweeps."""
    assert other.stdout is not None
    line = next(line for line in other.stdout if line.startswith("RUNNING"))
    _, number, folder, lab_folder = line.split()

    for pid in [*children_of(other.pid), other.pid]:
        os.kill(pid, signal.SIGKILL)
    other.wait()

    def running() -> list[str]:
        return [each for each in of_lab(int(number), folder, lab_folder) if " " in each]

    eventually(lambda: not running(), "the processes and routes of the killed lab to be gone", seconds=30)
    sweep()
    assert not of_lab(int(number), folder)
    shutil.rmtree(lab_folder)


def test_kubectl_reaches_into_pods(stage: Stage) -> None:
    stage.run("seen", stage.container())

    assert "started" in stage.kubectl("logs", "seen")
    assert stage.kubectl("exec", "seen", "--", "cat", "/agent.py").startswith('"""A stand-in')


def test_services_lead_to_pods_on_both_nodes(stage: Stage) -> None:
    """From a pod by its Service to another, on the same node and on the other one (kube-proxy)."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    stage.apply({**service, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 9909}]}})
    stage.run("web", stage.container(readinessProbe=probe("/ready")), node="worker-2")
    address = stage.lab.api("GET", f"/api/v1/namespaces/{stage.namespace}/services/web")["spec"]["clusterIP"]
    program = f"import urllib.request as r; print(r.urlopen('http://{address}/hello', timeout=5).status)"

    for node in ("worker-1", "worker-2"):
        stage.run(f"from-{node}", stage.container(), node=node)
        asked = lambda node=node: answered(stage, f"from-{node}", program)  # noqa: E731
        eventually(asked, f"an answer by the Service on {node}", 20)


def answered(stage: Stage, pod: str, program: str) -> bool:
    """Tell whether a program in a pod gets HTTP's 200."""
    try:
        return stage.kubectl("exec", pod, "--", "python3", "-c", program).strip() == "200"
    except LabError:
        return False


def test_a_node_that_is_cut_off_is_lost_and_comes_back(stage: Stage) -> None:
    """Its containers run on, unseen: what was told to the witness stops, what runs does not."""
    nodes = stage.nodes
    stage.run("far", stage.container(), node="worker-2")
    nodes.cut("worker-2")
    nodes.await_ready("worker-2", state=False)
    silent_since = stage.witness.last_sign("far")
    assert time.time() - silent_since > 5

    nodes.mend("worker-2")
    nodes.await_ready("worker-2")
    eventually(lambda: stage.witness.last_sign("far") > silent_since, "the container heard again", 10)
    assert len(stage.witness.events("far", "started")) == 1


def test_a_node_without_power_loses_its_containers_and_boots_again(stage: Stage) -> None:
    nodes = stage.nodes
    stage.run("short", stage.container(pre_stop=DRAIN), node="worker-2")
    nodes.kill("worker-2")
    nodes.await_ready("worker-2", state=False)
    assert not stage.witness.events("short", "sigterm"), "nobody tells a container that the power goes"

    nodes.boot("worker-2")
    nodes.await_ready("worker-2")
    stage.witness.wait("short", "started", count=2, seconds=60)


def test_a_drained_node_is_empty_when_its_calls_have_ended(stage: Stage) -> None:
    stage.run("leaving", stage.container({"hook": {"hold": 4}}, pre_stop=DRAIN), node="worker-2")
    begun = time.time()
    stage.nodes.drain("worker-2", "--pod-selector=app=leaving")
    ended = time.time()
    stage.nodes.uncordon("worker-2")

    assert stage.pod("leaving") is None
    assert ended - begun > 4
    assert stage.witness.wait("leaving", "sigterm").at < ended
