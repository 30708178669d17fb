"""The lab of the reconcile tests, and a small world in memory, for faults that were once there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reconcilers.check import check_binding
from tests.reconcilers.conftest import account, cluster, operator, pytest_pyfunc_call, statuses, together, world
from tests.regressions.calls import agent_with_a_call
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


@pytest.fixture
def armed() -> Iterator[Small]:
    """An agent whose pod is armed and has a call; its bindings keep the laws of a status at the end."""
    yield from _lawful(armed=True)


@pytest.fixture
def unarmed() -> Iterator[Small]:
    """The same, but its pod was made before it could be armed."""
    yield from _lawful(armed=False)


def _lawful(*, armed: bool) -> Iterator[Small]:
    with agent_with_a_call(armed=armed) as made:
        yield made
        for raw in made.cluster.bindings.values():
            check_binding(raw)
