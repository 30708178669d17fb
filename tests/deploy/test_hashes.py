"""Pinned hashes are not decoration: a package of other bytes is refused, by each of the two ways that install ours."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.manifests import ROOT

if TYPE_CHECKING:
    from pathlib import Path

UV = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-index", "--no-cache"]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package of one module, in a folder that stands for a registry."""
    file = tmp_path / "registry" / "pinned_thing-1.0-py3-none-any.whl"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pinned_thing.py", "")
        archive.writestr(
            "pinned_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pinned-thing\nVersion: 1.0\n"
        )
        archive.writestr(
            "pinned_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("pinned_thing-1.0.dist-info/RECORD", "")
    return file


def install(wheel: Path, digest: str, *, constraint: bool) -> subprocess.CompletedProcess[str]:
    """Install it, pinned to a hash, as hatch's environment (a constraint) or as the image does (a requirement)."""
    pins = wheel.parent.parent / "pins.txt"
    pins.write_text(f"pinned-thing==1.0 --hash=sha256:{digest}\n")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    what = ["pinned-thing"] if constraint else ["--require-hashes", "-r", str(pins)]
    env |= {"UV_CONSTRAINT": str(pins)} if constraint else {}
    options = ["--find-links", str(wheel.parent), "--target", str(pins.parent / "installed")]
    return subprocess.run([*UV, *options, *what], env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("constraint", [True, False], ids=["constraint", "requirement"])
def test_bytes_that_are_not_the_pinned_ones_are_refused(wheel: Path, *, constraint: bool) -> None:
    good = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wrong = hashlib.sha256(b"other bytes").hexdigest()
    refused = install(wheel, wrong, constraint=constraint)
    assert refused.returncode != 0
    assert "ash" in refused.stderr
    assert "pinned" in refused.stderr
    assert not list(wheel.parent.parent.glob("installed/pinned_thing.py"))
    taken = install(wheel, good, constraint=constraint)
    assert taken.returncode == 0, taken.stderr
    assert list(wheel.parent.parent.glob("installed/pinned_thing.py"))


def test_hatch_s_environment_is_made_with_the_pins_as_constraints() -> None:
    default = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]["default"]
    assert default["installer"] == "uv"
    assert default["env-vars"]["UV_CONSTRAINT"] == "{root}/deploy/requirements/dev.txt"
    assert default["env-vars"]["UV_BUILD_CONSTRAINT"] == "{root}/deploy/requirements/build.txt"


def pins(name: str) -> dict[str, str]:
    """What a file pins: versions by distribution."""
    lines = (ROOT / "deploy" / "requirements" / name).read_text().splitlines()
    entries = [Requirement(line.rstrip(" \\")) for line in lines if line and not line.startswith((" ", "#"))]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in entries}


def asked() -> list[tuple[str, Requirement]]:
    """Each requirement of pyproject.toml, with each file that must pin it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    operator = project["project"]["optional-dependencies"]["operator"] + project["project"]["dependencies"]
    groups = project["dependency-groups"]
    files = {
        "operator.txt": operator,
        "dev.txt": operator + groups["dev"],
        "build.txt": project["build-system"]["requires"] + groups["build"],
    }
    return [(name, Requirement(one)) for name, wanted in files.items() for one in wanted]


@pytest.mark.parametrize(("file", "wanted"), asked(), ids=str)
def test_each_requirement_has_a_pin_that_satisfies_it(file: str, wanted: Requirement) -> None:
    pinned = pins(file).get(canonicalize_name(wanted.name))
    assert pinned is not None, "hatch run lock"
    assert pinned in wanted.specifier, "hatch run lock"


def test_the_image_runs_what_the_tests_ran_with() -> None:
    tested = pins("dev.txt")
    assert {name: version for name, version in pins("operator.txt").items() if tested.get(name) != version} == {}


def test_each_verb_passes_its_arguments_on_and_check_to_ruff_alone() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]["default"]["scripts"]
    for verb in ("demo", "test", "e2e", "bench", "generate"):
        assert scripts[verb].endswith(" {args}")
    # mypy and import-linter judge the whole, whatever files are named.
    assert [line for line in scripts["check"] if "{args" not in line] == ["mypy", "lint-imports"]
