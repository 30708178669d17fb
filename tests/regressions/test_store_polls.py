"""How often, and how much at once, a store is read: by its own spec, as Vault's operators would count it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.regressions.small import NS, Small
from voicekeys.model.identity import Identity, Name, SourceId
from voicekeys.reconcilers.poller import BURST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicekeys.reconcilers.source import Source

PATHS = 200


@pytest.fixture
def small() -> Iterator[Small]:
    with Small() as made:
        for number in range(PATHS):
            made.put("one", path=f"voice/{number}")
        yield made


def subscribe(small: Small) -> list[Source]:
    """Have every path read, and its first read done."""
    wanted = [SourceId("default", Identity(NS, "voicekeys-reader"), f"voice/{number}") for number in range(PATHS)]
    sources = [small.stores.subscribe(Name(NS, one.path[6:]), one, "p") for one in wanted]
    assert None not in sources
    small.pass_by(1)
    return [one for one in sources if one is not None]


def reads(small: Small, seconds: float) -> int:
    """How often Vault is read meanwhile."""
    begun = len(small.vault.times)
    small.pass_by(seconds, 10)
    return len(small.vault.times) - begun


@pytest.mark.parametrize(
    ("poll", "a_second"),
    [
        pytest.param({}, 10, id="the default budget"),
        pytest.param({"readsPerSecond": 2}, 2, id="a smaller budget"),
        pytest.param({"readsPerSecond": 30}, 30, id="a larger budget"),
        pytest.param({"interval": "50s"}, PATHS / 50, id="an interval"),
        pytest.param({"interval": "50s", "readsPerSecond": 30}, PATHS / 50, id="an interval wins"),
    ],
)
def test_a_store_is_read_as_often_as_its_spec_says(small: Small, poll: dict[str, object], a_second: float) -> None:
    small.store(poll=poll)
    subscribe(small)
    small.pass_by(120, 10)
    assert reads(small, 300) == pytest.approx(300 * a_second, rel=0.1)


def test_an_edited_budget_holds_from_then_on(small: Small) -> None:
    subscribe(small)
    small.store(poll={"readsPerSecond": 2})
    subscribe(small)
    small.pass_by(120, 10)
    assert reads(small, 300) == pytest.approx(600, rel=0.1)


def test_first_and_notified_reads_have_a_limit_of_their_own(small: Small) -> None:
    sources = subscribe(small)
    assert all(source.key is not None for source in sources), "all at once: the read budget does not hold them up"
    assert small.vault.most_in_flight == BURST == 32
    small.pass_by(60)
    small.vault.most_in_flight = 0
    for source in sources:
        small.stores.notify("default", source.id.path)
    begun = len(small.vault.times)
    small.pass_by(1)
    assert len(small.vault.times) - begun >= PATHS
    assert small.vault.most_in_flight == BURST
