"""A lab of its own with all of `deploy/` on it, and an audit log, for the tests of leaks, tenants and standby."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.audit import Audit
from tests.deploy.conftest import own_pods
from tests.lab import Lab
from tests.reconcilers.harness import install_deploy
from tests.security.planting import OBJECTS, PROCESS, Plants, made_up, plant, seen

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The audit log of `cluster`."""
    return Audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="package")
def cluster(own_control_plane: None, audit: Audit) -> Iterator[Lab]:  # noqa: ARG001
    """A lab with `deploy/`, whose pods are simulated: the tests' operators are processes that name one as theirs."""
    with Lab.start(nodes=1, apiserver_flags=audit.flags) as lab:
        install_deploy(lab)
        lab.kubectl("-n", "voicekeys-system", "scale", "deployment", "voicekeys-operator", "--replicas=2")
        own_pods(lab)
        yield lab


@pytest.fixture(scope="package")
def plants(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Plants:
    """A leak in each place."""
    keys = made_up()
    return Plants(keys, plant(cluster, keys, tmp_path_factory.mktemp("planted")))


@pytest.fixture(scope="package")
def leaks_were_seen(plants: Plants) -> frozenset[str]:
    """The places whose planted leak was seen: what the canary's run rests on."""
    return frozenset(place for place in (*PROCESS, *OBJECTS) if seen(plants.evidence, plants.keys, place))


@pytest.fixture(scope="package")
def approle(cluster: Lab) -> tuple[str, str]:
    """A role id and a secret id that read every path."""
    return cluster.enable_approle()
