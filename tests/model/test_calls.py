"""What a pod says of its calls: read strictly, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from voicekeys.agent.contract import Standing, calls_document
from voicekeys.agent.drain import Drain, Phase
from voicekeys.agent.ledger import Tally as Counted
from voicekeys.agent.pool import Totals
from voicekeys.model.calls import CLOSED, DRAINING, DrainState, Tally, parse_calls, parse_forced

LEAST: dict[str, Any] = {
    "contract": 1,
    "instance": "9f0c",
    "revision": 7,
    "state": "refusing",
    "active": 3,
    "complete": True,
    "token": True,
}
NONE = Totals(live={}, oldest=None, leaked=0, tally=Counted(), processes=1, complete=True)
COUNTS = {"started": 9, "completed": 5, "refused": 1, "forced": 0, "aborted": 1}


def test_the_least_that_a_pod_may_say() -> None:
    report = parse_calls(LEAST)
    assert (report.active, report.revision, report.state) == (3, 7, DrainState.REFUSING)
    assert (report.oldest_seconds, report.leaked, report.tally, report.cordoned) == (None, 0, None, False)
    assert not report.none_live


def test_all_that_it_may_say() -> None:
    more = {"cordoned": True, "leaked": 1, "oldestCallSeconds": 61.2, "calls": COUNTS}
    report = parse_calls(LEAST | more)
    assert (report.oldest_seconds, report.leaked, report.cordoned) == (61.2, 1, True)
    assert report.tally == Tally(started=9, completed=5, refused=1, forced=0, aborted=1)


@pytest.mark.parametrize("phase", Phase)
def test_the_library_s_own_document_is_read(phase: Phase) -> None:
    standing = Standing("9f0c", "0.1.0", token=True)
    document = calls_document(standing, 3, phase, Drain(started=1.0), NONE, now=5.0, wall=1e9)
    report = parse_calls(document)
    assert report.state.value == phase.value
    assert report.tally == Tally(0, 0, 0, 0, 0)


def test_states() -> None:
    assert {state.value for state in DrainState} == {phase.value for phase in Phase}
    assert {DrainState.SETTLING} == DRAINING - CLOSED


def test_an_incomplete_report_of_nothing_is_not_none() -> None:
    assert not parse_calls(LEAST | {"active": 0, "complete": False}).none_live
    assert parse_calls(LEAST | {"active": 0}).none_live


def test_cordoned_is_a_state_as_well() -> None:
    assert parse_calls(LEAST | {"state": "cordoned"}).cordoned


WRONG: dict[str, list[Any]] = {
    "contract": [None, 2, "1", True, 1.5, []],
    "instance": [None, "", 7, "x" * 129],
    "revision": [None, -1, 1.5, "7", True, 2**63],
    "state": [None, "", "SERVING", "done", 1, ["serving"], {}],
    "active": [None, -1, 1.0, "3", True, 10**6 + 1, 10**30, [], {}],
    "complete": [None, 1, "true"],
    "token": [None, 0, "no"],
    "cordoned": [None, 1],
    "leaked": [None, -1, 4],
    "oldestCallSeconds": [-1, "61", True, 1e12, []],
    "calls": [0, [], {}, COUNTS | {"forced": -1}, COUNTS | {"aborted": None}, COUNTS | {"started": "9"}],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values], ids=str
)
def test_what_is_wrong_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^\w+$") as refused:
        parse_calls(LEAST | {field: value})
    assert str(refused.value) == field or field == "calls"


@pytest.mark.parametrize("field", LEAST)
def test_what_is_missing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}$"):
        parse_calls({name: value for name, value in LEAST.items() if name != field})


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_what_is_no_object_is_refused(body: object) -> None:
    for parse in (parse_calls, parse_forced):
        with pytest.raises(ValueError, match="the answer"):
            parse(body)


def test_how_many_a_release_forced() -> None:
    assert parse_forced({"forced": 2}) == 2
    with pytest.raises(ValueError, match="forced"):
        parse_forced({})


def test_the_age_of_no_call_is_none() -> None:
    assert parse_calls(LEAST | {"active": 0, "oldestCallSeconds": 5}).oldest_seconds is None
