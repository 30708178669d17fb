"""What is told of pods' calls: unknown is never zero, a call that was cut is never silent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests import gen
from voicekeys.api.binding import Drain, DrainMode
from voicekeys.api.names import ARMED_ANNOTATION
from voicekeys.model.calls import CallsReport, DrainState, Tally
from voicekeys.model.errors import AgentUnreachable
from voicekeys.policies import drain, ends, sights
from voicekeys.policies.drain import Counted, Live
from voicekeys.policies.ends import End
from voicekeys.policies.sights import NEVER, Ended, Sight

if TYPE_CHECKING:
    from voicekeys.model.workload import Pod

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
        sight = sights.heard(sight, one, gen.at(at + number), terminating=terminating)
    return sight


def lost(sight: Sight, at: float = 1.0, *, held: bool = False) -> Sight:
    return sights.failed(sight, DOWN, gen.at(at), held=held)


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
    sight = sights.heard(sight, report(1, oldest_seconds=69.2), gen.at(10), terminating=True)
    assert sight.oldest == began
    sight = sights.heard(sight, report(1, oldest_seconds=5.0), gen.at(20), terminating=True)
    assert sight.oldest == gen.at(15)
    assert sights.heard(sight, report(0), gen.at(30), terminating=True).oldest is None


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
    after = sights.heard(before, report(0, instance="i2"), gen.at(3), terminating=True)
    assert (after.calls, after.report) == (None, before.report)
    assert after.error is not None
    assert after.error.reason == "AnotherAnswers"
    # One that is not being deleted was started again after a drain (facts K13).
    assert sights.heard(before, report(0), gen.at(3), terminating=False).none_live


def over(at: float, exit_code: int | None = 137, deadline: float | None = 1800) -> Pod:
    """A pod whose container ended then; was it deleted, it was to be killed at the deadline."""
    stop = {"exitCode": exit_code, "finishedAt": gen.text(gen.at(at))}
    status = [{"name": "agent", "restartCount": 0, "state": {"terminated": stop}}]
    modifiers = [] if deadline is None else [gen.terminating(gen.at(deadline))]
    return gen.pod("a", gen.put("status.containerStatuses", status), *modifiers)


RELEASE = (counting(2), counting(2, 0, 2, started=2, state=RELEASED))
REFUSES = seen(counting(2, 5), counting(2, 6, state=REFUSING))
ENDS: dict[str, tuple[Sight | None, Pod | None, End]] = {
    "never followed": (None, over(0), End(0, 0, 0, None)),
    "never asked": (NEVER, over(0, 0), End(0, 0, 0, None)),
    "never answered": (lost(NEVER), over(0), End(0, 0, 0, None)),
    "idle, whenever that was": (seen(counting(1), counting(0, 1, state=IDLE), at=-900), over(0), End(1, 0, 0, 0)),
    "killed with calls live": (REFUSES, over(3), End(1, 2, 0, 0)),
    "the same, without counters": (seen(report(2, state=REFUSING)), over(3), End(0, 2, 0, 0)),
    "killed while it served": (seen(counting(2)), over(3), End(0, 2, 0, 0)),
    "ended in good order while it served: no hook held it": (seen(counting(2)), over(3, 0), End(0, 2, 0, 0)),
    "none live, killed while it served": (seen(counting(0)), over(3), End(0, 0, 0, 0)),
    "in good order, long before its deadline": (REFUSES, over(3, 0), End(3, 0, 0, 0)),
    "by SIGTERM, after its hook": (REFUSES, over(3, 143), End(3, 0, 0, 0)),
    "in good order, at its deadline": (REFUSES, over(3, 0, deadline=4), End(1, 2, 0, 0)),
    "just before": (REFUSES, over(3, 0, deadline=5), End(3, 0, 0, 0)),
    "in good order, but it was not deleted": (REFUSES, over(3, 0, deadline=None), End(1, 2, 0, 0)),
    "in good order, but we waited, and nothing changed": (lost(REFUSES, 2, held=True), over(3, 0), End(1, 0, 0, 2)),
    "in good order, long after we last looked": (lost(REFUSES), over(900, 0), End(3, 0, 0, 0)),
    "no exit code": (REFUSES, over(3, None), End(1, 2, 0, 0)),
    "released: those cut are counted already": (seen(*RELEASE), over(3), End(0, 2, 0, 0)),
    "released, and one ended before it was cut": (
        seen(*RELEASE, counting(1, 0, 2, started=2, state=RELEASED)), over(3), End(0, 2, 0, 0),
    ),
    "counters that do not add up": (seen(counting(2, 9, started=1)), over(3), End(0, 0, 0, 0)),
    "some live, not every process heard": (seen(counting(2, complete=False)), over(3), End(0, 2, 0, None)),
    "looked at too long before": (seen(counting(2, state=REFUSING)), over(6), End(0, 0, 0, 2)),
    "too long before, and late calls may have come": (seen(counting(2, state=SETTLING)), over(6), End(0, 0, 0, None)),
    "too long before, none live, but it served": (seen(counting(0)), over(6), End(0, 0, 0, None)),
    "too long before, not every process heard": (
        seen(counting(2, complete=False, state=REFUSING)), over(6), End(0, 0, 0, None),
    ),
    "too long before, released": (seen(*RELEASE), over(6), End(0, 2, 0, 0)),
    "it hung up at its end": (lost(REFUSES, 20, held=True), over(21), End(1, 2, 0, 0)),
    "it was lost, then it was killed": (lost(REFUSES, 20), over(21), End(1, 0, 0, 2)),
    "hung up before it ever answered": (lost(NEVER, held=True), over(0), End(0, 0, 0, None)),
    "its end was not seen": (seen(counting(2, state=REFUSING), at=-60), None, End(0, 0, 0, 2)),
    "its end was not seen, but it was heard just now": (seen(counting(2), at=28), None, End(0, 2, 0, 0)),
    "nobody knows when it ended": (seen(counting(2), at=28), gen.pod("a", gen.terminating(gen.NOW)), End(0, 2, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("sight", "pod", "expected"), ENDS.values(), ids=ENDS)
def test_how_a_pod_s_calls_ended(sight: Sight | None, pod: Pod | None, expected: End) -> None:
    assert ends.end_of(sight, pod, gen.at(30)) == expected


def test_what_is_heard_again_is_not_held_any_more() -> None:
    sight = sights.heard(lost(REFUSES, held=True), counting(1, 7, state=REFUSING), gen.at(2), terminating=True)
    assert (sight.held, sight.error, sight.ended.completed) == (False, None, 2)


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
    assert ends.end_text("a", end) == text


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


REST = (
    ". It goes on when none is live, or when a rollout of your own has replaced them; to go on now and cut calls, "
    "set voicekeys.dev/arm of the binding to a new value"
)
START = "made without a drain hook or the grace for it, and a restart would cut their calls: "
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


def hooked(**pre_stop: Any) -> gen.Modifier:
    return gen.put("spec.containers", [{"name": "agent", "lifecycle": {"preStop": pre_stop}}])


CONTRACT = hooked(httpGet={"path": "/voicekeys/v1/drain", "port": 9909})
SLEEP, WAIT = hooked(sleep={"seconds": 5}), hooked(exec={"command": ["wait"]})
SAYS_ARMED = gen.put("metadata.annotations", {ARMED_ANNOTATION: "HTTP"})
GRACE = {seconds: gen.put("spec.terminationGracePeriodSeconds", seconds) for seconds in (299, 300)}
UNPROTECTED = {
    "mode HTTP without a hook": (DrainMode.HTTP, None, (), True),
    "mode HTTP that only says that it is armed": (DrainMode.HTTP, None, (SAYS_ARMED,), True),
    "mode HTTP with the contract's hook": (DrainMode.HTTP, None, (CONTRACT,), False),
    "mode HTTP with a short sleep": (DrainMode.HTTP, None, (SLEEP,), True),
    "mode Gauge with the contract's hook": (DrainMode.GAUGE, None, (CONTRACT,), False),
    "mode Exec with a command": (DrainMode.EXEC, None, (WAIT,), False),
    "mode Sleep with a sleep": (DrainMode.SLEEP, None, (SLEEP,), False),
    "mode Signal with a grace that is too short": (DrainMode.SIGNAL, timedelta(minutes=5), (GRACE[299],), True),
    "mode Signal with a grace that is long enough": (DrainMode.SIGNAL, timedelta(minutes=5), (GRACE[300],), False),
    "mode Signal without a promise": (DrainMode.SIGNAL, None, (), False),
}


@pytest.mark.parametrize(("mode", "longest", "modifiers", "expected"), UNPROTECTED.values(), ids=UNPROTECTED)
def test_whether_calls_are_cut(
    mode: DrainMode, longest: timedelta | None, modifiers: tuple[gen.Modifier, ...], *, expected: bool
) -> None:
    assert drain.is_unprotected(gen.pod("a", *modifiers), Drain(mode, max_call_duration=longest)) is expected


BY_RELEASE = {
    "told by the pod itself": (End(2, 1, 0, 0), 1, End(2, 1, 0, 0)),
    "taken for completed, since the pod ended in good order": (End(3, 0, 0, 0), 2, End(1, 2, 0, 0)),
    "never told": (End(0, 0, 0, None), 1, End(0, 1, 0, None)),
    "none": (End(3, 0, 0, 0), 0, End(3, 0, 0, 0)),
}


@pytest.mark.parametrize(("end", "released", "expected"), BY_RELEASE.values(), ids=BY_RELEASE)
def test_what_a_release_cut_is_forced(end: End, released: int, expected: End) -> None:
    assert ends.with_release(end, released) == expected
