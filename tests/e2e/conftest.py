"""How long the random test goes on, and which of its runs: `--seconds N --seed N`."""

from __future__ import annotations

import random

import pytest

SHORT = 15.0  # seconds of events in an ordinary test run; bringing all to its end comes on top


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; pytest takes them when this folder is named on its command line."""
    group = parser.getgroup("voicekeys")
    group.addoption("--seconds", type=float, default=SHORT, help=f"e2e: seconds of random events (default {SHORT:g})")
    group.addoption("--seed", type=int, default=None, help="e2e: repeat a run by the seed that it printed")


@pytest.fixture
def seconds(pytestconfig: pytest.Config) -> float:
    """Seconds of random events."""
    return float(pytestconfig.getoption("seconds", SHORT))


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """The seed: given, or new each time."""
    given = pytestconfig.getoption("seed", None)
    return random.SystemRandom().randrange(10**6) if given is None else int(given)
