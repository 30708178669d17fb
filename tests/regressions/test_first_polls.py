"""The first polls after a start: not while it is still busy with the start, and not all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.regressions.test_poller import WHO, Clock, Vault, poller_of, run_for
from voicekeys.model.identity import Name, SourceId

if TYPE_CHECKING:
    import pytest

PATHS, INTERVAL, BUDGET = 200, 5.0, 10


async def test_first_polls_let_the_start_pass_and_then_keep_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, vault = Clock(), Vault()
    poller = poller_of(vault, clock, [])
    for number in range(PATHS):
        poller.subscribe(SourceId("store", WHO, f"path-{number}"), Name("tenant", f"voice-{number}"))
    await run_for(poller, clock, 0.2 * INTERVAL, monkeypatch)
    assert len(set(vault.reads)) == PATHS
    assert len(vault.reads) <= PATHS + 1, "in a fifth of an interval each path is read once, and the next is due later"
    dues = sorted((source.due - 1000) / INTERVAL for source in poller.sources.values())[
        :-1
    ]  # one may have had its turn
    assert dues[-2] < 1.3
    fullest = max(sum(1 for due in dues if start <= due < start + 0.25) for start in dues)
    assert fullest < 0.25 * PATHS * 1.5, "no quarter of an interval has much more than a quarter of the polls"


async def test_polls_never_exceed_the_budget_nor_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, vault = Clock(), Vault()
    poller = poller_of(vault, clock, [], interval=None)
    for number in range(PATHS):
        poller.subscribe(SourceId("store", WHO, f"path-{number}"), Name("tenant", f"voice-{number}"))
    await run_for(poller, clock, 3, monkeypatch)
    assert len(set(vault.reads)) == PATHS
    for outage in (False, True):
        vault.ill = {"*"} if outage else set()
        await run_for(poller, clock, 40, monkeypatch)
        vault.ill = set()
        begun = len(vault.times)
        await run_for(poller, clock, 60, monkeypatch)
        polls = [at for at in vault.times[begun:] if at > vault.times[begun] + 1]
        fullest = max(sum(1 for at in polls if start <= at < start + 1) for start in polls)
        assert fullest <= BUDGET + 1, f"{fullest} polls in one second"
        assert len(polls) > 0.8 * BUDGET * 55, "and the budget is used"


async def test_a_notified_read_does_not_wait_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, vault = Clock(), Vault()
    poller = poller_of(vault, clock, [], interval=None)
    for number in range(PATHS):
        poller.subscribe(SourceId("store", WHO, f"path-{number}"), Name("tenant", f"voice-{number}"))
    await run_for(poller, clock, 60, monkeypatch)
    now = clock.at
    for source in poller.sources.values():
        poller.read_now(source)
    begun = len(vault.times)
    await run_for(poller, clock, 0.5, monkeypatch)
    assert len(vault.times) - begun >= PATHS, "all that were asked for were read at once"
    assert vault.times[begun] - now < 0.2
