"""The process that owns every process of a lab, so that nothing outlives the lab: a program of its own.

Standard library only. It reads one JSON command a line on stdin and answers each with one JSON line on stdout. When
stdin ends, or the process that started it is gone (also by SIGKILL), it kills all that it started and removes the lab's
folder. Should it be killed itself, the kernel sends each child its parent-death signal.

Commands::

    {"do": "start", "name": …, "argv": […], "env": {…}, "log": FILE, "death": "KILL"} -> {"pid": 42}
    {"do": "signal", "name": …, "signal": "STOP"} -> {}
    {"do": "stop", "name": …, "seconds": 5.0} -> {"code": -15}
    {"do": "poll", "name": …} -> {"code": null}
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)


class Supervisor:
    """Starts, signals and stops processes by name; each is the leader of its own process group."""

    def __init__(self) -> None:
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, command: dict[str, Any]) -> dict[str, Any]:
        """Start a process with its output appended to a file; a name is free again once its process has ended."""
        name = command["name"]
        if name in self.children and self.children[name].poll() is None:
            return {"error": f"{name} runs already"}
        death = signal.Signals[f"SIG{command['death']}"]
        with Path(command["log"]).open("ab") as log:
            child = subprocess.Popen(
                command["argv"],
                env=command["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # This program has one thread, so the fork is safe and "the parent" of the signal is all of it.
                preexec_fn=lambda: die_with_parent(death),  # noqa: PLW1509
            )
        self.children[name] = child
        return {"pid": child.pid}

    def signal(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a signal to a process and its group."""
        send(self.children[command["name"]], signal.Signals[f"SIG{command['signal']}"])
        return {}

    def stop(self, command: dict[str, Any]) -> dict[str, Any]:
        """End a process: SIGTERM, and SIGKILL when it is still there after `seconds`."""
        child = self.children[command["name"]]
        send(child, signal.SIGCONT)
        send(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(command["seconds"])
        send(child, signal.SIGKILL)
        return {"code": child.wait()}

    def poll(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell a process's exit code, or null while it runs."""
        return {"code": self.children[command["name"]].poll()}

    def kill_all(self) -> None:
        """End every process at once, the last started first; the lab's data is thrown away, so none needs time."""
        for child in reversed(self.children.values()):
            send(child, signal.SIGKILL)
        for child in self.children.values():
            child.wait()
        # Processes that these started and left behind come to us, the subreaper, in whatever group they are.
        deadline = time.monotonic() + 2
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    for pid in children_of(os.getpid()):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    time.sleep(0.01)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel, in a child before its exec, to signal it when the thread that made it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, number)


def children_of(parent: int) -> list[int]:
    """Return the ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (command) state parent …", where the command may hold anything.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def send(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a child's whole group; also when the child itself has ended and left others behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def serve(supervisor: Supervisor, parent: int) -> None:
    """Answer commands until stdin ends or the parent is another one, which means that ours has died."""
    pending = b""
    while os.getppid() == parent:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            command = json.loads(line)
            try:
                answer = getattr(supervisor, command["do"])(command)
            except Exception as error:  # noqa: BLE001  whatever went wrong is the caller's to know
                answer = {"error": f"{type(error).__name__}: {error}"}
            os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    """Serve the parent whose id is argv[1]; remove the folder argv[2] at the end unless it is empty."""
    parent, folder = int(sys.argv[1]), sys.argv[2]
    # Ctrl-C is for the parent to handle; its end is what ends us. Not SIG_IGN, which children would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, lambda *_: None)
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = Supervisor()
    try:
        with contextlib.suppress(BrokenPipeError):
            serve(supervisor, parent)
    finally:
        supervisor.kill_all()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
