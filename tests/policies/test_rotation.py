"""The key change as a table: no phase that is never reached, none that is never left, no row that nothing uses."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import voicekeys
from tests import gen
from voicekeys.api.binding import AgentKind
from voicekeys.api.status import (
    MAX_HISTORY,
    AgentStatus,
    BindingStatus,
    Frozen,
    HistoryEntry,
    KeyStatus,
    OldPod,
    Outcome,
    Phase,
    RotationStatus,
    SecretStatus,
)
from voicekeys.model.digest import UNKNOWN_DIGEST
from voicekeys.policies import rotation as policy
from voicekeys.policies.rotation import TRANSITIONS, Event
from voicekeys.policies.sights import NOTHING, Ended


@dataclass(frozen=True)
class Change:
    """What a rotation leads to."""

    digest: str = "d2d2d2d2d2"
    version: int = 8
    refused: str = ""


CHANGE = Change()
KEY = KeyStatus(7, gen.NOW, "f7")
QUIET = BindingStatus(key=KEY)
IN_FLIGHT = RotationStatus("v8-d2d2d2d2", Phase.ROLLING, 7, 8, gen.NOW, pods=3, pods_on_old_key=2)


def _reached(start: Phase) -> set[Phase]:
    reached, ahead = {start}, [start]
    while ahead:
        phase = ahead.pop()
        ahead += [to for (before, _), to in TRANSITIONS.items() if before is phase and to not in reached]
        reached |= set(ahead)
    return reached


def test_every_phase_is_reached_from_idle() -> None:
    assert _reached(Phase.IDLE) == set(Phase)


@pytest.mark.parametrize("phase", sorted(set(Phase)))
def test_every_phase_leads_back_to_idle(phase: Phase) -> None:
    assert Phase.IDLE in _reached(phase)


def test_a_new_key_may_come_in_every_phase() -> None:
    assert {before for before, event in TRANSITIONS if event is Event.KEY_CHANGED} == set(Phase)


def test_every_event_is_in_the_table_and_raised_by_code() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)
    raised = set()
    for path in Path(inspect.getfile(voicekeys)).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        tables = [node for node in tree.body if isinstance(node, ast.AnnAssign | ast.ClassDef)]
        skipped = {id(inner) for table in tables if path.name == "rotation.py" for inner in ast.walk(table)}
        raised |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "Event"
            and id(node) not in skipped
        }
    assert {event.name for event in Event} <= raised


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_an_event_without_a_row_changes_nothing(phase: Phase, event: Event) -> None:
    expected = TRANSITIONS.get((phase, event), phase)
    assert policy.next_phase(phase, event) is expected
    if (phase, event) not in TRANSITIONS:
        assert expected is phase


def test_a_change_begins() -> None:
    begun = policy.begun(QUIET, "d1", CHANGE, gen.NOW)
    assert begun.rotation == RotationStatus("v8-d2d2d2d2", Phase.STAGED, 7, 8, gen.NOW)
    assert begun.history == ()


def test_a_first_key_has_no_version_before() -> None:
    begun = policy.begun(BindingStatus(), "d1", CHANGE, gen.NOW)
    assert begun.rotation is not None
    assert (begun.rotation.from_version, begun.rotation.to_version) == (8, 8)


NOT_BEGUN = {
    "the pods have it": (QUIET, "d2d2d2d2d2", CHANGE),
    "it is in flight": (replace(QUIET, rotation=IN_FLIGHT), "d1", CHANGE),
    "it is a way back": (replace(QUIET, rotation=IN_FLIGHT), "d2", Change(refused="d2")),
}


@pytest.mark.parametrize(("status", "baseline", "change"), NOT_BEGUN.values(), ids=NOT_BEGUN)
def test_a_change_does_not_begin(status: BindingStatus, baseline: str, change: Change) -> None:
    assert policy.begun(status, baseline, change, gen.NOW) is status


@pytest.mark.parametrize("phase", sorted(set(Phase) - policy.AT_REST))
def test_a_newer_key_overtakes_one_in_flight(phase: Phase) -> None:
    status = replace(QUIET, rotation=replace(IN_FLIGHT, phase=phase, id="v8-other"))
    begun = policy.begun(status, "d1", replace(CHANGE, version=9), gen.at(5))
    assert begun.rotation == RotationStatus("v9-d2d2d2d2", Phase.STAGED, 7, 9, gen.at(5))
    assert [one.outcome for one in begun.history] == [Outcome.SUPERSEDED]


def test_the_same_key_may_come_again_later() -> None:
    status = replace(QUIET, rotation=replace(IN_FLIGHT, phase=Phase.IDLE))
    begun = policy.begun(status, "d1", CHANGE, gen.at(5))
    assert begun.rotation is not None
    assert begun.rotation.phase is Phase.STAGED
    assert begun.history == ()


def test_a_change_ends_in_the_history() -> None:
    agents = (gen.agent_status(unwitnessed=2), gen.agent_status(name="other", unwitnessed=None))
    ended = policy.ended(replace(QUIET, rotation=IN_FLIGHT, agents=agents), Outcome.COMPLETED, gen.at(90))
    entry = HistoryEntry("v8-d2d2d2d2", 7, 8, gen.NOW, gen.at(90), Outcome.COMPLETED, pods=3, unwitnessed=2)
    assert ended.history == (entry,)
    assert ended.rotation == replace(IN_FLIGHT, phase=Phase.IDLE, pods_on_old_key=None)
    assert [agent.unwitnessed for agent in ended.agents] == [None, None]


def test_the_history_keeps_the_last_five() -> None:
    status = QUIET
    for number in range(8):
        change = replace(IN_FLIGHT, id=f"v{number}", pods=None)
        status = policy.ended(replace(status, rotation=change), Outcome.COMPLETED, gen.NOW)
    assert [one.id for one in status.history] == ["v3", "v4", "v5", "v6", "v7"]
    assert len(status.history) == MAX_HISTORY
    assert status.history[0].pods == 0


def test_calls_are_counted_for_the_change_in_which_their_pods_end() -> None:
    agents = [AgentStatus(AgentKind.DEPLOYMENT, name) for name in ("a", "b", "c")]
    first = policy.tallied(policy.tallied(agents[0], Ended(5, 0, 1)), Ended(1, 1, 0).plus(Ended(1, 0, 0)))
    assert (first.completed, first.forced, first.aborted) == (7, 1, 1)
    second = policy.tallied(agents[1], Ended(2**40, 0, 0))
    assert second.completed == policy.MOST
    assert policy.tallied(agents[2], NOTHING) == agents[2]

    status = policy.ended(
        replace(QUIET, rotation=IN_FLIGHT, agents=(first, second, agents[2])), Outcome.COMPLETED, gen.NOW
    )
    (entry,) = status.history
    assert (entry.completed, entry.forced, entry.aborted) == (policy.MOST, 1, 1)
    assert status.agents == tuple(agents)


def test_nothing_ends_where_nothing_began() -> None:
    assert policy.ended(QUIET, Outcome.COMPLETED, gen.NOW) is QUIET


def test_pods_are_counted_before_the_first_of_them_ends() -> None:
    agent = gen.agent_status(old_pods=(OldPod("u1", "a"), OldPod("u2", "b")))
    begun = replace(policy.begun(BindingStatus(), "d1", CHANGE, gen.NOW), agents=(agent,))
    counted = policy.counted(begun)
    assert counted.rotation is not None
    assert counted.rotation.pods == 2
    fewer = policy.counted(replace(counted, agents=()))
    assert fewer == replace(counted, agents=())


def test_nothing_is_counted_where_nothing_changes() -> None:
    assert policy.counted(BindingStatus()) == BindingStatus()
    over = policy.ended(policy.begun(BindingStatus(), "d1", CHANGE, gen.NOW), Outcome.COMPLETED, gen.NOW)
    assert policy.counted(over) == over


def test_what_was_never_served_with_is_nothing_to_go_back_to() -> None:
    rolling = replace(QUIET, key=replace(KEY, version=8), rotation=replace(IN_FLIGHT, id="v8-other"))
    begun = policy.begun(rolling, "d1", replace(CHANGE, version=9), gen.at(5))
    assert begun.rotation is not None
    assert (begun.rotation.from_version, begun.rotation.to_version) == (7, 9)


def test_what_serves_and_only_drains_is_what_to_go_back_to() -> None:
    change = replace(IN_FLIGHT, id="v8-other", phase=Phase.DRAINING)
    begun = policy.begun(replace(QUIET, key=replace(KEY, version=8), rotation=change), "d1", CHANGE, gen.at(5))
    assert begun.rotation is not None
    assert begun.rotation.from_version == 8


def test_the_key_of_before_put_again_ends_the_change_in_flight() -> None:
    status = replace(QUIET, rotation=replace(IN_FLIGHT, phase=Phase.ROLLING_BACK, id="v8-other"))
    begun = policy.begun(status, CHANGE.digest, replace(CHANGE, version=9), gen.at(5))
    assert [one.outcome for one in begun.history] == [Outcome.SUPERSEDED]
    assert begun.rotation is not None
    assert (begun.rotation.phase, begun.rotation.to_version) == (Phase.STAGED, 9)


def test_the_same_data_under_a_newer_version_goes_on() -> None:
    status = replace(QUIET, rotation=IN_FLIGHT)
    assert policy.begun(status, CHANGE.digest, replace(CHANGE, version=9), gen.at(5)) is status


@pytest.mark.parametrize("rotation", [None, IN_FLIGHT], ids=["no change", "not refused"])
def test_nothing_is_tried_again(rotation: RotationStatus | None) -> None:
    status = replace(QUIET, rotation=rotation)
    assert policy.retried(status, gen.NOW) is status


def test_a_refused_key_is_tried_again_after_the_way_back() -> None:
    refused = replace(IN_FLIGHT, phase=Phase.IDLE, refused_digest="d2")
    tried = policy.retried(replace(QUIET, rotation=refused), gen.NOW)
    assert tried.rotation == replace(refused, refused_digest=None)


def test_a_refused_key_is_tried_again_with_all_its_time_on_the_way_back() -> None:
    agents = (gen.agent_status(patched_time=gen.NOW), gen.agent_status(name="other"))
    refused = replace(IN_FLIGHT, phase=Phase.ROLLING_BACK, refused_digest="d2")
    tried = policy.retried(replace(QUIET, rotation=refused, agents=agents), gen.at(60))
    assert tried.rotation == replace(refused, refused_digest=None, phase=Phase.STAGED)
    assert [one.patched_time for one in tried.agents] == [gen.at(60), None]


def test_pods_of_a_refused_key_are_restarted_where_the_secret_went_back_meanwhile() -> None:
    """Their containers that crashed have read the key of before, under the trigger of the refused one."""
    agents = (
        gen.agent_status(digest="d2", patched_time=gen.NOW, diverged_time=gen.at(30)),
        gen.agent_status(name="back", digest="d1", patched_time=gen.NOW, diverged_time=gen.at(5)),
        gen.agent_status(name="not yet", digest="d2", patched_time=gen.NOW),
    )
    refused = replace(IN_FLIGHT, phase=Phase.ROLLING_BACK, refused_digest="d2")
    tried = policy.retried(replace(QUIET, rotation=refused, agents=agents), gen.at(60))
    assert [one.digest for one in tried.agents] == [UNKNOWN_DIGEST, "d1", "d2"]


def test_a_change_notes_what_the_secret_takes_from_the_agents() -> None:
    agents = (gen.agent_status(digest="d1"), gen.agent_status(name="other", digest=CHANGE.digest))
    begun = policy.begun(replace(QUIET, agents=agents), "d1", CHANGE, gen.at(3))
    assert [one.diverged_time for one in begun.agents] == [gen.at(3), None]
    back = replace(CHANGE, digest="d1", refused=CHANGE.digest)
    again = policy.begun(begun, CHANGE.digest, back, gen.at(9))
    assert [one.diverged_time for one in again.agents] == [gen.at(3), gen.at(9)]


def test_times_of_a_clock_that_was_ahead_count_as_now() -> None:
    agents = (gen.agent_status(patched_time=gen.at(3600)), gen.agent_status(patched_time=gen.NOW), gen.agent_status())
    ahead = replace(QUIET, secret=SecretStatus("s", "d1", gen.at(7200)), agents=agents)
    righted = policy.not_ahead(ahead, gen.at(5))
    assert righted.secret == SecretStatus("s", "d1", gen.at(6))
    assert [one.patched_time for one in righted.agents] == [gen.at(6), gen.NOW, None]
    assert policy.not_ahead(righted, gen.at(5)) is righted
    assert policy.not_ahead(QUIET, gen.NOW) is QUIET


def test_who_took_triggers_off_is_forgiven_by_a_new_change_and_by_sync_now() -> None:
    agents = (gen.agent_status(digest="d1", strips=2), gen.agent_status(name="other"))
    status = replace(QUIET, agents=agents)
    assert [one.strips for one in policy.retried(status, gen.NOW).agents] == [None, None]
    assert [one.strips for one in policy.begun(status, "d1", CHANGE, gen.NOW).agents] == [None, None]


def test_cut_calls_add_up_and_freeze_until_somebody_approves() -> None:
    status = policy.forced(replace(QUIET, rotation=IN_FLIGHT), 2, "agent-a", gen.at(1))
    status = policy.forced(status, 1, "agent-b", gen.at(9))
    assert status.frozen == Frozen(gen.at(1), 3, "agent-b")
    agents = (AgentStatus(AgentKind.DEPLOYMENT, "agent", forced=3),)
    status = policy.ended(replace(status, agents=agents), Outcome.COMPLETED, gen.at(20))
    assert status.rotation is not None
    assert status.rotation.phase is Phase.FROZEN
    assert status.history[-1].forced == 3
    assert status.agents[0].forced is None
    approved = policy.approved(status)
    assert approved.frozen is None
    assert approved.rotation is not None
    assert approved.rotation.phase is Phase.IDLE


def test_an_approval_while_the_next_change_is_in_flight_leaves_its_phase() -> None:
    frozen = replace(QUIET, rotation=IN_FLIGHT, frozen=Frozen(gen.NOW, 1, "agent-a"))
    assert policy.approved(frozen).rotation == IN_FLIGHT
    assert policy.approved(replace(frozen, rotation=None)).rotation is None
