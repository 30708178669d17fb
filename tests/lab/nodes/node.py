"""One real node: its namespaces, and containerd, kubelet and kube-proxy in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tests.lab import kubeconfig
from tests.lab.nodes import cgroups, settings
from tests.lab.nodes.network import tool
from tests.lab.nodes.requirements import BINARIES, cni_folder
from tests.lab.processes import LabError
from tests.lab.supervisor import children_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.controlplane import Endpoint
    from tests.lab.nodes.network import Network
    from tests.lab.processes import Processes

INIT = Path(__file__).with_name("init.py")
SOCKET = "run/containerd/containerd.sock"
# What a process of a node gets beside the supervisor's own: the lab's folder is no place for its temporary files.
ENV = {"TMPDIR": "/var/tmp", "HOME": "/var/tmp"}


class Node:
    """A node named `worker-<number>`; its disk is the folder `<folder>/<name>/var`, which outlives a power cut."""

    def __init__(self, number: int, folder: Path, processes: Processes, network: Network, endpoint: Endpoint) -> None:
        self.number = number
        self.name = name_of(number)
        self.address = network.address_of(number)
        self.pid = 0
        self._disk = folder / self.name / "var"
        self._processes = processes
        self._network = network
        self._endpoint = endpoint

    # ---- on and off

    def boot(self, binaries: Mapping[str, Path]) -> None:
        """Turn the node on, as far as its containerd. Raises LabError with the log of what failed."""
        own = self._disk / "node"
        own.mkdir(parents=True, exist_ok=True)
        (own / "ready").unlink(missing_ok=True)
        namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--mount-proc", "--fork", "--kill-child"]
        program: list[str | Path] = [
            sys.executable,
            "-I",
            INIT,
            self.name,
            self._disk,
            *(binaries[name] for name in BINARIES),
        ]
        parent = self._processes.start(self.name, [tool("unshare"), *namespaces, "--", *program], env=os.environ)
        self._processes.wait(self.name, (own / "ready").exists, "furnished")
        (self.pid,) = children_of(parent)
        self._network.connect(self.name, self.number, self.pid)
        cni = cni_folder()
        assert cni is not None
        self._write("containerd.toml", settings.containerd(cni))
        self._write("cni/lab.conflist", settings.cni(self._network.pods_of(self.number)))
        self._start("containerd", "containerd", "--config", settings.FOLDER / "containerd.toml")
        self._processes.wait(self._process("containerd"), self._containerd_answers, "answering")

    def start_kubelet(self, **overrides: Any) -> None:
        """Start the kubelet, with `overrides` of fields of its KubeletConfiguration."""
        self._write("kubelet.yaml", settings.kubelet(cgroups.make(self._network.number, self.name), overrides))
        self._write("resolv.conf", "")
        self._start(
            "kubelet",
            settings.FOLDER / "bin" / "kubelet",
            f"--config={settings.FOLDER}/kubelet.yaml",
            f"--kubeconfig={self._kubeconfig('kubelet', user_of(self.number))}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
        )

    def stop_kubelet(self) -> None:
        """Kill the kubelet; containers run on."""
        self._processes.kill(self._process("kubelet"))

    def start_proxy(self) -> None:
        """Start kube-proxy."""
        self._start(
            "kube-proxy",
            settings.FOLDER / "bin" / "kube-proxy",
            f"--kubeconfig={self._kubeconfig('kube-proxy', 'system:kube-proxy')}",
            f"--hostname-override={self.name}",
            "--proxy-mode=iptables",
            # The machine's own limit on connections, which no namespace may raise.
            "--conntrack-max-per-core=0",
        )

    def kill(self) -> None:
        """Cut its power: every process of the node ends at once, every container too; its disk stays."""
        self._processes.kill(self.name)
        for name in ("containerd", "kubelet", "kube-proxy"):
            # Each is inside: it has ended too.
            self._processes.kill(self._process(name))
        # A machine that boots has none; a kubelet that finds some is busy with each for seconds.
        cgroups.remove(self._network.number, self.name)

    # ---- inside

    def run(self, *argv: str | Path, stdin: IO[bytes] | None = None, seconds: float = 120) -> str:
        """Run a command in the node, return its output; raises LabError with its words when it fails."""
        command = [*self._enter(), *map(str, argv)]
        env = {**os.environ, **ENV}
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=False, timeout=seconds, env=env)
        if done.returncode:
            words = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise LabError(f"{self.name}: {' '.join(map(str, argv))}: {words}")
        return done.stdout.decode(errors="replace")

    def load(self, archive: Path) -> None:
        """Import an image archive (OCI or Docker) into the node's containerd."""
        with archive.open("rb") as file:
            self.run("ctr", "-n", "k8s.io", "images", "import", "-", stdin=file)

    def logs(self, name: str) -> str:
        """Return the log of `containerd`, `kubelet` or `kube-proxy`."""
        return self._processes.logs(self._process(name))

    # ---- inner workings

    def _enter(self) -> list[str]:
        at = f"/proc/{self.pid}/ns"
        own = [
            f"--{kind}={at}/{file}" for kind, file in (("net", "net"), ("mount", "mnt"), ("pid", "pid"), ("uts", "uts"))
        ]
        return [str(tool("nsenter")), *own, f"--ipc={at}/ipc", "--"]

    def _process(self, name: str) -> str:
        return f"{self.name}-{name}"

    def _start(self, name: str, command: str | Path, *arguments: str | Path) -> None:
        self._processes.start(self._process(name), [*self._enter(), command, *arguments], env=ENV)

    def _containerd_answers(self) -> bool:
        return Path(f"/proc/{self.pid}/root", SOCKET).exists() and bool(self.run("ctr", "version"))

    def _write(self, name: str, text: str) -> None:
        file = self._disk / "node" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _kubeconfig(self, name: str, user: str) -> Path:
        endpoint = self._endpoint
        self._write("ca.crt", endpoint.ca_file.read_text())
        kubeconfig.write(
            self._disk / "node" / f"{name}.kubeconfig",
            api_url=endpoint.api_url,
            ca_file=settings.FOLDER / "ca.crt",
            token=endpoint.tokens[user],
        )
        return settings.FOLDER / f"{name}.kubeconfig"


def name_of(number: int) -> str:
    """Return a node's name."""
    return f"worker-{number}"


def user_of(number: int) -> str:
    """Return the user name under which a node's kubelet works."""
    return f"system:node:{name_of(number)}"


def ready(lab_node: Mapping[str, Any]) -> bool:
    """Tell whether a Node object is ready for pods: its condition, and no taint that is still to be taken off."""
    conditions = {each["type"]: each["status"] for each in lab_node.get("status", {}).get("conditions", [])}
    taints = [each["key"] for each in lab_node["spec"].get("taints", [])]
    return conditions.get("Ready") == "True" and not any(key.startswith("node.kubernetes.io/not-r") for key in taints)
