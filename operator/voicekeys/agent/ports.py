"""Who has the drain port: the process that binds it leads its pool. And, when that is a stranger, who it is."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

LISTENING = "0A"
"""TCP_LISTEN in the kernel's table of sockets (proc(5))."""


def bind(host: str, port: int) -> socket.socket | None:
    """Bind the port, for IPv4 and IPv6 where there are both and no host is named.

    Args:
        host: an address to listen on; empty for all.
        port: 0 for any free one.

    Returns:
        The socket, not yet listening; None when another socket has the port.

    Raises:
        OSError: for anything but a port in use: a forbidden port, an address that is not here.
    """
    try:
        return _bind(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return None


def _bind(host: str, port: int) -> socket.socket:
    if host:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return _bound(socket.socket(family, socket.SOCK_STREAM), (host, port))
    if socket.has_dualstack_ipv6():
        try:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        except OSError:
            pass
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                return _bound(sock, ("::", port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
    return _bound(socket.socket(socket.AF_INET, socket.SOCK_STREAM), ("0.0.0.0", port))  # noqa: S104 - the kubelet comes from outside


def _bound(sock: socket.socket, address: tuple[str, int]) -> socket.socket:
    # Without it a restarted process finds its port in TIME_WAIT.
    return listening(sock, address, reuse=os.name == "posix")


def listening(sock: socket.socket, address: tuple[str, int] | str, *, reuse: bool = False) -> socket.socket:
    """Bind and listen: on Linux two sockets may bind one port until the first listens.

    Args:
        sock: closed where that fails.
        address: host and port, or that of a Unix socket.
        reuse: also an address whose former connections have not timed out.

    Raises:
        OSError: it is taken, or is not an address of this machine.
    """
    try:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def holder_of(port: int) -> str:
    """Say who listens on a port: process and name where /proc shows them, else that it cannot be seen."""
    tables = [Path("/proc/net") / name for name in ("tcp", "tcp6")]
    sockets = {f"socket:[{inode}]" for table in tables for inode in _listeners(table, port)}
    for process in Path("/proc").glob("[0-9]*"):
        # What cannot be read ended meanwhile, or is not ours to look at.
        with contextlib.suppress(OSError):
            if any(_target(link) in sockets for link in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "a process that cannot be seen from here"


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _listeners(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port]
