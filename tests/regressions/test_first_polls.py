"""The first polls after a start: not while it is still busy with the start, and not all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.regressions.test_poller import WHO, Clock, Vault, poller_of, run_for
from voicekeys.model.identity import Name, SourceId

if TYPE_CHECKING:
    import pytest

PATHS, INTERVAL = 200, 5.0


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
