"""The key in the mounted file, changed as a kubelet changes it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import threading
from typing import TYPE_CHECKING

import pytest

from voicekeys.agent import Key

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "key-material-of-this-test"


class Volume:
    """A Secret's volume, as the kubelet's atomic writer makes it: a folder for each change, and two links."""

    def __init__(self, folder: Path, value: str, *, mtime: float = 1000.0) -> None:
        self.folder = folder
        self.number = 0
        self.put(value, mtime=mtime)
        (folder / "api_key").symlink_to("..data/api_key")

    @property
    def path(self) -> Path:
        return self.folder / "api_key"

    def put(self, value: str, *, mtime: float = 2000.0) -> None:
        self.number += 1
        made = self.folder / f"..{self.number}"
        made.mkdir()
        (made / "api_key").write_text(value)
        os.utime(made / "api_key", (mtime, mtime))
        (self.folder / "..tmp").symlink_to(made.name)
        (self.folder / "..tmp").rename(self.folder / "..data")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path, SECRET)


def test_the_value_follows_the_file(volume: Volume) -> None:
    clock = Clock()
    key = Key(volume.path, check=1.0, now=clock)
    assert (key.value(), key.value_bytes(), key.generation) == (SECRET, SECRET.encode(), 1)
    volume.put("second")
    assert key.value() == SECRET  # looked at a moment ago
    clock.now = 1.0
    assert (key.value(), key.generation) == ("second", 2)


def test_a_version_is_when_the_file_was_written_so_that_all_processes_agree(volume: Volume) -> None:
    early = Key(volume.path, check=0.0)
    assert early.version == "mtime-1000000"
    volume.put("second")
    assert early.version == Key(volume.path).version == "mtime-2000000"


def test_the_same_value_written_again_is_the_same_version(volume: Volume) -> None:
    """A kubelet writes the whole folder anew when another field of the Secret changes."""
    key = Key(volume.path, check=0.0)
    volume.put(SECRET)
    assert (key.version, key.generation) == ("mtime-1000000", 1)


def test_a_version_file_names_the_version(volume: Volume, tmp_path: Path) -> None:
    versions = tmp_path / "version"
    key = Key(volume.path, version_file=versions, check=0.0)
    assert key.version == "mtime-1000000"  # it may come later
    versions.write_text("7\n")
    assert key.version == "7"
    versions.write_text("8\n")
    assert (key.version, key.generation) == ("8", 1)


def test_a_reload_reads_at_once(volume: Volume) -> None:
    key = Key(volume.path, check=1e9)
    assert not key.reload()
    volume.put("second")
    assert key.value() == SECRET
    assert key.reload()
    assert key.value() == "second"


def test_while_the_file_is_gone_the_last_value_stays(volume: Volume) -> None:
    key = Key(volume.path, check=0.0)
    (volume.folder / "..data").unlink()
    assert (key.value(), key.version) == (SECRET, "mtime-1000000")
    with pytest.raises(FileNotFoundError):
        key.reload()
    volume.put("second")
    assert key.value() == "second"


def test_without_a_file_there_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Key(tmp_path / "missing")


def test_a_change_of_the_same_size_in_the_same_place_is_seen(tmp_path: Path) -> None:
    """Not how a kubelet does it, but how people try it."""
    file = tmp_path / "key"
    file.write_text("aaaa")
    key = Key(file, check=0.0)
    file.write_text("bbbb")
    os.utime(file, ns=(1, 1))
    assert key.value() == "bbbb"


def test_a_key_that_is_no_text_is_bytes(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe-secret")
    key = Key(tmp_path / "key")
    assert key.value_bytes() == b"\xff\xfe-secret"
    with pytest.raises(ValueError, match="value_bytes") as caught:
        key.value()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_readers_see_the_old_value_or_the_new_one_never_anything_else(volume: Volume) -> None:
    key = Key(volume.path, check=0.0)
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(key.value())

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    values = [f"value-{number}" for number in range(100)]
    for value in values:
        volume.put(value)
    stop.set()
    for reader in readers:
        reader.join()
    assert seen <= {SECRET, *values}
    assert key.value() == values[-1]


def test_a_key_does_not_show_its_value(volume: Volume) -> None:
    key = Key(volume.path)
    shown = [repr(key), str(key), f"{key}", f"{key}", repr([key]), repr(key._read), repr(vars(type(key)))]
    assert all(SECRET not in text for text in shown)
    assert str(volume.path) in repr(key)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            leak(key)
        assert SECRET not in str(caught.value)
    with pytest.raises(TypeError):
        json.dumps(key)
    assert not hasattr(key, "__dict__")


def test_a_version_tells_nothing_of_the_value(volume: Volume, tmp_path: Path) -> None:
    """No digest: two keys written in one moment have one version, and one key written twice has two."""
    for name in "bc":
        (tmp_path / name).mkdir()
    other = Volume(tmp_path / "b", "another")
    again = Volume(tmp_path / "c", SECRET, mtime=3000.0)
    assert Key(volume.path).version == Key(other.path).version
    assert Key(volume.path).version != Key(again.path).version
