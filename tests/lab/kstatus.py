"""The verdict of kstatus, the library by which Flux, kpt and others judge an object's status: the library itself."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from tests.lab.binaries import find_binaries
from tests.lab.processes import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Kstatus:
    """A running `go/kstatus`: one process for any number of objects; it ends with this one, by its stdin."""

    def __init__(self, binary: Path) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def compute(self, obj: Mapping[str, Any]) -> tuple[str, str]:
        """Return status and message: `("InProgress", "…")`, `Current`, `Failed`, `Terminating` or `Unknown`.

        Raises LabError when the library refuses the object, whose own words it then has.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(obj) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise LabError(f"kstatus ended with code {self._process.wait()}")
        verdict = json.loads(answer)
        if "error" in verdict:
            raise LabError(f"kstatus: {verdict['error']}")
        return verdict["status"], verdict["message"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


_running: list[Kstatus] = []
_starting = threading.Lock()


def compute(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Return what kstatus says of an object, by a process that is started at the first call; see `Kstatus.compute`."""
    with _starting:
        if not _running:
            _running.append(Kstatus(find_binaries(("kstatus",))["kstatus"]))
    return _running[0].compute(obj)
