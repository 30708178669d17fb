"""The operator's image, built from the Dockerfile by buildah, within deploy/'s limits: what starts, and as whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.manifests import DEPLOY, pick, render
from tests.lab.nodes import images
from tests.lab.processes import eventually
from voicekeys import __version__

if TYPE_CHECKING:
    from tests.nodes.stage import Stage

PYTHON = ["/opt/voicekeys/bin/python", "-P", "-c"]
# Version, user and group of what runs, and whether pip is there.
LOOK = """
import importlib.util, os, voicekeys, voicekeys.__main__
print(voicekeys.__version__, os.getuid(), os.getgid(), importlib.util.find_spec("pip"))
"""


@pytest.fixture(scope="module")
def loaded(stage: Stage) -> Stage:
    """Nodes that have the image."""
    stage.nodes.load(images.operator(say=lambda _line: None))
    return stage


def run(stage: Stage, name: str, change: dict[str, Any] | None = None, **container: Any) -> tuple[int, str]:
    """Run the Deployment's pod once, without a ServiceAccount's token; return its exit code and what it said.

    `change` is laid over its spec, `container` over its container's.
    """
    spec = pick(render(stage.lab, DEPLOY), "Deployment", "voicekeys-operator")["spec"]["template"]["spec"]
    (found,) = spec["containers"]
    made = {key: value for key, value in found.items() if not key.endswith("Probe")}
    spec.pop("priorityClassName")  # which deploy/ makes, too
    once = {"automountServiceAccountToken": False, "restartPolicy": "Never", "serviceAccountName": "default"}
    own = {**made, "imagePullPolicy": "Never", **container}
    pod = {**spec, **once, **(change or {}), "containers": [own]}
    stage.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod})
    state = eventually(lambda: ended(stage, name), f"{name} ended", 60) or {}
    return state["exitCode"], stage.kubectl("logs", name)


def ended(stage: Stage, name: str) -> dict[str, Any] | None:
    """How the pod's container ended, once it has."""
    statuses = (stage.pod(name) or {}).get("status", {}).get("containerStatuses", [])
    return next((each["state"]["terminated"] for each in statuses if "terminated" in each["state"]), None)


def test_it_starts_as_the_deployments_user_and_asks_for_a_cluster(loaded: Stage) -> None:
    code, said = run(loaded, "start")
    assert code == 1, said
    assert "cannot run" in said
    assert "Traceback" not in said


def test_it_is_the_code_of_this_tree_with_no_pip_in_it(loaded: Stage) -> None:
    assert run(loaded, "look", command=[*PYTHON, LOOK]) == (0, f"{__version__} 65532 65532 None\n")


def test_where_a_pod_names_no_user_it_is_the_images(loaded: Stage) -> None:
    """Of an image's user and group a kubelet takes the user alone: the Deployment names both."""
    change = {"securityContext": {"runAsNonRoot": True}}
    assert run(loaded, "unnamed", change, command=[*PYTHON, LOOK]) == (0, f"{__version__} 65532 0 None\n")
