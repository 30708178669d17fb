"""The current key, from the file that the kubelet mounts: unlike the environment it changes while the agent runs.

A mounted Secret is a link to a folder which the kubelet replaces as a whole: a read finds the old file or the new one,
for a moment maybe none, never half of one. The file is looked at when the key is asked for, and not more often than
`check` says. There is no thread, and no lock that a fork could leave closed: what was read is replaced as a whole.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

CHECK_SECONDS = 1.0

Mark = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What was in the file."""

    value: bytes = field(repr=False)
    version: str
    generation: int
    mark: Mark


class Key:
    """A key in a mounted file. It cannot be printed, pickled or compared; its value is had from `value` alone.

    Args:
        path: the file; one key of the Secret's data, as it is mounted.
        version_file: a file with the version's name (the downward API can write a pod's annotation there). Without
            it a version is named by when the kubelet wrote the file, the same in all processes of the pod. It is
            never a digest of the key: that could be guessed at.
        check: seconds for which a value is given without looking at the file again.
        now: the monotonic clock.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """

    __slots__ = ("_check", "_looked", "_now", "_path", "_read", "_versions")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        version_file: str | os.PathLike[str] | None = None,
        check: float = CHECK_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path)
        self._versions = None if version_file is None else Path(version_file)
        self._check = check
        self._now = now
        self._looked = now()
        self._read = self._from_file(None)

    def value(self) -> str:
        """The key, as text, exactly as it stands in the file. Raises ValueError for one that is no text."""
        try:
            return self.value_bytes().decode()
        except UnicodeDecodeError:
            # Python's own error carries the bytes.
            message = f"{self._path} holds no UTF-8 text: use value_bytes()"
            raise ValueError(message) from None

    def value_bytes(self) -> bytes:
        """The key. While the file is missing or unreadable, the last one that was there."""
        return self._current().value

    @property
    def version(self) -> str:
        """The name of the current version: what ``/calls`` shows for calls of this key."""
        return self._current().version

    @property
    def generation(self) -> int:
        """How many different values this process has seen, from 1."""
        return self._current().generation

    def reload(self) -> bool:
        """Read the file now. Returns whether the key is another one. Raises OSError when it cannot be read."""
        before = self._read
        self._looked = self._now()
        self._read = self._from_file(before)
        return self._read.generation != before.generation

    def _current(self) -> _Read:
        now = self._now()
        if now - self._looked >= self._check:
            self._looked = now
            try:
                if self._stat() != self._read.mark:
                    self._read = self._from_file(self._read)
            except OSError:
                # Between two folders, or gone: what worked a second ago is the best that there is.
                return self._read
        return self._read

    def _stat(self) -> Mark:
        files = [self._path]
        if self._versions is not None and self._versions.exists():
            files.append(self._versions)
        return tuple(
            number
            for found in (file.stat() for file in files)
            for number in (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        )

    def _from_file(self, last: _Read | None) -> _Read:
        # Marked with what was seen *before* reading: a change in between is found at the next look.
        mark = self._stat()
        value = self._path.read_bytes()
        if last is not None and hmac.compare_digest(value, last.value):
            version, generation = last.version, last.generation
        else:
            version, generation = f"mtime-{mark[3] // 1_000_000}", 1 if last is None else last.generation + 1
        if self._versions is not None and self._versions.exists():
            version = self._versions.read_text().strip()
        return _Read(value, version, generation, mark)

    def __repr__(self) -> str:
        return f"Key({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        message = "a Key holds key material and is never pickled or copied out: make one in each process"
        raise TypeError(message)
