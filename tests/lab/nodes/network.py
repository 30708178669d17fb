"""The network of one lab's real nodes: a switch in a namespace of its own, and one cable from it to this machine.

::

    this machine ── vk7 (10.107.255.1) ══ uplink ─┐
                                                  │ bridge, in the namespace of the process `switch`
    worker-1 ── eth0 (10.107.255.11) ══ worker-1 ─┤
    worker-2 ── eth0 (10.107.255.12) ══ worker-2 ─┘

API server and Vault listen on this machine's end. The pods of worker-1 are 10.107.1.0/24. There is no way out: no
default route and no translation of addresses. Interfaces and routes go with the namespaces, and those with the
processes that hold them: nothing has to be cleaned up.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.processes import LabError, eventually

if TYPE_CHECKING:
    from tests.lab.processes import Processes

SWITCH = "switch"
SERVICES = "10.0.0.0/16"
NUMBERS = range(1, 120)
MOST_NODES = 9


class Network:
    """One lab's network, told from other labs' by `number`: `start` makes it, `connect` adds a node."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._lock, self.number = claim()
        self.cable = f"vk{self.number}"
        self._prefix = f"10.{100 + self.number}"
        self.address = f"{self._prefix}.255.1"
        self._switch = 0

    def start(self) -> None:
        """Start the switch and plug this machine in."""
        argv: list[str | Path] = [tool("unshare"), "--net", "--", tool("sleep"), "infinity"]
        self._switch = self._processes.start(SWITCH, argv)
        eventually(lambda: in_own_namespace(self._switch), "the switch's namespace", pause=0.01)
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "uplink", "netns", str(self._switch))
        inside(self._switch, "ip", "link", "add", "bridge", "type", "bridge")
        for name in ("bridge", "uplink"):
            inside(self._switch, "ip", "link", "set", name, "up")
        inside(self._switch, "ip", "link", "set", "uplink", "master", "bridge")
        run("ip", "address", "add", f"{self.address}/24", "dev", self.cable)
        run("ip", "link", "set", self.cable, "up")
        for number in range(1, MOST_NODES + 1):
            run("ip", "route", "add", self.pods_of(number), "via", self.address_of(number), "dev", self.cable)

    def connect(self, name: str, number: int, pid: int) -> None:
        """Plug a node's namespace (of process `pid`) in, and give it its address and routes."""
        peer = ["peer", "name", "eth0", "netns", str(pid)]
        if f" {name}@" in _links(self._switch):
            # Of the node before its power was cut: the kernel takes its namespace away when it gets to it.
            inside(self._switch, "ip", "link", "delete", name)
        inside(self._switch, "ip", "link", "add", name, "type", "veth", *peer)
        inside(self._switch, "ip", "link", "set", name, "master", "bridge", "up")
        inside(pid, "ip", "address", "add", f"{self.address_of(number)}/24", "dev", "eth0")
        inside(pid, "ip", "link", "set", "eth0", "up")
        # A packet to a Service needs a route before its destination is rewritten.
        inside(pid, "ip", "route", "add", SERVICES, "via", self.address)
        for other in range(1, MOST_NODES + 1):
            if other != number:
                inside(pid, "ip", "route", "add", self.pods_of(other), "via", self.address_of(other))

    def switch_port(self, name: str, state: str) -> None:
        """Turn a node's port of the switch `up` or `down`."""
        inside(self._switch, "ip", "link", "set", name, state)

    def address_of(self, number: int) -> str:
        """Return a node's address."""
        return f"{self._prefix}.255.{10 + number}"

    def pods_of(self, number: int) -> str:
        """Return the subnet of a node's pods."""
        return f"{self._prefix}.{number}.0/24"

    def release(self) -> None:
        """Give the number back, once the processes have ended."""
        self._lock.close()


def claim() -> tuple[socket.socket, int]:
    """Return a number that no other lab of this machine has and whose addresses are free, and the lock on it."""
    taken = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    for number in random.sample(NUMBERS, len(NUMBERS)):
        lock = lock_of(number)
        if lock and f"10.{100 + number}." not in taken:
            return lock, number
        if lock:
            lock.close()
    raise LabError("no subnet of 10.101.0.0 to 10.219.0.0 is free for real nodes")


def lock_of(number: int) -> socket.socket | None:
    """Take the lock on a network's number, which its holder's end gives back; None when another lab holds it."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0voicekeys-lab-nodes-{number}")
    except OSError:
        lock.close()
        return None
    return lock


def _links(pid: int) -> str:
    """The links of a process's network namespace."""
    argv = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", "-o", "link"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def tool(name: str) -> Path | str:
    """Return a command's path: the lab's processes need not have the same PATH."""
    return shutil.which(name) or name


def in_own_namespace(pid: int) -> bool:
    """Tell whether a process has its own network namespace by now."""
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def run(*argv: str) -> None:
    """Run a command; raises LabError with its words when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")


def inside(pid: int, *argv: str) -> None:
    """Run a command in a process's network namespace; not by `ip netns exec`, which hides the cgroups."""
    run("nsenter", f"--net=/proc/{pid}/ns/net", "--", *argv)
