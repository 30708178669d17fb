"""The floodgate of a store: one tenant cannot shut it, and what never reached Vault does not open it."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.regressions import virtual
from voicekeys.model.errors import SourceDenied, SourceError, SourceMissing, StoreDown
from voicekeys.model.identity import OPERATOR, Identity, Name, SourceId
from voicekeys.model.payload import KeyVersion, Payload
from voicekeys.reconcilers.poller import QUIET_OUTAGE_SECONDS, StorePoller

if TYPE_CHECKING:
    from voicekeys.reconcilers.source import Source

BUDGET = 10


class Place:
    """A poller whose Vault answers but for what a test breaks."""

    def __init__(self) -> None:
        self.clock = virtual.clock()
        self.version = 1
        self.dead = False
        self.ill: set[str] = set()  # namespaces whose paths fail as if Vault were down
        self.missing: set[str] = set()  # namespaces with nothing at their paths
        self.without: set[str] = set()  # namespaces without the ServiceAccount that reads
        self.asked: list[tuple[float, str]] = []  # when Vault was, by whom
        self.states: list[bool] = []
        self.lags: list[float] = []
        self.told: list[tuple[float, str, str]] = []
        self.poller = StorePoller(
            self,
            self.clock,
            random.Random(1),
            reads_per_second=BUDGET,
            interval=None,
            on_change=self._told,
            on_state=lambda: self.states.append(self.poller.down is None),
            on_lag=self.lags.append,
        )
        self.running = asyncio.create_task(self.poller.run())

    async def read(self, identity: Identity, path: str, version: int = 0) -> KeyVersion:
        del version
        namespace = identity.namespace or path.partition("/")[0]
        await asyncio.sleep(0.005)
        if namespace in self.without:
            raise SourceDenied("CredentialUnavailable", "no ServiceAccount", answered=False)
        self.asked.append((self.clock.time(), namespace))
        await asyncio.sleep(0.01)
        if self.dead or namespace in self.ill:
            raise StoreDown("VaultUnreachable", "no connection")
        if namespace in self.missing:
            raise SourceMissing("PathNotFound", "there is no such key")
        return KeyVersion(self.version, datetime(2026, 1, 1, tzinfo=UTC), Payload({"key": b"a value of no one"}))

    async def close(self) -> None:
        pass

    def _told(self, source: Source) -> None:
        self.told.append((self.clock.time(), source.namespace, source.error.reason if source.error else ""))

    def add(self, namespace: str, number: int, *, lent: bool = False) -> list[Source]:
        made = []
        for each in range(number):
            who = OPERATOR if lent else Identity(namespace, "voicekeys-reader")
            name = Name(namespace, f"{namespace}-{each}")
            made.append(self.poller.subscribe(SourceId("store", who, f"{namespace}/{name.name}"), name))
        return made

    async def arrival(self, sources: list[Source], most: float = 600) -> float:
        """Put new keys, notify, and give the seconds until all have arrived."""
        self.version += 1
        began = self.clock.time()
        for source in sources:
            self.poller.read_now(source)
        while any(source.key is None or source.key.version != self.version for source in sources):
            await asyncio.sleep(0.05)
            assert self.clock.time() - began < most, "they did not arrive"
        return self.clock.time() - began

    def since(self, moment: float, namespace: str = "") -> int:
        return sum(1 for at, who in self.asked if at >= moment and namespace in {"", who})


async def polling() -> Place:
    place = Place()
    place.add("good", 20)
    await asyncio.sleep(60)
    assert place.poller.answered
    return place


def test_a_tenants_bad_paths_delay_nobodys_keys() -> None:
    async def main(number: int, *, lent: bool = False) -> None:
        place = await polling()
        place.ill.add("evil")
        place.add("evil", number, lent=lent)
        good = [one for one in place.poller.sources.values() if one.namespace == "good"]
        began = place.clock.time()
        for pause in (0, 1, 10, 60, 300, 900):
            await asyncio.sleep(pause)
            assert await place.arrival(good) < 0.5, f"{number} bad paths, after {pause} s"
        assert not any(error for _, who, error in place.told if who == "good")
        assert place.states == [], "the gate was never shut"
        assert place.since(began, "evil") < 12 * number, "they are tried again with backoff"

    for number in (1, 40, 200):
        virtual.run(main(number))
    virtual.run(main(40, lent=True))


def test_paths_that_were_good_and_turn_bad_do_not_shut_the_gate_either() -> None:
    async def main() -> None:
        place = await polling()
        evil = place.add("evil", 100)
        await asyncio.sleep(60)
        place.ill.add("evil")
        good = [one for one in place.poller.sources.values() if one.namespace == "good"]
        for pause in (0, 5, 5, 5, 30, 300):
            await asyncio.sleep(pause)
            assert await place.arrival(good) < 0.5
        assert place.states == []
        assert all(isinstance(one.error, StoreDown) and one.key is not None for one in evil), "and their bindings know"

    virtual.run(main())


def test_with_two_bad_namespaces_a_good_one_opens_the_gate_at_once() -> None:
    async def main() -> None:
        place = await polling()
        for namespace in ("evil", "worse"):
            place.add(namespace, 30)
        await asyncio.sleep(60)
        place.ill |= {"evil", "worse"}
        good = [one for one in place.poller.sources.values() if one.namespace == "good"]
        for pause in (0, 1, 5, 30, 60, 300):
            await asyncio.sleep(pause)
            assert await place.arrival(good) < 2
        assert place.states == [], "each time it was open again before anybody was told"
        assert not any(error for _, who, error in place.told if who == "good")

    virtual.run(main())


def test_bad_paths_that_come_first_keep_the_gate_shut_for_one_probe() -> None:
    async def main() -> None:
        place = Place()
        place.ill.add("evil")
        place.add("evil", 100)
        await asyncio.sleep(5)
        assert place.poller.down is not None, "nothing has ever answered"
        good = place.add("good", 20)
        assert await place.arrival(good) < 35, "one probe's wait is 30 s at most"
        assert await place.arrival(good) < 0.5

    virtual.run(main())


@pytest.mark.parametrize("namespaces", [1, 2, 5])
@pytest.mark.parametrize("missing", [False, True], ids=["keys", "no keys"])
def test_an_outage_shuts_the_gate_after_two_reads_or_three(namespaces: int, *, missing: bool) -> None:
    async def main() -> None:
        place = Place()
        for number in range(namespaces):
            place.add(f"tenant-{number}", 100 // namespaces)
        if missing:
            place.missing |= {f"tenant-{number}" for number in range(namespaces)}
        await asyncio.sleep(60)
        place.dead = True
        began = place.clock.time()
        while place.poller.down is None:
            await asyncio.sleep(0.01)
            assert place.clock.time() - began < 60
        assert place.since(began) <= 6
        await asyncio.sleep(QUIET_OUTAGE_SECONDS + 35)
        kept = [error for at, _, error in place.told if at >= began]
        told = kept.count("VaultUnreachable")
        assert told <= 15 if missing else told == 100, "without a key each is told when it is the probe"
        await asyncio.sleep(1800)
        assert place.since(began) < 120, "one probe at a time, with backoff"
        assert len([one for one in place.told if one[0] >= began]) <= 100 * 2

    virtual.run(main())


def test_a_short_outage_is_nobodys_news() -> None:
    async def main() -> None:
        place = await polling()
        before = len(place.told)
        place.dead = True
        await asyncio.sleep(QUIET_OUTAGE_SECONDS - 3)
        place.dead = False
        await asyncio.sleep(60)
        assert len(place.told) == before
        assert place.poller.down is None

    virtual.run(main())


def test_after_an_outage_what_was_asked_for_comes_at_once_and_the_rest_at_the_budget() -> None:
    async def main() -> None:
        place = Place()
        many = place.add("many", 1000)
        await asyncio.sleep(200)
        place.dead = True
        await asyncio.sleep(120)
        fresh = place.add("fresh", 10)
        place.version += 1
        for source in many[:10]:
            place.poller.read_now(source)
        await asyncio.sleep(300)
        place.dead = False
        while place.poller.down is not None:
            await asyncio.sleep(0.01)
        opened = place.clock.time()
        await asyncio.sleep(0.5)
        assert all(source.key is not None and source.key.version == 2 for source in (*many[:10], *fresh))
        await asyncio.sleep(60)
        later = [at for at, _ in place.asked if at > opened + 0.5]
        assert max(sum(1 for at in later if one <= at < one + 1) for one in later) <= BUDGET + 1
        assert len(later) > 0.9 * BUDGET * 59

    virtual.run(main())


def test_a_read_that_was_asked_for_when_the_outage_began_is_still_urgent_after_it() -> None:
    async def main() -> None:
        place = Place()
        many = place.add("many", 500)
        await asyncio.sleep(120)
        place.dead = True
        place.version += 1
        for source in many[:20]:
            place.poller.read_now(source)
        await asyncio.sleep(100)
        place.dead = False
        while place.poller.down is not None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert all(source.key is not None and source.key.version == 2 for source in many[:20])

    virtual.run(main())


@pytest.mark.parametrize("bad", [1, 30])
def test_a_dead_vault_is_not_alive_because_a_credential_is_missing(bad: int) -> None:
    async def main() -> None:
        place = await polling()
        place.add("unable", bad)
        place.without.add("unable")
        await asyncio.sleep(60)
        place.dead = True
        began, states = place.clock.time(), len(place.states)
        await asyncio.sleep(30)
        samples = 0
        for _ in range(1800):
            await asyncio.sleep(1)
            samples += place.poller.down is None
        assert samples == 0, "the gate stays shut and the store is not said to answer"
        assert True not in place.states[states:]
        assert place.since(began) < 120
        good = [error for at, who, error in place.told if at >= began and who == "good"]
        assert good == ["VaultUnreachable"] * 20, "told once"
        place.dead = False
        await asyncio.sleep(35)
        assert place.poller.down is None

    virtual.run(main())


def test_sources_that_cannot_ask_do_not_say_that_vault_answers_nor_that_it_is_down() -> None:
    async def main() -> None:
        place = Place()
        place.without.add("unable")
        place.add("unable", 3)
        await asyncio.sleep(60)
        assert not place.poller.answered
        assert not place.poller.starting, "a read has ended: the operator is ready"
        assert place.poller.down is None
        place.without.clear()
        await asyncio.sleep(60)
        assert place.poller.answered

    virtual.run(main())


def test_without_any_source_that_can_ask_a_store_that_was_down_is_probed_when_one_can_again() -> None:
    async def main() -> None:
        place = await polling()
        place.dead = True
        await asyncio.sleep(60)
        place.without.add("good")
        place.dead = False
        began = place.clock.time()
        await asyncio.sleep(600)
        assert place.poller.down is not None
        assert place.since(began) <= 1
        place.without.clear()
        await asyncio.sleep(300)
        assert place.poller.down is None

    virtual.run(main())


def test_an_outage_costs_no_memory_and_is_no_lag_of_ours() -> None:
    async def main() -> None:
        place = await polling()
        place.dead = True
        await asyncio.sleep(30)
        place.lags.clear()
        for _ in range(600):
            await asyncio.sleep(1)
            for source in place.poller.sources.values():
                place.poller.read_now(source)
        assert len(place.poller._heap) < 100
        assert 0 <= min(place.lags) <= max(place.lags) < 1
        place.dead = False
        await asyncio.sleep(40)
        assert all(
            source.error is None and source.due >= place.clock.time() for source in place.poller.sources.values()
        )

    virtual.run(main())


def test_a_source_error_is_an_answer_unless_it_says_otherwise() -> None:
    assert SourceError("R", "m").answered
    assert not SourceDenied("R", "m", answered=False).answered


def test_a_retired_poller_tells_nobody_anything() -> None:
    async def main() -> None:
        place = await polling()
        place.version += 1
        for source in place.poller.sources.values():
            place.poller.read_now(source)
        await asyncio.sleep(0.012)
        before = len(place.told)
        place.poller.retire()
        place.running.cancel()
        await asyncio.sleep(1)
        assert len(place.told) == before

    virtual.run(main())
