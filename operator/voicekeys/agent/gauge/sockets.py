"""Whether any process of this pod but this one has a socket: the proof that an agent which refuses connections is gone.

A kubelet waits for a hook also when the hook's container has died (`executePreStopHook` waits for the answer or the
grace's end, and for nothing else), so a sidecar that only sees "connection refused" would hold a dead pod until its
grace ends. Refused alone proves nothing: the agent may have closed its status port and still talk. But the containers
of a pod share a network namespace, whose tables of sockets (proc(5)) list those of every process in it: a call needs at
least one. Where another container has sockets (a mesh's proxy), where the pod uses the node's network, or where the
tables cannot be read, there is no proof, and the hook is held.
"""

from __future__ import annotations

import os
from pathlib import Path

INODE_COLUMNS = {
    "tcp": 9,
    "tcp6": 9,
    "udp": 9,
    "udp6": 9,
    "udplite": 9,
    "udplite6": 9,
    "raw": 9,
    "raw6": 9,
    "packet": 8,
}
"""The tables and where each has the socket's inode; 0 is a socket that no process has any more (TIME_WAIT and such)."""
NEEDED = frozenset({"tcp", "udp"})
"""Tables that every kernel has: without them nothing is known."""
SCTP = ("sctp/eps", "sctp/assocs")


def others_have_any(proc: Path = Path("/proc/self")) -> bool:
    """Whether another process has a socket in this network namespace; True where that cannot be told."""
    try:
        found = {inode for name in INODE_COLUMNS for inode in _inodes(proc / "net", name)}
        if any(_rows(proc / "net" / name) for name in SCTP):
            return True
        return bool(found - _own(proc))
    except (OSError, ValueError, IndexError):
        return True


def _inodes(net: Path, name: str) -> set[int]:
    try:
        rows = _rows(net / name)
    except FileNotFoundError:
        if name in NEEDED:
            raise
        return set()
    return {int(row.split()[INODE_COLUMNS[name]]) for row in rows} - {0}


def _rows(table: Path) -> list[str]:
    """A table's lines below its heading; none where the kernel has no such protocol."""
    if table.parent.name == "sctp" and not table.exists():
        return []
    return table.read_text().splitlines()[1:]


def _own(proc: Path) -> set[int]:
    """Inodes of this process's sockets. Read after the tables: one that was closed meanwhile counts as another's."""
    own = set()
    for entry in os.scandir(proc / "fd"):
        try:
            target = os.readlink(entry.path)  # noqa: PTH115 - a link to nowhere, of which only the text counts
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            own.add(int(target[8:-1]))
    return own
