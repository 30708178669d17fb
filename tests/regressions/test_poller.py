"""Polling faults that were once there: what Vault's operators would have seen."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from voicekeys.model.errors import StoreDown
from voicekeys.model.identity import Identity, Name, SourceId
from voicekeys.model.payload import KeyVersion, Payload
from voicekeys.reconcilers.poller import StorePoller

if TYPE_CHECKING:
    import pytest

WHO = Identity("tenant", "voicekeys-reader")


class Clock:
    """Time that passes at once: a sleep moves it."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at


class Vault:
    """Answers, but for the paths in `ill`, as if it were down."""

    def __init__(self, *ill: str) -> None:
        self.ill = set(ill)
        self.reads: list[str] = []
        self.times: list[float] = []
        self.clock = Clock()

    async def read(self, identity: Identity, path: str, version: int = 0) -> KeyVersion:
        del identity, version
        self.reads.append(path)
        self.times.append(self.clock.at)
        if path in self.ill or "*" in self.ill:
            raise StoreDown("VaultError", "it answered 500")
        return KeyVersion(1, datetime(2026, 1, 1, tzinfo=UTC), Payload({"key": b"a value of no one"}))

    async def close(self) -> None:
        pass


def poller_of(vault: Vault, clock: Clock, states: list[bool], interval: float | None = 5) -> StorePoller:
    vault.clock = clock
    made: list[StorePoller] = []
    made.append(
        StorePoller(
            vault,
            clock,
            random.Random(1),
            reads_per_second=10,
            interval=interval,
            on_change=lambda _: None,
            on_state=lambda: states.append(made[0].down is None),
            on_lag=lambda _: None,
        )
    )
    return made[0]


async def run_for(poller: StorePoller, clock: Clock, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a poller for so many seconds of its own time."""
    real, ends = asyncio.sleep, clock.at + seconds

    async def sleep(wait: float | None) -> None:
        await real(0)
        if wait is None:
            await real(0.001)
        elif wait > 0:
            clock.at += wait

    monkeypatch.setattr(poller, "_sleep", sleep)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    task = asyncio.create_task(poller.run())
    while clock.at < ends:
        await real(0)
        assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    monkeypatch.undo()


async def test_one_ill_path_does_not_take_the_store_down(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, vault, states = Clock(), Vault("ill"), list[bool]()
    poller = poller_of(vault, clock, states)
    for path in ("ill", *(f"good-{number}" for number in range(20))):
        poller.subscribe(SourceId("store", WHO, path), Name("tenant", path))
    await run_for(poller, clock, 600, monkeypatch)
    assert vault.reads.count("ill") <= 20, "a path that fails is read with backoff"
    assert len(states) <= 8, "the store does not flap"
    assert poller.down is None


async def test_a_source_that_is_new_in_an_outage_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, vault = Clock(), Vault("*")
    poller = poller_of(vault, clock, [])
    for number in range(20):
        poller.subscribe(SourceId("store", WHO, f"path-{number}"), Name("tenant", f"voice-{number}"))
    await run_for(poller, clock, 60, monkeypatch)
    source = poller.subscribe(SourceId("store", WHO, "new"), Name("tenant", "new"))
    assert not source.pending
    assert source.error is not None
    vault.ill.clear()
    await run_for(poller, clock, 60, monkeypatch)
    assert source.key is not None
    assert source.error is None
