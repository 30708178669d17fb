"""A lab with our kinds and the arming policy, as `kubectl apply -k deploy/` installs them, and no operator at all."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.deploy.arming.pods import await_arming
from tests.deploy.manifests import DEPLOY
from tests.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

ARMING = DEPLOY / "components" / "arming" / "policy.yaml"
_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def armed(own_control_plane: None) -> Iterator[Lab]:  # noqa: ARG001
    """The lab, once its API server arms pods."""
    with Lab.start(nodes=1) as lab:
        for file in sorted((DEPLOY.parent / "crds").glob("voicekeys.dev_*.yaml")):
            lab.apply(file)
        lab.kubectl("apply", "-f", ARMING, "--server-side", "--validate=strict")
        lab.make_namespace("warm-up")
        await_arming(lab, "warm-up")
        yield lab


@pytest.fixture
def tenant(armed: Lab) -> str:
    """A fresh namespace of that lab."""
    return armed.make_namespace(f"tenant-{next(_numbers)}")
