"""The ledger of one process: one lock for calls and for the decision whether they may begin."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from voicekeys.agent.drain import begun, closed, cordoned, released
from voicekeys.agent.errors import Refused
from voicekeys.agent.ledger import LONGEST_LABEL, Ledger, Report, Tally, report_from_wire


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Entry:
    key_version: str = "7"
    max_call: float | None = None
    started: float = 0.0
    leaked: bool = False
    forced: bool = False


@dataclass
class Book:
    clock: Clock = field(default_factory=Clock)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.clock)

    def enter(self, entry: Entry | None = None) -> tuple[Entry, int]:
        entry = entry or Entry()
        return entry, self.ledger.enter(entry)


def test_calls_are_counted_by_key_version() -> None:
    book = Book()
    book.enter(Entry("6"))
    book.clock.now = 105.0
    book.enter(Entry("7"))
    entry, generation = book.enter(Entry("7"))
    assert book.ledger.leave(entry, generation)
    report = book.ledger.report()
    assert report == Report({"6": 1, "7": 1}, 100.0, 0, Tally(started=3, completed=1), 0)
    assert report.total == len(book.ledger) == 2


def test_a_call_ends_once() -> None:
    book = Book()
    entry, generation = book.enter()
    assert [book.ledger.leave(entry, generation) for _ in range(3)] == [True, False, False]
    assert book.ledger.report().tally == Tally(started=1, completed=1)


@pytest.mark.parametrize(
    ("decisions", "phase"),
    [
        ([lambda drain: cordoned(drain, 100.0, wanted=True)], "cordoned"),
        ([lambda drain: closed(begun(drain, 90.0, 5.0, None), 95.0)], "refusing"),
        ([lambda drain: begun(drain, 90.0, 5.0, None)], "refusing"),
        ([lambda drain: released(begun(drain, 90.0, 5.0, None), 95.0)], "released"),
    ],
)
@pytest.mark.parametrize("own", [False, True], ids=["pod", "process"])
def test_a_refused_call_is_counted_as_refused_and_as_nothing_else(decisions: list[Any], phase: str, own: bool) -> None:  # noqa: FBT001
    book = Book()
    for decision in decisions:
        book.ledger.decide(decision, own=own)
    with pytest.raises(Refused) as caught:
        book.enter()
    assert caught.value.phase == phase
    assert "503" in str(caught.value)
    assert book.ledger.report().tally == Tally(refused=1)
    assert len(book.ledger) == 0


def test_a_late_call_in_the_settle_window_counts() -> None:
    book = Book()
    book.ledger.decide(lambda drain: begun(drain, 100.0, 5.0, None))
    book.clock.now = 104.9
    book.enter()
    assert book.ledger.report().total == 1


def test_a_release_forces_what_is_live_and_only_that() -> None:
    book = Book()
    done = book.enter()
    book.ledger.leave(*done)
    kept = book.enter()
    book.ledger.decide(lambda drain: released(begun(drain, 100.0, 5.0, None), 101.0))
    assert book.ledger.report().tally == Tally(started=2, completed=1, forced=1)
    # It is live until it is cut, and then it was not completed.
    assert book.ledger.report().total == 1
    book.ledger.leave(*kept)
    assert book.ledger.report().tally == Tally(started=2, completed=1, forced=1)


def test_released_twice_a_call_is_forced_once() -> None:
    book = Book()
    book.enter()
    book.ledger.decide(lambda drain: released(drain, 101.0))
    book.ledger.expire()
    assert book.ledger.report().tally.forced == 1


def test_a_leaked_call_is_told_once_and_stays_live() -> None:
    book = Book()
    book.enter(Entry(max_call=60.0))
    book.enter(Entry(max_call=90.0))
    book.enter(Entry(max_call=None))
    assert book.ledger.note_leaks() == (0, 160.0)
    book.clock.now = 160.0
    assert book.ledger.note_leaks() == (1, 190.0)
    assert book.ledger.note_leaks() == (0, 190.0)
    report = book.ledger.report()
    assert (report.leaked, report.total) == (1, 3)


def test_a_report_goes_over_the_wire_as_it_is() -> None:
    book = Book()
    book.enter(Entry("6"))
    book.ledger.decide(lambda drain: begun(drain, 100.0, 5.0, None))
    report = book.ledger.report()
    assert report_from_wire(json.loads(json.dumps(report.to_wire()))) == report


@pytest.mark.parametrize("wire", [{"tally": 1}, {"tally": {}, "surprise": 1}, {"tally": {"surprise": 1}}])
def test_a_report_of_another_shape_is_refused(wire: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        report_from_wire(wire)


def test_a_label_is_no_place_for_data() -> None:
    book = Book()
    book.enter(Entry("x" * 1000))
    assert list(book.ledger.report().live) == ["x" * LONGEST_LABEL]


def test_a_forked_child_starts_with_no_calls_and_does_not_end_its_parent_s() -> None:
    book = Book()
    entry, generation = book.enter()
    book.ledger.hold()
    book.ledger.start_anew()  # what the child does; the lock was held when it was copied
    assert (len(book.ledger), book.ledger.report().tally) == (0, Tally())
    assert not book.ledger.leave(entry, generation)


def test_a_tally_adds_up() -> None:
    assert Tally(1, 2, 3, 4, 5) + Tally(10, 20, 30, 40, 50) == Tally(11, 22, 33, 44, 55)


def test_no_call_begins_once_the_window_is_closed_whatever_the_race() -> None:
    """Threads begin calls while another closes the window: what it then counts never grows."""
    for _ in range(20):
        book = Book()
        book.ledger.decide(lambda drain: begun(drain, 100.0, 1e9, None))
        start = threading.Barrier(5)

        def caller(book: Book = book, start: threading.Barrier = start) -> None:
            start.wait()
            for _ in range(200):
                try:
                    book.enter()
                except Refused:
                    return

        threads = [threading.Thread(target=caller) for _ in range(4)]
        for thread in threads:
            thread.start()
        start.wait()
        book.ledger.decide(lambda drain: closed(drain, 100.0))
        counted = book.ledger.report().total
        for thread in threads:
            thread.join()
        assert book.ledger.report().total == counted
