"""What is believed of readings: over any history, zero is only believed after zeros, and calls are never lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicekeys.agent.gauge.book import GONE, Book, Reading
from voicekeys.agent.ledger import Tally

QUIET = 1.0


def read(book: Book, at: float, number: int | None, why: str | None = None) -> None:
    book.take(Reading(at, at + 0.01, number, why))


def test_nothing_is_known_before_the_first_reading() -> None:
    book = Book(QUIET)
    assert not book.is_known
    assert not book.is_quiet
    assert book.last.why == "unread"


def test_zero_has_to_last() -> None:
    book = Book(QUIET)
    read(book, 0.0, 0)
    assert not book.is_quiet
    read(book, 0.9, 0)
    assert not book.is_quiet
    read(book, 1.0, 0)
    assert book.is_quiet


def test_two_readings_are_asked_for_whatever_the_settings_say() -> None:
    book = Book(0.0)
    read(book, 0.0, 0)
    assert not book.is_quiet
    read(book, 0.1, 0)
    assert book.is_quiet


def test_zeros_from_before_the_drain_closed_do_not_count() -> None:
    book = Book(QUIET)
    for at in (0.0, 1.0, 2.0):
        read(book, at, 0)
    book.start_anew(2.5)
    assert not book.is_quiet
    read(book, 2.4, 0)  # begun before, done after
    read(book, 3.4, 0)
    assert not book.is_quiet
    read(book, 4.4, 0)
    assert book.is_quiet


def test_what_ends_after_a_release_is_not_completed() -> None:
    book = Book(QUIET)
    read(book, 0.0, 3)
    assert book.force() == 3
    assert book.force() == 0
    read(book, 1.0, 1)
    read(book, 2.0, 2)
    assert book.force() == 1
    read(book, 3.0, 0)
    assert book.tally == Tally(started=4, completed=0, forced=4)


def test_what_is_gone_after_nobody_listened_was_aborted() -> None:
    book = Book(QUIET)
    read(book, 0.0, 3)
    read(book, 1.0, None, "refused")
    read(book, 2.0, None, "timeout")
    read(book, 3.0, 1)
    assert book.tally == Tally(started=3, aborted=2)
    read(book, 4.0, 0)
    assert book.tally == Tally(started=3, aborted=2, completed=1)


readings = st.lists(
    st.tuples(
        st.floats(0.01, 2.0),
        st.one_of(
            st.tuples(st.integers(0, 4), st.none()),
            st.just((0, None)),
            st.just((0, GONE)),
            st.tuples(st.none(), st.sampled_from(["refused", "timeout", "malformed"])),
        ),
        st.sampled_from(["", "", "", "force", "anew"]),
    ),
    max_size=40,
)


@given(readings)
def test_the_invariants(history: list[tuple[float, tuple[int | None, str | None], str]]) -> None:
    book, now, floor = Book(QUIET), 0.0, 0.0
    zeros: list[float] = []
    for step, (number, why), act in history:
        now += step
        read(book, now, number, why)
        zeros = [*zeros, now] if number == 0 else []
        if act == "force":
            book.force()
        if act == "anew":
            floor = now + 0.5
            book.start_anew(floor)
        counted = [at for at in zeros if at >= floor]
        assert book.is_quiet == (len(counted) > 1 and counted[-1] - counted[0] >= QUIET)
        if book.is_quiet:
            assert book.number == 0
            assert book.is_known
        tally = book.tally
        live = tally.started - tally.completed - tally.forced - tally.aborted
        assert 0 <= live <= book.number
        assert book.number - live <= tally.forced
