"""The state machine of a drain, as a table and over random histories."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicekeys.agent.drain import (
    DRAINING,
    Drain,
    Phase,
    begun,
    closed,
    cordoned,
    from_wire,
    may_answer,
    merged,
    released,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 100.0
SERVING = Drain()
CORDONED = cordoned(SERVING, NOW, wanted=True)
SETTLING = begun(SERVING, NOW, settle=5.0, grace=60.0)
CORDONED_SETTLING = begun(CORDONED, NOW, settle=5.0, grace=None)
REFUSING = closed(SETTLING, NOW + 5)
RELEASED = released(REFUSING, NOW + 9)


@pytest.mark.parametrize(
    ("drain", "at", "idle", "phase", "accepts"),
    [
        (SERVING, NOW, False, Phase.SERVING, True),
        (CORDONED, NOW, False, Phase.CORDONED, False),
        (SETTLING, NOW, False, Phase.SETTLING, True),
        (SETTLING, NOW + 4.999, False, Phase.SETTLING, True),
        (SETTLING, NOW + 5, False, Phase.REFUSING, False),
        (CORDONED_SETTLING, NOW, False, Phase.REFUSING, False),
        (REFUSING, NOW + 6, False, Phase.REFUSING, False),
        (REFUSING, NOW + 6, True, Phase.IDLE, False),
        (RELEASED, NOW + 9, False, Phase.RELEASED, False),
        (RELEASED, NOW + 9, True, Phase.RELEASED, False),
    ],
)
def test_what_a_phase_is_called_and_whether_it_takes_calls(
    drain: Drain,
    at: float,
    idle: bool,  # noqa: FBT001
    phase: Phase,
    accepts: bool,  # noqa: FBT001
) -> None:
    assert drain.phase(at, idle=idle) is phase
    assert drain.accepts(at) is accepts


@pytest.mark.parametrize(
    ("drain", "live", "known", "answers"),
    [
        (SERVING, 0, True, False),
        (CORDONED, 0, True, False),
        (SETTLING, 0, True, False),
        (REFUSING, 1, True, False),
        (REFUSING, 0, False, False),
        (REFUSING, 0, True, True),
        (RELEASED, 3, False, True),
    ],
)
def test_when_a_drain_answers(drain: Drain, live: int, known: bool, answers: bool) -> None:  # noqa: FBT001
    assert may_answer(drain, live=live, known=known) is answers


def test_a_second_drain_changes_nothing() -> None:
    """K7: after a kubelet's restart the hook runs again."""
    assert begun(SETTLING, NOW + 3, settle=5.0, grace=60.0) == SETTLING


def test_a_drain_knows_its_deadline_only_with_a_grace() -> None:
    assert SETTLING.deadline == NOW + 60
    assert CORDONED_SETTLING.deadline is None


@pytest.mark.parametrize("same", [SERVING, SETTLING])
def test_saying_the_same_again_is_no_decision(same: Drain) -> None:
    assert cordoned(same, NOW + 1, wanted=False) == same
    assert closed(REFUSING, NOW + 9) == REFUSING
    assert released(RELEASED, NOW + 20) == RELEASED


def test_the_window_closes_once() -> None:
    assert [SETTLING.is_due_to_close(NOW + at) for at in (0, 4.9, 5)] == [False, False, True]
    assert not REFUSING.is_due_to_close(NOW + 50)
    assert not SERVING.is_due_to_close(NOW + 50)


def test_what_two_processes_know_after_their_leader_died() -> None:
    """One heard of a drain that the other missed; the other uncordoned later."""
    later = cordoned(cordoned(SERVING, NOW + 1, wanted=True), NOW + 50, wanted=False)
    both = merged(REFUSING, later)
    assert (both.started, both.settle_end, both.closed, both.cordoned) == (NOW, NOW + 5, True, False)
    assert both.epoch == later.epoch


def test_an_earlier_leader_s_older_decision_does_not_undo_a_new_one() -> None:
    """Epochs of different leaders compare: they come from the clock that they share."""
    old = cordoned(cordoned(SERVING, NOW, wanted=True), NOW + 1, wanted=False)
    new = cordoned(SERVING, NOW + 2, wanted=True)
    assert merged(old, new).cordoned
    assert merged(new, old).cordoned


CHANGES: dict[str, Callable[[Drain, float], Drain]] = {
    "drain": lambda drain, now: begun(drain, now, 5.0, 60.0),
    "cordon": lambda drain, now: cordoned(drain, now, wanted=True),
    "uncordon": lambda drain, now: cordoned(drain, now, wanted=False),
    "close": lambda drain, now: closed(drain, now) if drain.is_due_to_close(now) else drain,
    "release": lambda drain, now: released(drain, now) if drain.started is not None else drain,
}
histories = st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.floats(0.0, 10.0)), max_size=20)


def played(history: list[tuple[str, float]]) -> list[tuple[Drain, float]]:
    """Each state that a history goes through, and when."""
    states, now, drain = [], 0.0, Drain()
    for name, pause in history:
        now += pause
        drain = CHANGES[name](drain, now)
        states.append((drain, now))
    return states


@given(histories)
def test_nothing_leads_out_of_draining(history: list[tuple[str, float]]) -> None:
    phases = [drain.phase(now, idle=False) for drain, now in played(history)]
    for before, after in itertools.pairwise(phases):
        assert before not in DRAINING or after in DRAINING
        assert before is not Phase.RELEASED or after is Phase.RELEASED


@given(histories)
def test_who_may_answer_takes_no_calls_any_more(history: list[tuple[str, float]]) -> None:
    for drain, now in played(history):
        if may_answer(drain, live=0, known=True):
            assert not drain.accepts(now)
            assert not drain.accepts(now + 1000)


@given(histories)
def test_each_decision_has_a_later_epoch(history: list[tuple[str, float]]) -> None:
    states = [Drain(), *(drain for drain, _ in played(history))]
    for before, after in itertools.pairwise(states):
        assert (after == before) or after.epoch > before.epoch


@given(histories, histories)
def test_merging_forgets_no_drain_and_knows_no_order(
    one: list[tuple[str, float]], other: list[tuple[str, float]]
) -> None:
    first, second = (played(history)[-1][0] if history else Drain() for history in (one, other))
    both = merged(first, second)
    assert both.released == (first.released or second.released)
    assert both.closed == (first.closed or second.closed)
    assert (both.started is None) == (first.started is None and second.started is None)
    if first.epoch != second.epoch:
        assert both == merged(second, first)


@given(histories)
def test_it_goes_over_the_wire_as_it_is(history: list[tuple[str, float]]) -> None:
    for drain, _ in played(history):
        assert from_wire(drain.to_wire()) == drain
