"""The operator as a process, and what `/proc` says about it and about everything around it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import urllib3

from voicekeys.policies.notify import SIGNATURE_HEADER, sign

if TYPE_CHECKING:
    from tests.lab import Lab

TICK = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[2]
SYSTEM_NAMESPACE = "voicekeys-system"
PROCESS = "operator"


class Stat(NamedTuple):
    """One line of `/proc/PID/stat`."""

    name: str
    parent: int
    cpu: float  # seconds, of the process itself


def stat_of(pid: int) -> Stat | None:
    """Read a process's state; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Stat(head.partition("(")[2], int(fields[1]), (int(fields[11]) + int(fields[12])) / TICK)


def memory(pid: int) -> dict[str, float]:
    """`VmRSS` and `VmHWM` (its peak) of a process, MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(kib) / 1024 for name, kib in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE)}


def cpu_by_name() -> dict[str, float]:
    """CPU seconds used so far by this process and all below it, by name; `elsewhere` is the rest of the machine."""
    stats = {
        int(entry.name): stat
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        if (stat := stat_of(int(entry.name)))
    }
    ours = {os.getpid()}
    while found := {pid for pid, stat in stats.items() if stat.parent in ours} - ours:
        ours |= found
    used: dict[str, float] = {}
    for pid in ours & stats.keys():
        name = "benchmark" if pid == os.getpid() else stats[pid].name
        used[name] = used.get(name, 0.0) + stats[pid].cpu
    first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    busy = (sum(map(int, first[1:9])) - int(first[4]) - int(first[5])) / TICK
    used["elsewhere"] = busy - sum(used.values())
    return used


def spent_since(before: dict[str, float]) -> dict[str, float]:
    """CPU seconds by name since an earlier `cpu_by_name`, dearest first; what is next to nothing is left out."""
    spent = {name: value - before.get(name, 0.0) for name, value in cpu_by_name().items()}
    return {name: value for name, value in sorted(spent.items(), key=lambda one: -one[1]) if abs(value) > 0.05}


class Operator:
    """Starts and stops the operator in a lab, asks it by its own HTTP port.

    Args:
        lab: where it runs; the lab's end is its end.
        user: of the lab's token file, as whom it runs.
        python: the interpreter; another one may have only what the operator needs, as its image has.
        profile: a file for cProfile's statistics (a profiled run is twice as slow), or None.
    """

    def __init__(self, lab: Lab, user: str, python: str = sys.executable, profile: Path | None = None) -> None:
        self._lab = lab
        self._user = user
        self._python = python
        self._profile = profile
        self._starts = 0
        self._http = urllib3.PoolManager(timeout=30, retries=False)
        self.port = lab.ports.take()
        self.notify_key = secrets.token_hex(16).encode()
        self.pid = 0
        self.started = 0.0
        """Wall time of the last start."""

    def compile(self) -> None:
        """Compile all that it imports, as its image has it: compiling takes a second and megabytes at each start."""
        env = self._env() | {"PATH": os.environ.get("PATH", "")}
        subprocess.run([self._python, "-c", "import voicekeys.__main__"], env=env, check=True)

    def start(self) -> None:
        """Start it; returns at once."""
        self._starts += 1
        profiler = ["-m", "cProfile", "-o", f"{self._profile}.{self._starts}"] if self._profile else []
        self.started = time.time()
        argv = [self._python, *profiler, "-m", "voicekeys"]
        self.pid = self._lab.processes.start(PROCESS, argv, env=self._env())

    def _env(self) -> dict[str, str]:
        env = {
            "PYTHONPATH": str(ROOT / "operator"),
            "PYTHONPYCACHEPREFIX": str(self._lab.dir / "bytecode"),
            "VOICEKEYS_KUBECONFIG": str(self._lab.kubeconfig_for(self._user)),
            "VOICEKEYS_POD_NAMESPACE": SYSTEM_NAMESPACE,
            "VOICEKEYS_HTTP_HOST": "127.0.0.1",
            "VOICEKEYS_HTTP_PORT": str(self.port),
        }
        return env | {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}

    def stop(self) -> None:
        """End it as a kubelet would, and check that it ended well."""
        code = self._lab.processes.stop(PROCESS, 30)
        if code:
            raise RuntimeError(f"the operator ended with code {code}:\n{self._lab.processes.tail(PROCESS)}")

    def cpu(self) -> float:
        """CPU seconds since its start."""
        stat = stat_of(self.pid)
        if stat is None or self._lab.processes.code(PROCESS) is not None:
            raise RuntimeError(f"the operator has ended:\n{self._lab.processes.tail(PROCESS)}")
        return stat.cpu

    def notify(self, store: str, path: str) -> None:
        """Tell it that a key has changed, as a pipeline does."""
        body = b'{"store":"%s","path":"%s"}' % (store.encode(), path.encode())
        header = {SIGNATURE_HEADER: sign(self.notify_key, int(time.time()), body)}
        answer = self._http.request("POST", f"http://127.0.0.1:{self.port}/notify", body=body, headers=header)
        if answer.status != 202:
            raise RuntimeError(f"notify was answered with {answer.status}: {answer.data.decode()}")

    def counters(self) -> dict[str, float]:
        """Scrape it, as Prometheus does; by series."""
        text = self._http.request("GET", f"http://127.0.0.1:{self.port}/metrics").data.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}
