"""The lab's processes, its ports, and waiting for them: what every part of the lab stands on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SUPERVISOR = Path(__file__).with_name("supervisor.py")
# Below the range from which the kernel takes ports for outgoing connections (32768 and up by default).
PORTS = range(20000, 32000)
TAIL_LINES = 15
T = TypeVar("T")


class LabError(Exception):
    """A part of the lab did not do what it should; the message ends with the tail of that part's log."""


class Ports:
    """Free ports on loopback, each reserved against other labs of this machine until `close`."""

    def __init__(self) -> None:
        self._reserved: list[socket.socket] = []

    def take(self) -> int:
        """Return a port that nobody listens on and no other lab has taken."""
        while True:
            port = random.choice(PORTS)
            reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                # An abstract name is held by one process at a time and vanishes with it: a lock without a file.
                reservation.bind(f"\0voicekeys-lab-port-{port}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            except OSError:
                reservation.close()
                continue
            self._reserved.append(reservation)
            return port

    def close(self) -> None:
        """Give the ports back."""
        for reservation in self._reserved:
            reservation.close()


class Processes:
    """The processes of one lab, held by a supervisor that ends them all when this process ends, however it ends.

    `folder` gets one log file per process; with `remove` the supervisor deletes it at the end.
    """

    def __init__(self, folder: Path, *, remove: bool) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._expected: set[str] = set()
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", SUPERVISOR, str(os.getpid()), str(folder) if remove else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] = {}, death: str = "KILL") -> int:
        """Start a process and return its id. `env` is all it gets beside PATH and HOME.

        `death` is the signal that it gets from the kernel should even the supervisor be killed: TERM for a process that
        has to end children of its own.
        """
        # Their temporary files too (the socket of Vault's plugin) go when the folder goes.
        own = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        whole = own | dict(env)
        answer = self._ask(
            do="start", name=name, argv=[str(a) for a in argv], env=whole, log=str(self._log(name)), death=death
        )
        self._expected.add(name)
        return int(answer["pid"])

    def check(self) -> None:
        """Raise LabError when a process has ended that nobody stopped or killed."""
        for name in sorted(self._expected):
            if (code := self.code(name)) is not None:
                raise LabError(f"{name} ended with code {code}. Its log ends:\n{self.tail(name)}")

    def signal(self, name: str, signal: str) -> None:
        """Send a signal by its short name: `STOP`, `CONT`, `KILL`, `HUP`."""
        self._ask(do="signal", name=name, signal=signal)

    def stop(self, name: str, seconds: float = 5.0) -> int:
        """End a process (TERM, then KILL after `seconds`) and return its exit code."""
        self._expected.discard(name)
        return int(self._ask(do="stop", name=name, seconds=seconds)["code"])

    def kill(self, name: str) -> None:
        """Kill a process and its group, and wait until it has ended."""
        self._expected.discard(name)
        self.signal(name, "KILL")
        eventually(lambda: self.code(name) is not None, f"{name} killed", pause=0.02)

    def code(self, name: str) -> int | None:
        """Return a process's exit code, None while it runs."""
        code = self._ask(do="poll", name=name)["code"]
        return None if code is None else int(code)

    def logs(self, name: str) -> str:
        """Return all that a process has written to stdout and stderr."""
        log = self._log(name)
        return log.read_text(errors="replace") if log.exists() else ""

    def tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """Return the end of a process's log, for an error message."""
        return "\n".join(f"  {line[:400]}" for line in self.logs(name).splitlines()[-lines:])

    def wait(self, name: str, ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait until `ready()`; raise LabError when the process ends first or the time is up. Its OSErrors mean no."""
        for _ in every(0.05, seconds):
            with contextlib.suppress(OSError):
                if ready():
                    return
            if (code := self.code(name)) is not None:
                raise LabError(f"{name} ended with code {code} before {what}. Its log ends:\n{self.tail(name)}")
        raise LabError(f"{name}: not {what} after {seconds:g} s. Its log ends:\n{self.tail(name)}")

    def close(self) -> None:
        """End all processes and wait until they are gone."""
        if self._supervisor.stdin is not None:
            self._supervisor.stdin.close()
        self._supervisor.wait()
        if self._supervisor.stdout is not None:
            self._supervisor.stdout.close()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None  # noqa: PT018
        with self._lock:
            self._supervisor.stdin.write(json.dumps(command).encode() + b"\n")
            self._supervisor.stdin.flush()
            line = self._supervisor.stdout.readline()
        if not line:
            raise LabError(f"the lab's supervisor is gone (at: {command['do']} {command.get('name')})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LabError(f"cannot {command['do']} {command['name']}: {answer['error']}")
        return answer


def every(pause: float, seconds: float) -> Iterator[None]:
    """Yield at once and then each `pause` seconds, until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(pause)
        yield


def eventually(check: Callable[[], T], what: str, seconds: float = 30.0, pause: float = 0.1) -> T:
    """Call `check` until it returns something true, and return that; raise LabError after `seconds`."""
    for _ in every(pause, seconds):
        if result := check():
            return result
    raise LabError(f"after {seconds:g} s still not: {what}")
