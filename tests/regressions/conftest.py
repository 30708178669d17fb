"""The lab of the reconcile tests, and a small world in memory, for faults that were once there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reconcilers.conftest import account, cluster, operator, pytest_pyfunc_call, statuses, together, world
from tests.regressions.small import Small

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["account", "cluster", "operator", "pytest_pyfunc_call", "statuses", "together", "world"]


@pytest.fixture
def small() -> Iterator[Small]:
    """One agent with one pod on the first key, all settled."""
    with Small() as made:
        made.deploy()
        made.pod("old")
        made.bind()
        made.pass_by(5)
        yield made
