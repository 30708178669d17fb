"""What every test may ask for: `lab`, one lab for the whole run, and `namespace`, a fresh one for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.lab import Lab

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Start the run's lab, and end it after the last test."""
    with Lab.start() as started:
        yield started


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """Make a namespace for one test, deleted after it (its pods end in the background)."""
    name = f"test-{next(_numbers)}"
    lab.make_namespace(name)
    yield name
    lab.api("DELETE", f"/api/v1/namespaces/{name}")
