"""Kubernetes does what the design takes for granted (K1 to K17, K22): the scenes of facts.py, several at a time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.nodes.facts import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nodes.stage import Stage

# As many as two cores carry without being late.
AT_ONCE = 6
SECONDS = 240


@pytest.fixture(scope="module")
def played(stage: Stage, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """Play the scenes of all tests that were asked for."""
    chosen = [name for name in FACTS if any(item.name == f"test_kubernetes[{name}]" for item in request.session.items)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(FACTS[name], stage) for name in chosen}


@pytest.mark.parametrize("name", FACTS)
def test_kubernetes(name: str, played: dict[str, Future[None]]) -> None:
    played[name].result(SECONDS)
