"""A lab with real nodes, and what may happen to a node.

::

    with RealNodes.start(count=2) as nodes:
        nodes.lab.kubectl("get", "nodes")
        nodes.cut("worker-1")
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab.binaries import find_binaries
from tests.lab.lab import Lab
from tests.lab.nodes import cgroups, images
from tests.lab.nodes.network import Network, lock_of
from tests.lab.nodes.node import Node, ready, user_of
from tests.lab.nodes.requirements import BINARIES, missing
from tests.lab.nodes.settings import GRACE_SECONDS
from tests.lab.processes import LabError, Processes, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from tests.lab.build import Say

APISERVER = (
    # Pods reach the API server by the Service `kubernetes`, which this writes the endpoints of.
    "--endpoint-reconciler-type=lease",
    # Else `kubectl logs` and `exec` look the nodes' names up.
    "--kubelet-preferred-address-types=InternalIP",
    "--enable-admission-plugins=NodeRestriction",
)
NUMBER = "number"
FOLDERS = "voicekeys-nodes-"
CONTROLLER_MANAGER = (
    f"--node-monitor-grace-period={GRACE_SECONDS}s",
    "--node-monitor-period=1s",
    # An autoscaler looks each 15 s otherwise, which is longer than a rollout takes.
    "--horizontal-pod-autoscaler-sync-period=1s",
)


class RealNodes:
    """A running `lab` and its real `nodes` by name; made by `start`, ended by `close` or a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        self.processes = Processes(folder, remove=True)
        self.network = Network(self.processes)
        (folder / NUMBER).write_text(str(self.network.number))
        self.nodes: dict[str, Node] = {}
        self.binaries: Mapping[str, Path] = {}
        self.lab: Lab
        self._janitor = start_janitor(self.network.number)

    @classmethod
    def start(cls, count: int = 2, *, say: Say = print, kubelet: Mapping[str, Any] | None = None, **lab: Any) -> Self:
        """Start a lab and its nodes, and return when all are ready.

        `kubelet` overrides fields of the kubelets' configuration; `lab` are options of `Lab.start`. Raises LabError
        with the log of what failed, and where this machine lacks something, with what to install.
        """
        if lack := missing():
            raise LabError(lack)
        sweep()
        binaries = find_binaries(BINARIES, say)
        nodes = cls(Path(tempfile.mkdtemp(prefix=FOLDERS)))
        try:
            nodes.binaries = binaries
            nodes.network.start()
            nodes._start_lab(count, say, lab)
            nodes._start_nodes(count, kubelet or {})
        except BaseException:
            nodes.close()
            raise
        return nodes

    def _start_lab(self, count: int, say: Say, options: dict[str, Any]) -> None:
        users = {user_of(number): ["system:nodes"] for number in range(1, count + 1)} | {"system:kube-proxy": []}
        own = {
            "nodes": 0,
            **options,
            "address": self.network.address,
            "users": users | options.get("users", {}),
            "apiserver_flags": [*APISERVER, *options.get("apiserver_flags", ())],
            "controller_manager_flags": [*CONTROLLER_MANAGER, *options.get("controller_manager_flags", ())],
        }
        self.lab = Lab.start(say=say, **own)

    def _start_nodes(self, count: int, kubelet: Mapping[str, Any]) -> None:
        pause = images.pause(self.binaries["pause"], self.dir)

        def start(node: Node) -> None:
            node.boot(self.binaries)
            node.load(pause)
            node.start_kubelet(**kubelet)
            node.start_proxy()

        endpoint = self.lab.cluster.endpoint
        made = [Node(number, self.dir, self.processes, self.network, endpoint) for number in range(1, count + 1)]
        self.nodes = {node.name: node for node in made}
        with ThreadPoolExecutor() as pool:
            list(pool.map(start, made))
        for node in made:
            self.await_ready(node.name)

    # ---- images

    def load(self, *archives: Path) -> None:
        """Import image archives into every node, so that pods need no registry."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: [node.load(each) for each in archives], self.nodes.values()))

    # ---- what happens to nodes

    def cut(self, name: str) -> None:
        """Cut a node off: it runs on, and nothing reaches it or comes from it. `mend` ends that."""
        self.network.switch_port(name, "down")

    def mend(self, name: str) -> None:
        """Connect a node again that was cut off."""
        self.network.switch_port(name, "up")

    def kill(self, name: str) -> None:
        """Cut a node's power: all its processes and containers end at once. `boot` turns it on again."""
        self.nodes[name].kill()

    def boot(self, name: str, **kubelet: Any) -> None:
        """Turn a node on again after `kill`; its disk is as it was."""
        node = self.nodes[name]
        node.boot(self.binaries)
        node.start_kubelet(**kubelet)
        node.start_proxy()

    def restart_kubelet(self, name: str, **kubelet: Any) -> None:
        """Kill a node's kubelet and start it again, as an upgrade does; containers run on."""
        self.nodes[name].stop_kubelet()
        self.nodes[name].start_kubelet(**kubelet)

    def cordon(self, name: str) -> None:
        """Let no new pod come to a node."""
        self.lab.kubectl("cordon", name)

    def uncordon(self, name: str) -> None:
        """Let pods come to a node again."""
        self.lab.kubectl("uncordon", name)

    def drain(self, name: str, *arguments: str) -> str:
        """Drain a node by `kubectl drain`, which waits until its pods have ended; return what it says."""
        return self.lab.kubectl("drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--force", *arguments)

    # ---- what is seen of them

    def is_ready(self, name: str) -> bool:
        """Tell whether the cluster holds a node for ready."""
        path = f"/api/v1/nodes/{name}"
        return self.lab.cluster.exists(path) and ready(self.lab.api("GET", path))

    def await_ready(self, name: str, *, state: bool = True, seconds: float = 90) -> None:
        """Wait until a node is ready, or with `state=False` until it is not."""
        what = f"{name} {'ready' if state else 'not ready'}"
        try:
            eventually(lambda: self.is_ready(name) is state, what, seconds, pause=0.1)
        except LabError as error:
            tail = self.processes.tail(f"{name}-kubelet")
            raise LabError(f"{error}. Its kubelet's log ends:\n{tail}") from error

    # ---- its end

    def close(self) -> None:
        """End everything; nothing of it stays on this machine."""
        with contextlib.suppress(LabError):
            for name in self.nodes:
                self.nodes[name].kill()
        if hasattr(self, "lab"):
            self.lab.close()
        self.processes.close()
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        self._janitor.wait()
        self.network.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_janitor(number: int) -> subprocess.Popen[bytes]:
    """Start the process that removes a lab's control groups when this process has ended, however it ends."""
    argv: Sequence[str | Path] = [sys.executable, "-I", cgroups.__file__, str(number)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)


def sweep() -> None:
    """Remove what labs left whose every process was killed at once, the supervisor and the janitor too."""
    folders: dict[int, list[Path]] = {number: [] for number in cgroups.labs()}
    for file in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*/{NUMBER}"):
        if (text := file.read_text()).isdigit():
            folders.setdefault(int(text), []).append(file.parent)
    for number, left in folders.items():
        # A lab that is alive holds the lock.
        if lock := lock_of(number):
            cgroups.remove(number, patience=2)
            for folder in left:
                shutil.rmtree(folder, ignore_errors=True)
            lock.close()
