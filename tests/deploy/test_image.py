"""What can be said of the image without building it: what goes in, and as whom it runs."""

from __future__ import annotations

import re
import tomllib

from tests.deploy.manifests import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STEPS = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def steps(instruction: str) -> list[str]:
    """Return the arguments of each step of one kind, in order."""
    return [line.partition(" ")[2] for line in STEPS if line.startswith(f"{instruction} ")]


def test_every_dependency_is_checked_against_its_hash() -> None:
    (install,) = (step for step in steps("RUN") if "pip install" in step)
    pinned = (ROOT / "deploy" / "requirements" / "operator.txt").read_text()

    assert "--require-hashes --only-binary=:all: -r deploy/requirements/operator.txt" in install
    packages = re.findall(r"^([A-Za-z0-9_.-]+)==", pinned, flags=re.MULTILINE)
    assert len(packages) == len(re.findall(r"^\S", pinned, flags=re.MULTILINE)), "a line that is no pinned package"
    assert "--hash=sha256:" in pinned
    assert not re.search(r"https?://", pinned)


def test_the_base_is_the_users_choice_in_both_stages() -> None:
    (base,) = steps("ARG")

    assert base == "BASE=python:3.13-slim"
    assert steps("FROM") == ["${BASE} AS build", "${BASE}"]


def test_it_runs_as_the_user_that_the_deployment_names() -> None:
    assert steps("USER") == ["65532:65532"]
    deployment = (ROOT / "deploy" / "base" / "operator" / "deployment.yaml").read_text()
    assert "runAsUser: 65532" in deployment
    assert "runAsGroup: 65532" in deployment


def test_it_starts_the_program_of_the_distribution() -> None:
    """The image starts what `pip install voicekeys[operator]` calls by that name."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert steps("ENTRYPOINT") == ['["voicekeys-operator"]']
    assert scripts == {"voicekeys-operator": "voicekeys.__main__:main"}
    assert "from voicekeys.__main__ import main" in DOCKERFILE


def test_it_can_run_the_gauge() -> None:
    """The sidecar of mode Gauge is `python -m voicekeys.agent.gauge` in this image."""
    assert "operator/voicekeys /src/voicekeys" in steps("COPY")
    assert any("cp -r /src/voicekeys " in step for step in steps("RUN"))
    assert any(step.startswith("PATH=/opt/voicekeys/bin:") for step in steps("ENV"))
    assert (ROOT / "operator" / "voicekeys" / "agent" / "gauge" / "__main__.py").is_file()


def test_nothing_needs_a_newer_builder_than_buildah_of_debian() -> None:
    assert "# syntax=" not in DOCKERFILE
    assert "--mount" not in DOCKERFILE
    assert "<<" not in DOCKERFILE
    assert ":latest" not in DOCKERFILE


def test_what_is_copied_is_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [step.split()[0] for step in steps("COPY") if not step.startswith("--from")]

    assert ignore[1] == "*"
    assert {f"!{each}" for each in copied} <= set(ignore)
    for each in copied:
        assert (ROOT / each).exists()
