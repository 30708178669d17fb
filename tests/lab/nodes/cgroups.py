"""The control groups of real nodes: in each hierarchy a folder a lab (`voicekeys-lab-7`), with one below a node.

Also a program of its own, standard library only (`python cgroups.py NUMBER`): it waits until its standard input ends,
which is when the process that started it ends, however it ends, and then removes the folders of lab NUMBER.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "voicekeys-lab-"
# Of the first version of cgroups a cpuset without these takes no process.
CPUSET = ("cpuset.cpus", "cpuset.mems")
PATIENCE = 20.0


def hierarchies() -> list[Path]:
    """Return the root of each hierarchy in which runtimes make groups: one (version 2) or one a controller."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [each for each in sorted(ROOT.iterdir()) if each.name != "unified" and not each.is_symlink()]


def tops(name: str) -> list[Path]:
    """Return the groups of a name (or pattern) at the top of any hierarchy, those that runc makes of itself too."""
    return [*ROOT.glob(name), *ROOT.glob(f"*/{name}")]


def make(number: int, node: str) -> str:
    """Make a node's groups and return their name below each hierarchy: a kubelet's `cgroupRoot`."""
    for root in hierarchies():
        group = root
        for name in (f"{PREFIX}{number}", node):
            parent, group = group, group / name
            group.mkdir(exist_ok=True)
            for setting in CPUSET:
                if (group / setting).exists() and (parent / setting).exists():
                    with contextlib.suppress(OSError):
                        (group / setting).write_text((parent / setting).read_text())
    return f"/{PREFIX}{number}/{node}"


def labs() -> set[int]:
    """Return the numbers of labs that have groups on this machine."""
    found = {each.name.removeprefix(PREFIX) for each in tops(f"{PREFIX}*")}
    return {int(each) for each in found if each.isdigit()}


def remove(number: int, node: str = "", patience: float = PATIENCE) -> bool:
    """Remove a lab's groups, or one node's, once their processes have ended; return whether none is left."""
    deadline = time.monotonic() + patience
    while True:
        left = tops(str(Path(f"{PREFIX}{number}", node)))
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        if not left or time.monotonic() > deadline:
            return not left
        time.sleep(0.05)


def main() -> None:
    """Wait for the end of standard input, then remove the groups of the lab named by argv[1]."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    remove(int(sys.argv[1]))


if __name__ == "__main__":
    main()
