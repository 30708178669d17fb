"""`.ci/run` runs every step by README's words and fails when one fails; hatch is played by a script with a notebook."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from pathlib import Path

VENV = """#!/bin/sh
case "$*" in
  "-m venv .venv") ;;
  *) exit 0 ;;
esac
mkdir -p .venv/bin
printf '#!/bin/sh\\necho "pip $*" >> notes\\n' > .venv/bin/pip
printf '#!/bin/sh\\necho "hatch $*" >> notes\\ncase "$*$" in *"$BROKEN"*) exit 7 ;; esac\\n' > .venv/bin/hatch
chmod +x .venv/bin/pip .venv/bin/hatch
"""
AGAIN = "-n 0 --last-failed --last-failed-no-failures none"
ALL = ["pip install hatch", "hatch run test", "hatch run nodes", "hatch run check", "hatch run generate --check"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    # Nothing is missing here, so nothing gets installed.
    for name, text in {
        "python3": VENV,
        **dict.fromkeys(["git", "curl", "openssl", "promtool", "sipp", "haproxy"], "#!/bin/sh\n"),
    }.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def run(clone: Path, broken: str, path: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{clone / 'bin'}:{path or os.environ['PATH']}", "BROKEN": broken, **more}
    return subprocess.run([clone / ".ci" / "run"], env=env, capture_output=True, text=True, check=False, timeout=60)


def with_again(verb: str) -> list[str]:
    """The steps where that verb's tests failed: they are run once more, alone."""
    twice = verb in {"test", "nodes"}
    return [line for step in ALL for line in ([step, f"{step} {AGAIN}"] if twice and verb in step else [step])]


def test_it_runs_everything_and_passes(clone: Path) -> None:
    done = run(clone, "nothing")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "notes").read_text().splitlines() == ALL
    assert "=== passed" in done.stdout


@pytest.mark.parametrize("verb", ["test", "nodes", "check", "generate"])
def test_one_failure_fails_it_and_the_rest_is_run_all_the_same(clone: Path, verb: str) -> None:
    done = run(clone, f"run {verb}")
    assert done.returncode == 1
    assert f"=== FAILED: {verb}" in done.stdout
    assert (clone / "notes").read_text().splitlines() == with_again(verb)


@pytest.fixture
def without_buildah(tmp_path: Path) -> Path:
    """A PATH without the tool that builds the image."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "dirname", "tr", "mkdir", "chmod"):
        (tools / name).symlink_to(str(shutil.which(name)))
    return tools


def test_an_image_that_is_not_built_is_told(clone: Path, without_buildah: Path) -> None:
    tools = without_buildah
    done = run(clone, "nothing", str(tools))
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("=== NO "))
    who = "" if os.geteuid() == 0 else "not root, "
    assert line.startswith(f"=== NO image: {who}no buildah, so the Dockerfile is not built")
    (tools / "buildah").write_text("#!/bin/sh\n")
    (tools / "buildah").chmod(0o755)
    assert ("=== NO image" in run(clone, "nothing", str(tools)).stdout) == bool(who)


@pytest.mark.parametrize("verb", ["test", "nodes"])
def test_tests_that_fail_among_others_and_pass_alone_are_named_and_pass(clone: Path, verb: str) -> None:
    done = run(clone, f"run {verb}$")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"=== UNSTABLE: {verb}" in done.stdout
    assert (clone / "notes").read_text().splitlines() == with_again(verb)


def test_real_nodes_that_cannot_be_fail_where_they_are_required(clone: Path, without_buildah: Path) -> None:
    """A skip that nobody reads is no test."""
    done = run(clone, "nothing", str(without_buildah), NODES_REQUIRED="1")
    assert done.returncode == 1
    assert "=== FAILED: real nodes" in done.stdout
