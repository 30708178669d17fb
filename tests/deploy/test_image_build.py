"""The image, built from the Dockerfile by buildah, and started as the Deployment starts it. Minutes, so not each run:

    hatch run test -n 0 tests/deploy/test_image_build.py --image

It needs root, buildah and debootstrap (`apt-get install buildah debootstrap`), Debian's mirror for the base, and the
registry of Python packages that pip is set up for here. Without --image, or without one of these, it is skipped, and
says why.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.manifests import ROOT
from voicekeys import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE, IMAGE = "localhost/voicekeys-test-base:1", "localhost/voicekeys-test:1"
TOOLS = ("buildah", "debootstrap")
# Without /dev/fuse and without user namespaces, as in a container of CI.
ENV = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
PLATFORMS = [f"manylinux_2_{minor}_{platform.machine()}" for minor in (17, 28, 34)]


def run(*argv: str | Path, folder: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command; AssertionError with the end of what it said when it fails."""
    whole = {**os.environ, **ENV, **(env or {})}
    done = subprocess.run(argv, cwd=folder, env=whole, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{argv}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def image(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build a base of Debian's Python, and the image on it, in a storage of their own."""
    if not pytestconfig.getoption("image"):
        pytest.skip("takes minutes: hatch run test -n 0 tests/deploy/test_image_build.py --image")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)] or (["root"] if os.getuid() else []):
        pytest.skip(f"needs {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("image")
    storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    python = _base(folder, storage)
    wheels = _wheels(folder, python)
    # Within the build pip finds what was fetched outside, and nothing else; each wheel's hash is checked all the same.
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    volumes = ["-v", f"{wheels}:/wheels:ro", "-v", f"{folder / 'pip.conf'}:/etc/pip.conf:ro"]
    run("buildah", *storage, "bud", *volumes, "--build-arg", f"BASE={BASE}", "-t", IMAGE, ".")
    container = run("buildah", *storage, "from", "--pull-never", IMAGE).strip()
    yield " ".join(["buildah", *storage, "run", "--user", "65532:65532", container, "--"])
    run("buildah", *storage, "rm", "--all")
    shutil.rmtree(folder, ignore_errors=True)


def _base(folder: Path, storage: list[str]) -> str:
    """Make the base image; return its Python's version."""
    tree = folder / "debian"
    include = "--include=python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", include, "stable", tree)
    container = run("buildah", *storage, "from", "scratch").strip()
    run("buildah", *storage, "copy", container, tree, "/")
    run("buildah", *storage, "commit", container, BASE)
    (version,) = (each.name.removeprefix("python") for each in (tree / "usr" / "lib").glob("python3.*"))
    return version


def _wheels(folder: Path, python: str) -> Path:
    """Fetch the pinned wheels for the image's Python, by whatever registry pip is set up for."""
    wheels = folder / "wheels"
    env = {"VIRTUAL_ENV": str(folder / "venv")}
    run(sys.executable, "-m", "venv", folder / "venv")
    pip = folder / "venv" / "bin" / "pip"
    chosen = [word for name in PLATFORMS for word in ("--platform", name)]
    pins = ROOT / "deploy" / "requirements" / "operator.txt"
    options = ["--only-binary=:all:", "--require-hashes", "--no-deps", "--python-version", python, *chosen]
    run(pip, "download", "-q", *options, "-d", wheels, "-r", pins, env=env)
    return wheels


def test_it_starts_as_the_deployments_user_and_asks_for_a_cluster(image: str) -> None:
    done = subprocess.run(
        [*image.split(), "voicekeys-operator"], env={**os.environ, **ENV}, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "cannot run" in said
    assert "Traceback" not in said


def test_it_is_the_code_of_this_tree_with_no_pip_in_it(image: str) -> None:
    sys_path = "import sys, os, voicekeys, voicekeys.__main__; print(voicekeys.__version__, os.getuid(), os.getgid())"
    assert run(*image.split(), "/opt/voicekeys/bin/python", "-P", "-c", sys_path).split() == [
        __version__,
        "65532",
        "65532",
    ]
    find = "import importlib.util as u; print(u.find_spec('pip'))"
    assert run(*image.split(), "/opt/voicekeys/bin/python", "-P", "-c", find).strip() == "None"
