"""The demo as a process of its own, with or without a terminal, in a temporary folder that tells what it leaves."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LabError, eventually

if TYPE_CHECKING:
    import signal
    from types import TracebackType

ROOT = Path(__file__).parents[2]
# A process that starts a shell that starts the rest; `; true` keeps the shell from becoming the demo itself.
A_SHELL = """subprocess.run(["sh", "-c", '"$@"; true', "sh", *sys.argv[1:]])"""
BETWEEN = [sys.executable, "-c", f"import subprocess, sys; {A_SHELL}"]


class Demo:
    """A running demo. Its own temporary folder is the mark by which its processes are known.

    Args:
        arguments: of the demo.
        terminal: whether its stdin is one.
        env: more environment variables.
        shell: whether a shell stands between, as `hatch run` has one; a signal then goes to a process above that shell.
    """

    def __init__(
        self, *arguments: str, terminal: bool = False, env: dict[str, str] | None = None, shell: bool = False
    ) -> None:
        # A short path: Vault's plugin makes Unix sockets below it.
        self.folder = Path(tempfile.mkdtemp(prefix="vk-demo-"))
        master, slave = pty.openpty()
        self._master = master
        self.said = ""
        self.process = subprocess.Popen(
            [*(BETWEEN if shell else []), sys.executable, "-m", "tests.lab.demo", *arguments],
            cwd=ROOT,
            env={**os.environ, **(env or {}), "TMPDIR": str(self.folder), "PYTHONUNBUFFERED": "1"},
            stdin=slave if terminal else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(slave)

    def until(self, text: str, seconds: float = 120) -> str:
        """Read on until it says `text`; return all that it has said. Raises LabError when it does not."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            if not self._read(deadline):
                raise LabError(f"the demo did not say {text!r}, but:\n{self.said}")
        return self.said

    def end(self, number: signal.Signals | None = None, seconds: float = 120) -> int:
        """Wait for its end, after a signal if one is given; return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(seconds)

    def left(self) -> list[str]:
        """What is left of it: processes that know its folder, files in that folder."""
        found = [str(each) for each in self.folder.iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                if str(self.folder).encode() in told and state != "Z":
                    found.append(f"{process.name}: {(process / 'comm').read_text().strip()}")
        return found

    def wait_for_nothing(self) -> None:
        """Wait until nothing is left; the supervisor takes a second to notice a kill."""
        try:
            eventually(lambda: not self.left(), "nothing left", seconds=20)
        except LabError:
            raise LabError(f"the demo left {self.left()}") from None

    def _read(self, deadline: float) -> bool:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        chunk = os.read(self.process.stdout.fileno(), 65536)
        self.said += chunk.decode()
        return bool(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._master)
        shutil.rmtree(self.folder, ignore_errors=True)
