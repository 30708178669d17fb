"""`namespace:` in an overlay moves the operator: rights, policies and Services go with it, and it reads a key there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.conftest import HOME, OPERATOR
from tests.deploy.manifests import ROOT, render
from tests.deploy.overlays import of_the_page, write
from tests.lab import Lab
from tests.lab.http import ApiError
from tests.lab.processes import eventually
from tests.reconcilers.harness import Operator, errors
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTALL = ROOT / "operator" / "docs" / "install.md"

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane]


@pytest.fixture(scope="module")
def home() -> str:
    """The namespace of the page's line."""
    (line,) = re.findall(r"^`(namespace: .*?)` in your overlay", INSTALL.read_text(), re.MULTILINE)
    named: str = yaml.safe_load(line)["namespace"]
    return named


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory, home: str) -> Path:
    """The page's overlay with that line."""
    return write(tmp_path_factory.mktemp("my-cluster"), {**of_the_page(INSTALL), "namespace": home})


@pytest.fixture(scope="module")
def moved(overlay: Path) -> Iterator[Lab]:
    """A lab on which the overlay was applied, and nothing else."""
    with Lab.start(nodes=1) as lab:
        lab.kubectl("apply", "-k", overlay, "--server-side", "--validate=strict")
        yield lab


def test_nothing_of_it_is_left_in_the_usual_namespace(moved: Lab, overlay: Path, home: str) -> None:
    objects = [each for each in render(moved, overlay) if each["kind"] != "CustomResourceDefinition"]
    assert {each["metadata"]["namespace"] for each in objects if "namespace" in each["metadata"]} == {home}
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"] == [home]
    # Where the gauge's image is looked up: install.md says that it has to be changed by hand, and for what.
    by_hand = {"voicekeys-operator-workloads", "voicekeys-operator-gauge"}
    assert {each["metadata"]["name"] for each in objects if HOME in json.dumps(each)} <= by_hand


def test_it_reads_a_key_there(moved: Lab, home: str) -> None:
    operator = Operator(moved, account=f"{home}/{OPERATOR}", leader_election=True, pod_namespace=home).start()
    world = World(moved, operator)
    world.put(api_key="k-0001-elsewhere")
    world.deploy(replicas=1)
    world.bind(agents=[{"kind": "Deployment", "name": "agent"}])
    world.ready(version=1)
    assert world.data() == {"api_key": b"k-0001-elsewhere"}
    world.put(api_key="k-0002-elsewhere")
    world.idle(version=2)
    assert moved.api("GET", f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases/{OPERATOR}")
    assert moved.api("GET", f"/api/v1/namespaces/{home}/secrets/voicekeys-fingerprint-key")
    # The API server says that for a moment after a CRD is made.
    assert [line for line in errors(operator) if "storage is (re)initializing" not in str(line)] == []
    assert operator.stop() == 0
    world.close()


def test_the_policies_hold_it_there(moved: Lab, home: str) -> None:
    tenant = moved.make_namespace("a-tenant")
    token = moved.cluster.token_for(home, OPERATOR)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}}
    path = f"/api/v1/namespaces/{tenant}/secrets/foreign?fieldManager=voicekeys&dryRun=All"

    def refusal() -> str:
        try:
            moved.api("PATCH", path, secret, token=token, content_type="application/apply-patch+yaml")
        except ApiError as error:
            return str(error)
        return ""

    eventually(lambda: "voicekeys may write only Secrets that carry the labels" in refusal(), "refused")
