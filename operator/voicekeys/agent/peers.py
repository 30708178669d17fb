"""How the processes of one container find and trust each other: a Unix socket beside the drain port.

On Linux its name is abstract: no folder is needed, the kernel frees it with its process, and it can be seen in this
network namespace only. The name also holds the mount namespace, which every container has of its own: two pods on the
host's network are two pools. Elsewhere it is a file in a folder of this user's.

Both ends ask the kernel for the other's user; only the same one is let in.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicekeys.agent.ports import listening

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_LINE = 1 << 20
"""Bytes of one message between processes."""

_LINUX = sys.platform == "linux"
_CREDENTIALS = struct.Struct("3i")


def address(port: int) -> str:
    """Where the pool of a port meets."""
    if _LINUX:
        with contextlib.suppress(OSError):
            return f"\0voicekeys/{os.getuid()}/{os.stat('/proc/self/ns/mnt').st_ino}/{port}"  # noqa: PTH116 - no file
        return f"\0voicekeys/{os.getuid()}/0/{port}"
    folder = Path(tempfile.gettempdir()) / f"voicekeys-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        message = f"{folder} must belong to this user alone"
        raise PermissionError(message)
    return str(folder / f"{port}.sock")


def listen(port: int) -> socket.socket:
    """Open the meeting place. Only who has the drain port may: a file left by a dead leader is removed.

    Raises OSError while the last leader's socket still closes.
    """
    where = address(port)
    if not where.startswith("\0"):
        Path(where).unlink(missing_ok=True)
    return listening(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), where)


def identify(sock: socket.socket) -> int | None:
    """The process id at the other end, 0 where it cannot be known; None for another user, who is not let in."""
    if not _LINUX:
        return 0
    pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid) if user == os.getuid() else None


def is_alive(pid: int) -> bool:
    """Whether a process still runs. One that ended and waits for its parent does not; an unknown one (0) neither."""
    if pid <= 0:
        return False
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, 0)
            return True
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and not ours to look at
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(handle)


def encode(message: Mapping[str, object]) -> bytes:
    """One message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """One line as a message. Raises ValueError for what is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message between processes is an object")  # noqa: TRY004 - one error for every bad line
    return message
