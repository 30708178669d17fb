"""A repository to clone from, with this working tree as version 0.1.0 and later versions that tests make of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLONED = ("crds", "deploy", "operator", ".gitignore", "Dockerfile", "LICENSE", "README.md")
FIRST = "0.1.0"


def next_version(version: str) -> dict[str, tuple[str, str]]:
    """The edits of an ordinary later version: image, code, and CRDs with a new annotation and a new field."""
    return {
        "deploy/kustomization.yaml": (f"newTag: {FIRST}", f"newTag: {version}"),
        "operator/voicekeys/__init__.py": (f'__version__ = "{FIRST}"', f'__version__ = "{version}"'),
        "crds/kustomization.yaml": (
            "kind: Kustomization",
            f"kind: Kustomization\ncommonAnnotations: {{voicekeys.dev/version: {version}}}",
        ),
        "crds/voicekeys.dev_voicekeybindings.yaml": (
            "                suspend:\n",
            "                later:\n                  type: string\n                suspend:\n",
        ),
    }


class Origin:
    """The repository that is cloned, with a tag for each version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in CLONED:
            whole = ROOT / name
            if whole.is_dir():
                shutil.copytree(whole, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copyfile(whole, folder / name)
        git(folder, "init", "--quiet", "--initial-branch=main")
        self._commit(FIRST)

    def release(self, version: str, edits: Mapping[str, tuple[str, str]]) -> None:
        """Make a version of the first one, on a branch of its own."""
        git(self.folder, "checkout", "--quiet", "-b", f"release-{version}", f"v{FIRST}")
        for name, (old, new) in edits.items():
            text = (self.folder / name).read_text()
            assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
            (self.folder / name).write_text(text.replace(old, new))
        self._commit(version)
        git(self.folder, "checkout", "--quiet", "main")

    def clone(self, folder: Path) -> None:
        """Clone it, as a user does who begins with the first version."""
        git(self.folder.parent, "clone", "--quiet", "--branch", f"v{FIRST}", str(self.folder), str(folder))

    def _commit(self, version: str) -> None:
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--message", version)
        git(self.folder, "tag", f"v{version}")


def git(folder: Path, *arguments: str) -> None:
    """Run git without the settings of whoever runs the tests. Raises AssertionError with git's words."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    named = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "advice.detachedHead=false"]
    done = subprocess.run(["git", *named, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
