"""Agents for one test each, closed after it; and hypothesis' profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agent.support import Pod
from tests.gen import examples
from voicekeys.agent import Agent, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["examples"]


@pytest.fixture
def make_pod() -> Iterator[Callable[..., Pod]]:
    """Start agents that serve on a free port, with a token and short times."""
    agents: list[Agent] = []

    def make(**settings: object) -> Pod:
        agent = Agent()
        agents.append(agent)
        short = {"port": 0, "token": "workload-token", "settle": 0.05, "gather": 0.0, **settings}
        return Pod(agent.serve(settings=Settings(**short)), agent)  # type: ignore[arg-type]

    yield make
    for agent in agents:
        agent.close()


@pytest.fixture
def pod(make_pod: Callable[..., Pod]) -> Pod:
    """One such agent."""
    return make_pod()
