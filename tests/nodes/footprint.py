"""What of this machine a lab with real nodes might change, to be compared before its start and after its end.

A user's containerd, network and sysctls are left as found. The cables of labs, this one's or another's beside it, are
not told: they go with their processes.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

SYSCTLS = ("fs", "kernel", "net", "user", "vm")
OF_ITSELF = re.compile(r"kernel/(ns_last_pid|random/.*)|fs/(inode|dentry|file)-.*|.*_count")
"""What the kernel changes by itself."""
CABLE = re.compile(r"\bvk\d+\b")
FOLDERS = (
    "/etc/containerd",
    "/etc/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/run/containerd",
)


def footprint() -> dict[str, set[str]]:
    """Return mounts, links, routes, packet filter rules, and when folders of a user's containerd were changed."""
    return {
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "links": {line.split(": ")[1] for line in _said("ip", "-o", "link")},
        "routes": _said("ip", "route", "show", "table", "all"),
        "policies": _said("ip", "rule"),
        "rules": {re.sub(r"\[\d+:\d+\]", "", line) for line in _said("iptables-save") if not line.startswith("#")},
        "folders": {f"{one} {Path(one).stat().st_mtime if Path(one).exists() else None}" for one in FOLDERS},
    }


def sysctls() -> dict[str, str]:
    """Return the settings of the kernel."""
    root, found = Path("/proc/sys"), {}
    for file in (file for folder in SYSCTLS for file in (root / folder).rglob("*")):
        name = str(file.relative_to(root))
        if CABLE.search(name) or OF_ITSELF.fullmatch(name):
            continue
        try:
            if file.is_file() and file.stat().st_mode & 0o200:
                found[name] = file.read_text(errors="replace")
        except OSError:
            continue  # not to be read, or gone with its interface
    return found


def changed(before: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the settings that are others now; what came with a module of the kernel is none."""
    now = sysctls()
    return {name: (was, now[name]) for name, was in before.items() if name in now and now[name] != was}


def _said(*argv: str) -> set[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return {line for line in done.stdout.splitlines() if not CABLE.search(line)}
