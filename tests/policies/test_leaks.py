"""Which key a leak is about, when its emergency is over, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import gen
from voicekeys.api.status import (
    AgentStatus,
    BindingStatus,
    Emergency,
    HistoryEntry,
    KeyStatus,
    Outcome,
    Phase,
    RotationStatus,
)
from voicekeys.model.verdict import Verdict
from voicekeys.policies import leaks as policy
from voicekeys.policies import rotation
from voicekeys.policies.sights import NEVER

CHANGE = RotationStatus("v8-d2d2d2d2", Phase.ROLLING, 7, 8, gen.NOW, pods=3)
QUIET = BindingStatus(key=KeyStatus(7, gen.NOW, "f7"))
IN_FLIGHT = replace(QUIET, key=KeyStatus(8, gen.NOW, "f8"), rotation=CHANGE)
SEVEN = Emergency(gen.NOW, 7)
DRAINING = replace(IN_FLIGHT, rotation=replace(CHANGE, phase=Phase.DRAINING))

LEAKED = {
    "at rest, the key in the Secret": (QUIET, 7),
    "after a change, the key that it brought": (
        replace(IN_FLIGHT, rotation=replace(CHANGE, phase=Phase.IDLE)),
        8,
    ),
    "frozen is at rest": (replace(IN_FLIGHT, rotation=replace(CHANGE, phase=Phase.FROZEN)), 8),
    "in a change, the key that it replaces": (IN_FLIGHT, 7),
    "while calls drain as well": (DRAINING, 7),
    "on the way back, the key that comes back": (
        replace(IN_FLIGHT, rotation=replace(CHANGE, phase=Phase.ROLLING_BACK, refused_digest="d2")),
        7,
    ),
    "said again in a change, the same one": (replace(IN_FLIGHT, emergency=SEVEN), 7),
    "said again while calls drain, the new one": (replace(DRAINING, emergency=SEVEN), 8),
}


@pytest.mark.parametrize(("status", "version"), LEAKED.values(), ids=LEAKED)
def test_which_key_has_leaked(status: BindingStatus, version: int) -> None:
    said = policy.said(status, gen.at(60))
    assert said.emergency is not None
    assert said.emergency.version == version
    assert said.emergency.since == (gen.NOW if status.emergency and version == 7 else gen.at(60))


def test_without_a_key_nothing_has_leaked() -> None:
    assert policy.said(BindingStatus(), gen.NOW) == BindingStatus()


def test_a_refused_key_is_tried_again() -> None:
    back = replace(IN_FLIGHT, rotation=replace(CHANGE, phase=Phase.ROLLING_BACK, refused_digest="d2"))
    said = policy.said(back, gen.NOW)
    assert said.rotation == replace(CHANGE, phase=Phase.STAGED)


URGENT = {
    "the change to another version": (CHANGE, True),
    "while calls drain": (DRAINING.rotation, True),
    "no change": (None, False),
    "a change that is over": (replace(CHANGE, phase=Phase.IDLE), False),
    "frozen": (replace(CHANGE, phase=Phase.FROZEN), False),
}


@pytest.mark.parametrize(("change", "urgent"), URGENT.values(), ids=URGENT)
def test_which_change_is_an_emergency(change: RotationStatus | None, *, urgent: bool) -> None:
    status = replace(IN_FLIGHT, rotation=change, emergency=SEVEN)
    assert rotation.is_urgent(status) is urgent
    assert not rotation.is_urgent(replace(status, emergency=None))
    assert policy.withdrawn(status).emergency == (SEVEN if urgent else None)


@pytest.mark.parametrize(
    ("outcome", "to_version", "left"),
    [
        (Outcome.COMPLETED, 8, None),
        (Outcome.SUPERSEDED, 8, SEVEN),
        (Outcome.ROLLED_BACK, 8, SEVEN),
    ],
)
def test_it_is_over_when_another_version_has_reached_every_pod(
    outcome: Outcome, to_version: int, left: Emergency | None
) -> None:
    status = replace(IN_FLIGHT, rotation=replace(CHANGE, to_version=to_version), emergency=SEVEN)
    assert rotation.ended(status, outcome, gen.NOW).emergency == left


def test_what_a_restart_may_cut() -> None:
    who = "Deployment n/agent"
    assert policy.may_cut(who, {}, None) == (
        "Deployment n/agent restarts because of the leak: each of its pods is to let its calls end before it does"
    )
    refused = Verdict("PortClosed", "pod c refuses connections")
    whatever = f"{who} restarts because of the leak whatever calls that cuts"
    hooked = "whether the hook of c works, and how many calls wait for it, is not known"
    assert policy.may_cut(who, {}, None, ["c"]) == f"{whatever}: {hooked}"
    assert policy.may_cut(who, {}, refused) == f"{whatever}: pod c refuses connections"
    assert policy.may_cut(who, {"a": NEVER, "b": NEVER}, refused) == (
        f"{whatever}: 2 pods of it have no drain hook, or no grace for it: how many a, b have is not known; pod c "
        "refuses connections"
    )


def test_what_is_told_of_a_leak() -> None:
    assert policy.verdict(QUIET, "voice/a", [], []) is None
    said = policy.verdict(replace(QUIET, emergency=SEVEN), "voice/a", ["Deployment n/a, which has no drain"], [])
    assert said is not None
    assert said.reason == "NewKeyAwaited"
    assert said.message.endswith("Deployment n/a, which has no drain; how many, is told before the restart")
    going = policy.verdict(replace(IN_FLIGHT, emergency=SEVEN), "voice/a", ["not told any more"], ["it may cut"])
    assert going is not None
    assert going.reason == "NewKeyOnItsWay"
    assert going.message.startswith("version 7 of the key has leaked: version 8 goes to every pod")
    assert going.message.endswith(". it may cut")


def test_what_is_told_at_the_end() -> None:
    entry = HistoryEntry("v8", 7, 8, gen.NOW, gen.NOW, Outcome.COMPLETED, 3, 0)
    over = (
        "version 7 of the key, which leaked, is in no pod any more: delete it at its provider, and take "
        "voicekeys.dev/leaked off"
    )
    assert policy.over_text(SEVEN, entry, agents=True) == over
    cut = replace(entry, forced=2, unwitnessed=1)
    assert (
        policy.over_text(SEVEN, cut, agents=True)
        == f"{over}; 2 calls were cut; 1 pod ended without anyone having seen it"
    )


def test_nobody_has_looked_at_pods_that_no_agent_names() -> None:
    entry = HistoryEntry("v8", 7, 8, gen.NOW, gen.NOW, Outcome.COMPLETED, 0, 0)
    assert "delete" not in policy.over_text(SEVEN, entry, agents=False)


LEAK = Emergency(gen.NOW, 7, gen.NOW, "f7")


@pytest.mark.parametrize(
    ("key", "answers"),
    [
        (KeyStatus(8, gen.NOW, "f8"), True),
        (KeyStatus(9, gen.at(9), "f7"), False),
        (KeyStatus(7, gen.NOW, "f7-and-more-fields"), False),
        (KeyStatus(7, gen.at(9), "another"), True),
    ],
    ids=["a new one", "the leaked one put again", "the leaked one with other fields", "of another path"],
)
def test_which_key_answers_a_leak(key: KeyStatus, answers: bool) -> None:  # noqa: FBT001
    """Whatever the versions of the change say: one that is rendered anew in mid-change has one version only."""
    for change in (replace(CHANGE, from_version=key.version, to_version=key.version), CHANGE):
        status = BindingStatus(key=key, rotation=change, emergency=LEAK)
        assert rotation.is_urgent(status) is answers
        over = rotation.ended(status, Outcome.COMPLETED, gen.NOW)
        assert (over.emergency is None) is answers


def test_calls_that_were_cut_freeze_what_comes_after_it() -> None:
    agents = (AgentStatus(gen.agent_status().kind, "agent", forced=1),)
    status = rotation.forced(replace(IN_FLIGHT, emergency=SEVEN, agents=agents), 1, "agent-a", gen.NOW)
    over = rotation.ended(status, Outcome.COMPLETED, gen.NOW)
    assert over.emergency is None
    assert over.rotation is not None
    assert over.rotation.phase is Phase.FROZEN
