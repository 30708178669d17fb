"""A cluster without MutatingAdmissionPolicy, as before Kubernetes 1.36, and a team without cluster rights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.manifests import DEPLOY, NAMESPACED, render
from tests.lab import Lab, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

BEFORE = DEPLOY / "overlays" / "before-1.36"
STRICT = ("--server-side", "--validate=strict")
KINDS = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
NOT_SERVED = (
    f"--runtime-config={','.join(f'admissionregistration.k8s.io/v1/{kind}=false' for kind in KINDS)}",
    "--disable-admission-plugins=MutatingAdmissionPolicy",
)


@pytest.fixture(scope="module")
def old(own_control_plane: None) -> Iterator[Lab]:  # noqa: ARG001
    """A lab whose API server does not serve the two kinds."""
    with Lab.start(nodes=0, scheduler=False, controller_manager=False, apiserver_flags=NOT_SERVED) as lab:
        served = {one["name"] for one in lab.api("GET", "/apis/admissionregistration.k8s.io/v1")["resources"]}
        assert "validatingadmissionpolicies" in served
        assert not served & set(KINDS)
        yield lab


def test_there_its_overlay_applies(old: Lab) -> None:
    old.kubectl("apply", "-k", BEFORE, *STRICT)


def test_and_all_of_deploy_does_not(old: Lab) -> None:
    """What makes the overlay worth something."""
    with pytest.raises(LabError, match='no matches for kind "MutatingAdmissionPolicy"'):
        old.kubectl("apply", "-k", DEPLOY, *STRICT)


def test_the_overlay_lacks_the_arming_alone(armed: Lab) -> None:
    everything, before = render(armed, DEPLOY), render(armed, BEFORE)
    lacking = [one for one in everything if one not in before]
    assert sorted(one["kind"] for one in lacking) == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]
    assert [one for one in before if one not in everything] == []


def test_a_team_cannot_install_it_and_gets_none(armed: Lab) -> None:
    """It is cluster-scoped: their agents are armed by Template, unless an administrator installs it for all."""
    kinds = {one["kind"] for one in render(armed, NAMESPACED)}
    assert not {kind for kind in kinds if "Admission" in kind}
