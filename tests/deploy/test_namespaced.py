"""The install for one team: no right outside the team's namespaces, and inside the same as in the cluster install."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.conftest import OPERATOR, TEAM
from tests.deploy.manifests import NAMESPACED, Object, pick, render
from tests.deploy.reviews import own_rights
from tests.deploy.test_rbac import AT_HOME, EVERYWHERE, expected
from tests.lab.http import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

ACCOUNT = f"{TEAM}/{OPERATOR}"
FORBIDDEN = 403


def test_there_is_no_cluster_scoped_object_in_it(team: Lab) -> None:
    for each in render(team, NAMESPACED):
        assert "/namespaces/voice-prod/" in team.cluster.path(each), f"{each['kind']} {each['metadata']['name']}"
        assert each["metadata"]["namespace"] == TEAM
        assert each["kind"] not in {"ClusterRole", "ClusterRoleBinding"}


def test_in_the_teams_namespace_the_rights_of_the_cluster_install(team: Lab) -> None:
    # Namespaces are cluster-scoped, yet a Role may grant reading the one that it is in.
    own = {each for each in own_rights(team, ACCOUNT, TEAM) if each.resource != "namespaces"}

    assert own == expected(EVERYWHERE | AT_HOME, TEAM)


@pytest.mark.parametrize("where", ["voice-staging", "kube-system", ""], ids=["neighbour", "kube-system", "cluster"])
def test_outside_none(team: Lab, where: str) -> None:
    assert own_rights(team, ACCOUNT, where) == set()


def test_it_reads_the_labels_of_its_namespace_and_of_no_other(team: Lab) -> None:
    token = team.cluster.token_for(TEAM, OPERATOR)

    assert team.api("GET", f"/api/v1/namespaces/{TEAM}", token=token)["metadata"]["labels"]
    for path in ("/api/v1/namespaces/voice-staging", "/api/v1/namespaces"):
        with pytest.raises(ApiError) as refusal:
            team.api("GET", path, token=token)
        assert refusal.value.status == FORBIDDEN


def test_its_stores_are_files_that_the_crd_would_accept(team: Lab) -> None:
    manifests = render(team, NAMESPACED)
    (config,) = (each for each in manifests if each["kind"] == "ConfigMap")
    pod = pick(manifests, "Deployment", OPERATOR)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = {each["name"]: each.get("value") for each in container["env"]}
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}

    assert settings["VOICEKEYS_NAMESPACES"] == TEAM
    assert settings["VOICEKEYS_STORES_DIR"] == mounts["stores"]
    assert volumes["stores"]["configMap"]["name"] == config["metadata"]["name"]
    for text in config["data"].values():
        store = yaml.safe_load(text)
        team.api("POST", "/apis/voicekeys.dev/v1alpha1/voicekeystores?dryRun=All", store)


def test_it_needs_no_priority_class_which_a_team_cannot_make(team: Lab) -> None:
    pod = pick(render(team, NAMESPACED), "Deployment", OPERATOR)["spec"]["template"]["spec"]

    assert "priorityClassName" not in pod


def test_a_second_namespace_is_four_lines(team: Lab, tmp_path: Path) -> None:
    """As tenant/kustomization.yaml says: the same rights there, for the operator that runs in the first."""
    base = os.path.relpath(NAMESPACED / "tenant", tmp_path)
    lines: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "voice-staging",
        "resources": [base],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(lines))

    manifests = render(team, tmp_path)

    (role, binding) = manifests
    assert {each["metadata"]["namespace"] for each in manifests} == {"voice-staging"}
    assert role["kind"] == "Role"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": TEAM}]
