"""What is told of pods' calls: unknown is never zero, a call that was cut is never silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests import gen
from voicekeys.api.names import ARMED_ANNOTATION
from voicekeys.model.calls import CallsReport, DrainState, Tally
from voicekeys.model.errors import AgentUnreachable
from voicekeys.policies import drain
from voicekeys.policies.drain import NEVER, Counted, End, Ended, Live, Sight

DOWN = AgentUnreachable("DrainUnreachable", "pod a does not answer")
SERVING, SETTLING, REFUSING = DrainState.SERVING, DrainState.SETTLING, DrainState.REFUSING
IDLE, RELEASED = DrainState.IDLE, DrainState.RELEASED


def report(active: int = 0, **fields: Any) -> CallsReport:
    """A report without counters, as a gauge gives it."""
    base = CallsReport("i1", 7, SERVING, False, active, True, None, 0, None, True)
    return replace(base, **fields)


def counting(active: int, completed: int = 0, forced: int = 0, aborted: int = 0, **fields: Any) -> CallsReport:
    """A report with counters that add up."""
    started = fields.pop("started", active + completed + forced + aborted)
    return report(active, tally=Tally(started, completed, 0, forced, aborted), **fields)


def seen(*reports: CallsReport, at: float = 0.0, terminating: bool = True) -> Sight:
    """What is known after these, a second apart; the last came at ``at``."""
    sight = NEVER
    for number, one in enumerate(reports, 1 - len(reports)):
        sight = drain.heard(sight, one, gen.at(at + number), terminating=terminating)
    return sight


def lost(sight: Sight, at: float = 1.0, *, held: bool = False) -> Sight:
    return drain.failed(sight, DOWN, gen.at(at), held=held)


KNOWN: dict[str, tuple[Sight, int | None, bool, bool]] = {
    # calls, none live, over for good
    "never asked": (NEVER, None, False, False),
    "never answered": (lost(NEVER), None, False, False),
    "serves, none live": (seen(report(0)), 0, True, False),
    "serves, some live": (seen(report(2)), 2, False, False),
    "serves, does not answer now": (lost(seen(report(0))), None, False, False),
    "not every process was heard": (seen(report(0, complete=False)), 0, False, False),
    "settles: a late call may begin": (lost(seen(report(0, state=SETTLING))), None, False, False),
    "refuses, some live, does not answer": (lost(seen(report(2, state=REFUSING))), None, False, False),
    "idle": (seen(report(0, state=IDLE)), 0, True, True),
    "idle, and gone": (lost(seen(report(0, state=IDLE))), 0, True, True),
    "refuses, not every process was heard": (
        lost(seen(report(0, state=REFUSING, complete=False))), None, False, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sight", "calls", "none_live", "over"), KNOWN.values(), ids=KNOWN)
def test_what_is_known(sight: Sight, calls: int | None, none_live: bool, over: bool) -> None:  # noqa: FBT001
    assert (sight.calls, sight.none_live, sight.is_over) == (calls, none_live, over)


def test_the_oldest_call_s_start_is_told_once() -> None:
    """Its age is another one at each look; its beginning is not, but for the time that an answer travels."""
    sight = seen(report(1, oldest_seconds=60.0))
    began = sight.oldest
    assert began == gen.at(-60)
    sight = drain.heard(sight, report(1, oldest_seconds=69.2), gen.at(10), terminating=True)
    assert sight.oldest == began
    sight = drain.heard(sight, report(1, oldest_seconds=5.0), gen.at(20), terminating=True)
    assert sight.oldest == gen.at(15)
    assert drain.heard(sight, report(0), gen.at(30), terminating=True).oldest is None


ADDED: dict[str, tuple[tuple[CallsReport, ...], Ended]] = {
    "what ended before does not count": ((counting(2, 7, 0, 1),), Ended()),
    "a release before does: there is one in a drain only": ((counting(2, 7, 2, state=RELEASED),), Ended(0, 2, 0)),
    "two ended by themselves": ((counting(2, 7), counting(0, 9)), Ended(2, 0, 0)),
    "of each kind": ((counting(4), counting(1, 1, 1, 1)), Ended(1, 1, 1)),
    "another process counts from zero": (
        (counting(3, 7), counting(2, 8), counting(2, 0, instance="i2"), counting(1, 1, instance="i2")),
        Ended(2, 0, 0),
    ),
    "a gauge: fewer are live": ((report(5), report(2), report(3), report(0)), Ended(6, 0, 0)),
}


@pytest.mark.parametrize(("reports", "ended"), ADDED.values(), ids=ADDED)
def test_what_ended(reports: tuple[CallsReport, ...], ended: Ended) -> None:
    assert seen(*reports).ended == ended


def test_another_pod_at_its_address_is_not_believed() -> None:
    """The address of a pod that ended is given to the next one."""
    before = seen(report(2, state=REFUSING))
    after = drain.heard(before, report(0, instance="i2"), gen.at(3), terminating=True)
    assert (after.calls, after.report) == (None, before.report)
    assert after.error is not None
    assert after.error.reason == "AnotherAnswers"
    # One that is not being deleted was started again after a drain (facts K13).
    assert drain.heard(before, report(0), gen.at(3), terminating=False).none_live


ENDS: dict[str, tuple[Sight | None, float | None, End]] = {
    "never followed": (None, 0, End(0, 0, 0, None)),
    "never asked": (NEVER, 0, End(0, 0, 0, None)),
    "never answered": (lost(NEVER), 0, End(0, 0, 0, None)),
    "idle, whenever that was": (seen(counting(1), counting(0, 1, state=IDLE), at=-900), 0, End(1, 0, 0, 0)),
    "live at its end": (seen(counting(2, state=REFUSING)), 3, End(0, 2, 0, 0)),
    "live at its end, without counters": (seen(report(2, state=REFUSING)), 3, End(0, 2, 0, 0)),
    "killed while it served": (seen(counting(2)), 3, End(0, 2, 0, 0)),
    "none live, killed while it served": (seen(counting(0)), 3, End(0, 0, 0, 0)),
    "released: those cut are counted already": (
        seen(counting(2), counting(2, 0, 2, started=2, state=RELEASED)), 3, End(0, 2, 0, 0),
    ),
    "released, and one ended before it was cut": (
        seen(counting(2), counting(2, 0, 2, started=2, state=RELEASED), counting(1, 0, 2, started=2, state=RELEASED)),
        3, End(0, 2, 0, 0),
    ),
    "counters that do not add up": (seen(counting(2, 9, started=1)), 3, End(0, 0, 0, 0)),
    "some live, not every process heard": (seen(counting(2, complete=False)), 3, End(0, 2, 0, None)),
    "looked at too long before": (seen(counting(2, state=REFUSING)), 6, End(0, 0, 0, 2)),
    "too long before, and late calls may have come": (seen(counting(2, state=SETTLING)), 6, End(0, 0, 0, None)),
    "too long before, none live, but it served": (seen(counting(0)), 6, End(0, 0, 0, None)),
    "too long before, not every process heard": (
        seen(counting(2, complete=False, state=REFUSING)), 6, End(0, 0, 0, None),
    ),
    "too long before, released": (
        seen(counting(2), counting(2, 0, 2, started=2, state=RELEASED)), 6, End(0, 2, 0, 0),
    ),
    "it hung up at its end": (lost(seen(counting(2, state=REFUSING)), 20, held=True), 21, End(0, 2, 0, 0)),
    "it was lost, then it ended": (lost(seen(counting(2, state=REFUSING)), 20), 21, End(0, 0, 0, 2)),
    "hung up before it ever answered": (lost(NEVER, held=True), 0, End(0, 0, 0, None)),
    "its end was not seen": (seen(counting(2, state=REFUSING), at=-60), None, End(0, 0, 0, 2)),
    "its end was not seen, but it was heard just now": (seen(counting(2), at=28), None, End(0, 2, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("sight", "ended", "expected"), ENDS.values(), ids=ENDS)
def test_how_a_pod_s_calls_ended(sight: Sight | None, ended: float | None, expected: End) -> None:
    assert drain.end_of(sight, None if ended is None else gen.at(ended), gen.at(30)) == expected


TEXTS = {
    "drained": (End(3, 0, 0, 0), None),
    "one cut": (End(3, 1, 0, 0), "pod a ended with 1 live call: cut, and counted as forced"),
    "some cut, others perhaps": (
        End(0, 2, 0, None),
        "pod a ended with 2 live calls, and perhaps others: cut, and counted as forced",
    ),
    "in doubt": (End(0, 0, 0, 2), "pod a ended unseen: 2 calls may have been cut"),
    "in the dark": (End(0, 0, 0, None), "pod a ended unseen: an unknown number of calls may have been cut"),
}


@pytest.mark.parametrize(("end", "text"), TEXTS.values(), ids=TEXTS)
def test_what_is_said_of_an_end(end: End, text: str | None) -> None:
    assert drain.end_text("a", end) == text


def live(name: str, sight: Sight | None, deadline: float | None = 1800) -> Live:
    return Live(name, None if deadline is None else gen.at(deadline), sight)


OLD = seen(report(2, oldest_seconds=120.0, state=REFUSING))
OLDER = seen(report(1, oldest_seconds=180.0, state=REFUSING))
WHO = "Deployment receptionist"
B_UNKNOWN = "how many calls b has is not known (pod a does not answer)"
DRAINING_TEXTS = {
    "two pods with calls": (
        [live("a", OLD), live("b", OLDER, 1200)],
        f"2 pods of {WHO} still finish 3 calls, the oldest since 11:57:00 UTC; the first is killed at 12:20:00 UTC",
    ),
    "one pod with one call": (
        [live("a", seen(report(1)))],
        "1 pod of Deployment receptionist still finishes 1 call; it is killed at 12:30:00 UTC",
    ),
    "no call left": (
        [live("a", seen(report(0, state=IDLE))), live("b", seen(report(0, state=IDLE)), None)],
        "2 pods of Deployment receptionist have no call left and end; the first is killed at 12:30:00 UTC",
    ),
    "one, no call left, not deleted": (
        [live("a", seen(report(0)), None)],
        "1 pod of Deployment receptionist has no call left and ends",
    ),
    "one does not answer": (
        [live("a", OLD, None), live("b", lost(OLDER), None)],
        f"2 pods of {WHO} still finish at least 2 calls, the oldest since 11:58:00 UTC; {B_UNKNOWN}",
    ),
    "none answers": (
        [live("a", lost(NEVER), None)],
        "1 pod of Deployment receptionist drains; how many calls a has is not known (pod a does not answer)",
    ),
    "none was asked": (
        [live(name, None, None) for name in "abcd"],
        "4 pods of Deployment receptionist drain; how many calls a, b, c, … have is not known",
    ),
    "not every process was heard": (
        [live("a", seen(report(0, complete=False)), None)],
        "1 pod of Deployment receptionist still finishes at least 0 calls",
    ),
}


@pytest.mark.parametrize(("pods", "text"), DRAINING_TEXTS.values(), ids=DRAINING_TEXTS)
def test_what_is_said_of_draining_pods(pods: list[Live], text: str) -> None:
    assert drain.draining_text("Deployment receptionist", pods) == text


COUNTS = {
    "none": ([], Counted(None, None, 0)),
    "all answer": ([OLD, OLDER], Counted(3, gen.at(-180), 0)),
    "one does not": ([OLD, lost(OLDER)], Counted(2, gen.at(-120), 1)),
    "none does": ([NEVER, lost(OLDER)], Counted(None, None, 2)),
    "none is live": ([seen(report(0))], Counted(0, None, 0)),
}


@pytest.mark.parametrize(("sights", "expected"), COUNTS.values(), ids=COUNTS)
def test_what_is_counted(sights: list[Sight], expected: Counted) -> None:
    assert drain.counted(sights) == expected


HOOK = gen.put("spec.containers", [{"name": "agent", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}])
ARMED = gen.put("metadata.annotations", {ARMED_ANNOTATION: "Signal"})


@pytest.mark.parametrize(("modifiers", "expected"), [((), True), ((HOOK,), False), ((ARMED,), False)])
def test_which_pods_are_unarmed(modifiers: tuple[gen.Modifier, ...], expected: bool) -> None:  # noqa: FBT001
    assert drain.is_unarmed(gen.pod("a", *modifiers)) is expected


REST = (
    ". It goes on when none is live, or when a rollout of your own has replaced them; to go on now and cut calls, "
    "annotate the binding with voicekeys.dev/arm: now"
)
START = "made without a drain hook, and a restart on the new key would cut their calls: "
BLOCKS: dict[str, tuple[dict[str, Sight], tuple[str, str] | None]] = {
    "no pod": ({}, None),
    "none live": ({"a": seen(report(0)), "b": seen(report(0))}, None),
    "some live": (
        {"a": seen(report(2)), "b": seen(report(0))},
        ("UnarmedPodsHaveCalls", f"2 pods of D x were {START}they have 2 live calls"),
    ),
    "one does not answer": (
        {"a": seen(report(0)), "b": lost(NEVER)},
        ("UnarmedPodsUnknown", f"2 pods of D x were {START}how many b has is not known"),
    ),
    "some live, others do not answer": (
        {"a": seen(report(1)), "b": lost(NEVER), "c": NEVER, "d": NEVER, "e": NEVER},
        (
            "UnarmedPodsHaveCalls",
            f"5 pods of D x were {START}they have at least 1 live call, how many b, c, d, … have is not known",
        ),
    ),
    "not every process heard": (
        {"a": seen(report(0, complete=False))},
        ("UnarmedPodsUnknown", f"1 pod of D x was {START}how many a has is not known"),
    ),
}


@pytest.mark.parametrize(("sights", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_when_unarmed_pods_hold_up_a_restart(sights: dict[str, Sight], expected: tuple[str, str] | None) -> None:
    verdict = drain.unarmed_block("D x", sights)
    assert verdict == (None if expected is None else (expected[0], expected[1] + REST))


def test_deletion_costs() -> None:
    sights = {"a": seen(report(2)), "b": seen(report(0)), "c": lost(seen(report(9))), "d": NEVER}
    assert drain.deletion_costs(sights) == {"a": 2, "b": 0, "c": 3, "d": 3}
    assert drain.deletion_costs({"a": NEVER}) == {"a": 1}
    assert drain.deletion_costs({}) == {}


def test_what_is_said_of_a_release() -> None:
    assert drain.released_text("a", 1) == "pod a was released: 1 call was cut, counted as forced"
    assert drain.released_text("a", 0) == "pod a was released: 0 calls were cut, counted as forced"
