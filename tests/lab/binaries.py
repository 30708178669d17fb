"""Where the lab's binaries come from.

For each, the first of these that has it:

1. the folder named by `VOICEKEYS_LAB_BIN`;
2. PATH, when its version is near enough to the pinned one;
3. the cache of earlier builds (`$XDG_CACHE_HOME` or `~/.cache`, below `voicekeys/lab`);
4. a build from the pinned Go modules, into that cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.build import RECIPES, Builder, Say, pinned
from tests.lab.processes import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = "VOICEKEYS_LAB_BIN"
PLUGIN = "vault-plugin-auth-kubernetes"
LEAST_VAULT = (1, 15)


@dataclass(frozen=True)
class Found:
    """Where each binary is (`paths`), which came from where (`sources`), and which are still `missing`."""

    paths: Mapping[str, Path]
    sources: Mapping[str, list[str]]
    missing: Sequence[str]

    def describe(self) -> str:
        """Return one line: which source has which binaries."""
        parts = [f"{source} ({', '.join(names)})" for source, names in self.sources.items()]
        if self.missing:
            minutes = max(1, round(sum(RECIPES[name].seconds for name in self.missing) / 60))
            parts.append(f"to be built from source, once, about {minutes} min ({', '.join(self.missing)})")
        return "lab binaries: " + "; ".join(parts)


def cache_folder(of: str = "lab") -> Path:
    """Return the folder of what was made earlier and is kept: by default the lab's builds."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicekeys" / of


def look(names: Sequence[str], builder: Builder | None = None) -> Found:
    """Find binaries without building any. Raises LabError when `VOICEKEYS_LAB_BIN` is no folder."""
    folder = os.environ.get(FOLDER)
    if folder and not Path(folder).is_dir():
        raise LabError(f"{FOLDER}={folder} is not a folder")
    builder = builder or Builder(cache_folder())
    paths: dict[str, Path] = {}
    sources: dict[str, list[str]] = {}

    def take(name: str, path: Path, source: str) -> None:
        paths[name] = path
        sources.setdefault(source, []).append(name)

    for name in names:
        if folder and (own := Path(folder) / name).exists():
            take(name, own.resolve(), FOLDER)
        elif on_path := find_on_path(name):
            take(name, on_path, "PATH")
        elif (cached := builder.path(name)).exists():
            take(name, cached, str(builder.cache))
    # A release of Vault has the Kubernetes auth method built in; only the `minimal` build of ours needs the plugin.
    optional = {PLUGIN} if "vault" in sources.get("PATH", []) else set()
    return Found(paths, sources, [name for name in names if name not in paths and name not in optional])


def find_binaries(names: Sequence[str], say: Say = print) -> Mapping[str, Path]:
    """Return the paths of binaries, building what is not there; says first, in one line, where each is from.

    Raises LabError when a build fails.
    """
    builder = Builder(cache_folder())
    found = look(names, builder)
    say(found.describe())
    if found.missing:
        builder.build(found.missing, say)
    return {**found.paths, **{name: builder.path(name) for name in found.missing}}


def find_on_path(name: str) -> Path | None:
    """Return a binary of PATH, or None when there is none or its version will not do."""
    command = shutil.which(name)
    if not command or name not in VERSION_COMMANDS:
        return None
    try:
        done = subprocess.run(
            [command, *VERSION_COMMANDS[name]], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\bv?(\d+)\.(\d+)\.\d+", done.stdout)
    if done.returncode or not version:
        return None
    return Path(command).resolve() if will_do(name, (int(version[1]), int(version[2]))) else None


# kstatus is ours, and the plugin cannot tell its version: neither is looked for on PATH.
VERSION_COMMANDS = {
    "etcd": ["--version"],
    "kube-apiserver": ["--version"],
    "kube-controller-manager": ["--version"],
    "kube-scheduler": ["--version"],
    "kube-proxy": ["--version"],
    "kubelet": ["--version"],
    "kubectl": ["version", "--client"],
    "kwok": ["--version"],
    "vault": ["version"],
}


def will_do(name: str, version: tuple[int, int]) -> bool:
    """Tell whether a version (major, minor) serves: the pinned minor; of Vault any from 1.15 on."""
    if name == "vault":
        return version >= LEAST_VAULT
    requirement = {"etcd": "go.etcd.io/etcd/server/v3", "kwok": "sigs.k8s.io/kwok"}.get(name, "k8s.io/kubernetes")
    major, minor = pinned("kubernetes", requirement).removeprefix("v").split(".")[:2]
    return version == (int(major), int(minor))
