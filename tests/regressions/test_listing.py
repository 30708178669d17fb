"""An operator that may not list pods: nothing can be restarted, and a user has to learn of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reconcilers import objects
from tests.reconcilers.harness import Operator
from tests.reconcilers.world import World, is_true

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

pytestmark = pytest.mark.simulated_nodes

BLIND = "blind-operator"
RIGHTS = {
    "": ["secrets", "configmaps", "namespaces", "events", "serviceaccounts", "serviceaccounts/token", "resourcequotas"],
    "events.k8s.io": ["*"],
    "apps": ["*"],
    "voicekeys.dev": ["*"],
}


@pytest.fixture
def blind(cluster: Lab) -> Iterator[Operator]:
    """All rights but those on pods."""
    rules = [{"apiGroups": [group], "resources": names, "verbs": ["*"]} for group, names in RIGHTS.items()]
    subject = {"kind": "ServiceAccount", "name": BLIND, "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": BLIND}
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": BLIND}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": BLIND, "namespace": "default"}}
    cluster.apply(
        [
            account,
            {**api, "kind": "ClusterRole", "rules": rules},
            {**api, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]},
        ]
    )
    running = Operator(cluster, "blind", account=f"default/{BLIND}").start()
    yield running
    running.stop()


def test_pods_that_cannot_be_listed_are_told(cluster: Lab, blind: Operator) -> None:
    world = World(cluster, blind)
    try:
        world.put()
        world.deploy(replicas=1)
        world.bind(agents=[objects.agent()])
        world.ready(version=1)
        world.change()
        world.until("AgentsCurrent", "False", "PodsNotListed", seconds=20)
        assert not is_true(world.binding(), "Ready")
    finally:
        world.close()
