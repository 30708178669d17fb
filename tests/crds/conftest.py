"""The lab with our CRDs on it, for tests of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crds.schemas import BINDINGS, CRDS, STORES

if TYPE_CHECKING:
    from tests.lab import Lab


@pytest.fixture(scope="session")
def api(lab: Lab) -> Lab:
    """Return the run's lab once its API server serves both kinds."""
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-k", CRDS)
    names = [f"crd/{plural}.voicekeys.dev" for plural in (BINDINGS, STORES)]
    lab.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    return lab
