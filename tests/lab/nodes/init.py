"""The first process of a node's namespaces: a program of its own, standard library only.

It is started by `unshare` in new mount, network, process and host-name namespaces, and gives the node a `/var` and a
`/run` of its own there. All that the node ever mounts or starts lives in these namespaces, so that the kernel takes it
away with this process, however that ends: for the node this is a power cut.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# What a kubelet insists on and otherwise writes for the whole machine (`setupKernelTunables` of its container manager):
# it reads these files here, finds all as it wants it, and the machine's own values stay what they are.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x100000


def mount(source: str | Path, target: str | Path, kind: str = "", flags: int = 0) -> None:
    """Mount, or raise OSError."""
    if LIBC.mount(str(source).encode(), str(target).encode(), kind.encode() or None, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def furnish(name: str, var: Path, binaries: list[Path]) -> None:
    """Make the namespaces a machine named `name`, its disk the folder `var`, with binaries in /var/node/bin."""
    socket.sethostname(name)
    # Mounts have to reach from the kubelet into containers (mountPropagation); beyond this namespace none goes.
    mount("none", "/", flags=MS_REC | MS_SHARED)
    tools = var / "node" / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    for binary in binaries:
        (tools / binary.name).touch()
        mount(binary, tools / binary.name, flags=MS_BIND)
    for key, value in TUNABLES.items():
        file = var / "node" / "sysctl" / key.replace("/", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{value}\n")
        mount(file, f"/proc/sys/{key}", flags=MS_BIND)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    mount("tmpfs", "/run", "tmpfs")
    mount(var, "/var", flags=MS_BIND | MS_REC)
    for folder in ("log", "lib", "tmp"):
        Path("/var", folder).mkdir(exist_ok=True)
    if not Path("/var/run").is_symlink():
        Path("/var/run").symlink_to("/run")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main() -> None:
    """Furnish the node, say so, and wait for the ends of its orphans, as a first process must, until killed."""
    name, var, *binaries = sys.argv[1:]
    furnish(name, Path(var), [Path(binary) for binary in binaries])
    Path("/var/node/ready").touch()
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    main()
