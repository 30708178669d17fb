"""What a machine must have for real nodes, and what to do where it has not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

# Command: Debian's package.
COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}
CNI_PACKAGE = "containernetworking-plugins"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
PLUGINS = ("ptp", "host-local", "loopback")
# debootstrap of another distribution does not bring the keys of Debian's archive.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
BINARIES = ("kubelet", "kube-proxy", "pause")


def cni_folder() -> Path | None:
    """Return the folder that has the CNI plugins, or None."""
    return next((each for each in CNI_FOLDERS if all((each / name).exists() for name in PLUGINS)), None)


def packages() -> list[str]:
    """Debian's packages of what is missing on this machine."""
    found = {package for command, package in COMMANDS.items() if not shutil.which(command)}
    if cni_folder() is None:
        found.add(CNI_PACKAGE)
    if not KEYRING.exists():
        found.add("debian-archive-keyring")
    return sorted(found)


def missing() -> str | None:
    """Say what real nodes lack on this machine and how to get it, in one line; None when nothing."""
    if not sys.platform.startswith("linux"):
        return "real nodes need Linux"
    if os.geteuid() != 0:
        return "real nodes need root (namespaces, mounts, cgroups)"
    if lacking := packages():
        return f"real nodes need packages: apt-get install --no-install-recommends {' '.join(lacking)}"
    return None


if __name__ == "__main__":
    # As a file, before anything is installed: what CI has to install.
    print(*packages())
