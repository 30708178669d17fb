"""Findings become conditions that kstatus understands, whatever the findings are."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.api.status import Condition, ConditionStatus
from voicekeys.model.verdict import Verdict
from voicekeys.policies.conditions import MAX_MESSAGE, Finding, merge, summarise

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
STALLED, MOVING, FINE = (
    Verdict("Broken", "mend it"),
    Verdict("Rolling", "on its way"),
    Verdict("KeyInPlace", "is there"),
)

SUMMARIES = {
    "all is well": (None, None, {"Ready": Finding(TRUE, *FINE)}),
    "on its way": (None, MOVING, {"Ready": Finding(FALSE, *MOVING), "Reconciling": Finding(TRUE, *MOVING)}),
    "a person must act": (STALLED, None, {"Ready": Finding(FALSE, *STALLED), "Stalled": Finding(TRUE, *STALLED)}),
    "a person must act, whatever is on its way": (
        STALLED,
        MOVING,
        {"Ready": Finding(FALSE, *STALLED), "Stalled": Finding(TRUE, *STALLED)},
    ),
}


@pytest.mark.parametrize(("stalled", "progressing", "expected"), SUMMARIES.values(), ids=SUMMARIES)
def test_the_summary(stalled: Verdict | None, progressing: Verdict | None, expected: dict[str, Finding]) -> None:
    assert summarise(stalled, progressing, FINE) == expected


def condition(kind: str, status: ConditionStatus, message: str = "old", age: float = 60) -> Condition:
    return Condition(kind, status, "Why", message, gen.at(-age), 1)


MERGES = {
    "a new one gets the present time": ((), {"Ready": Finding(TRUE, "Why", "new")}, gen.NOW),
    "one with the same status keeps its time, whatever it says": (
        (condition("Ready", TRUE),),
        {"Ready": Finding(TRUE, "Other", "new")},
        gen.at(-60),
    ),
    "one whose status changed gets the present time": (
        (condition("Ready", FALSE),),
        {"Ready": Finding(TRUE, "Why", "new")},
        gen.NOW,
    ),
}


@pytest.mark.parametrize(("previous", "findings", "since"), MERGES.values(), ids=MERGES)
def test_a_condition_s_time(previous: tuple[Condition, ...], findings: dict[str, Finding], since: datetime) -> None:
    (merged,) = merge(previous, findings, 3, gen.NOW + timedelta(microseconds=7))
    assert merged == Condition("Ready", findings["Ready"].status, findings["Ready"].reason, "new", since, 3)


def test_a_type_without_a_finding_goes_away() -> None:
    assert merge((condition("Stalled", TRUE),), {}, 3, gen.NOW) == ()


@pytest.mark.parametrize(("length", "kept"), [(MAX_MESSAGE, "x" * 1024), (MAX_MESSAGE + 1, "x" * 1023 + "…")])
def test_a_long_message_is_cut(length: int, kept: str) -> None:
    (merged,) = merge((), {"Ready": Finding(TRUE, "Why", "x" * length)}, 3, gen.NOW)
    assert merged.message == kept


_VERDICTS = st.none() | st.builds(Verdict, st.sampled_from(["A", "B"]), st.text(max_size=5))
_FINDINGS = st.dictionaries(
    st.sampled_from(["SecretSynced", "KeyFresh", "Suspended"]),
    st.builds(Finding, st.sampled_from(ConditionStatus), st.just("Why"), st.text(max_size=3)),
)


@given(steps=st.lists(st.tuples(_VERDICTS, _VERDICTS, _FINDINGS, st.integers(0, 99)), min_size=1, max_size=5))
def test_no_sequence_of_findings_breaks_an_invariant(
    steps: list[tuple[Verdict | None, Verdict | None, dict[str, Finding], int]],
) -> None:
    """The invariants of the module's docstring, after each step."""
    conditions: tuple[Condition, ...] = ()
    now = gen.NOW
    for stalled, progressing, findings, seconds in steps:
        before, now = {one.type: one for one in conditions}, now + timedelta(seconds=seconds)
        conditions = merge(conditions, findings | summarise(stalled, progressing, FINE), 3, now)
        held = {one.type for one in conditions if one.status is TRUE}
        assert len(held & {"Ready", "Reconciling", "Stalled"}) == 1
        assert [one.type for one in conditions] == sorted({one.type for one in conditions})
        for one in conditions:
            old = before.get(one.type)
            moved = old is None or old.status is not one.status
            assert one.last_transition_time == (now if moved or old is None else old.last_transition_time)
