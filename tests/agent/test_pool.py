"""The leader's book: unknown is never zero."""

from __future__ import annotations

import json

from voicekeys.agent.ledger import Report, Tally
from voicekeys.agent.pool import Member, Pool, View, view_from_wire

TWO_LIVE = Report({"7": 2}, 50.0, 1, Tally(started=5, completed=3), epoch=4)
IDLE = Report({}, None, 0, Tally(started=4, completed=4), epoch=9)


def make(view: View | None = None, *, alive: set[int] | None = None) -> Pool:
    living = {1, 2, 3} if alive is None else alive
    return Pool(view or View(), 10.0, living.__contains__)


def test_the_counts_of_all_processes_add_up() -> None:
    pool = make()
    pool.report("a", 1, TWO_LIVE)
    pool.report("b", 2, Report({"7": 1, "8": 1}, 40.0, 0, Tally(started=2)))
    totals = pool.totals(20.0)
    assert (totals.live, totals.total, totals.oldest, totals.leaked) == ({"7": 3, "8": 1}, 4, 40.0, 1)
    assert (totals.tally, totals.processes, totals.complete) == (Tally(started=7, completed=3), 2, True)


def test_nothing_is_known_while_others_may_still_come() -> None:
    assert [make().is_complete(at) for at in (0.0, 9.9, 10.0)] == [False, False, True]


def test_a_process_that_dies_takes_its_calls_along_as_aborted() -> None:
    living = {1, 2}
    pool = make(alive=living)
    pool.report("a", 1, IDLE)
    pool.report("b", 2, TWO_LIVE)
    living.discard(2)
    pool.lose("b")
    totals = pool.totals(20.0)
    assert totals.complete
    assert totals.total == 0
    assert totals.tally == Tally(started=9, completed=7, aborted=2)


def test_a_process_that_cannot_be_heard_but_lives_keeps_its_calls() -> None:
    living = {1, 2}
    pool = make(alive=living)
    pool.report("b", 2, TWO_LIVE)
    pool.lose("b")
    assert pool.reap()
    assert pool.totals(20.0).total == 2
    assert not pool.is_complete(20.0)
    living.discard(2)
    assert not pool.reap()
    assert pool.is_complete(20.0)
    assert pool.totals(20.0).tally.aborted == 2


def test_a_process_that_comes_back_was_never_gone() -> None:
    pool = make()
    pool.report("b", 2, TWO_LIVE)
    pool.lose("b")
    pool.report("b", 2, TWO_LIVE)
    assert pool.is_complete(20.0)
    assert pool.totals(20.0).tally == TWO_LIVE.tally


def test_a_process_that_replaced_its_program_has_lost_its_calls() -> None:
    """Same process id, another name: it ran exec."""
    pool = make()
    pool.report("b", 2, TWO_LIVE)
    pool.lose("b")
    pool.report("b2", 2, Report())
    assert pool.is_complete(20.0)
    assert pool.totals(20.0).tally == Tally(started=5, completed=3, aborted=2)


def test_forced_calls_of_a_dead_process_are_not_aborted_as_well() -> None:
    pool = make(alive=set())
    pool.report("b", 2, Report({"7": 1}, 50.0, 0, Tally(started=1, forced=1)))
    pool.lose("b")
    assert pool.totals(20.0).tally == Tally(started=1, forced=1)


def test_a_goodbye_is_an_end_although_the_process_lives() -> None:
    pool = make()
    pool.report("b", 2, IDLE)
    pool.dismiss("b")
    assert pool.is_complete(20.0)
    assert pool.totals(20.0).tally == IDLE.tally
    pool.dismiss("nobody")
    pool.lose("nobody")


def test_a_barrier_needs_every_process() -> None:
    pool = make()
    pool.report("a", 1, IDLE)
    pool.report("b", 2, TWO_LIVE)
    assert [pool.agrees(epoch) for epoch in (4, 5, 9, 10)] == [True, False, False, False]


def test_the_next_leader_waits_for_all_that_the_last_one_knew() -> None:
    living = {2, 3}
    before = View({"leader": Member(1, TWO_LIVE), "b": Member(2, TWO_LIVE)}, Tally(started=10, completed=10))
    pool = make(before, alive=living)
    pool.report("c", 3, IDLE)
    assert pool.reap()  # the dead leader is buried, b is waited for
    assert not pool.is_complete(20.0)
    pool.report("b", 2, TWO_LIVE)
    totals = pool.totals(20.0)
    assert totals.complete
    assert totals.tally.aborted == 2  # the dead leader's calls
    assert totals.tally.started == 10 + 5 + 5 + 4


def test_a_view_holds_the_lost_as_well_and_goes_over_the_wire() -> None:
    pool = make()
    pool.report("a", 1, IDLE)
    pool.report("b", 2, TWO_LIVE)
    pool.lose("b")
    view = pool.view()
    assert set(view.members) == {"a", "b"}
    assert view_from_wire(json.loads(json.dumps(view.to_wire()))) == view
