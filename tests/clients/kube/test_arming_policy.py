"""Whether new pods are armed by the API server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from voicekeys.clients.kube.cluster import KubeCluster
from voicekeys.clients.kube.credentials import load_credentials
from voicekeys.clients.kube.session import KubeSession

if TYPE_CHECKING:
    from tests.lab import Lab

POLICY = Path(__file__).parents[3] / "deploy" / "components" / "arming" / "policy.yaml"
POLICIES = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"


async def test_it_is_known_whether_pods_are_armed(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    """By the policy alone, without its binding, so that no other test of this lab meets it."""
    policy, _ = yaml.safe_load_all(POLICY.read_text())
    poor = KubeSession(load_credentials(str(lab.kubeconfig_for(f"{namespace}/nobody"))))
    assert await cluster.has_arming_policy() is False
    lab.apply(policy)
    try:
        assert await cluster.has_arming_policy() is True
        assert await KubeCluster(poor).has_arming_policy() is None
    finally:
        await poor.close()
        lab.api("DELETE", f"{POLICIES}/{policy['metadata']['name']}")
    assert not await cluster.has_arming_policy()
