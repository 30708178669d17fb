"""What is recorded of an agent, and what holds of its steps in every state: no early patch, always a way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from tests.policies.rollouts import ADOPTED, BLOCK, PATCHED, SETTINGS, progress, restarts
from voicekeys.api.binding import Agent, AgentKind, Rollout
from voicekeys.api.names import trigger_annotation
from voicekeys.api.status import MAX_RESTARTS, AgentStatus, OldPod
from voicekeys.policies import records
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do, Step

if TYPE_CHECKING:
    from voicekeys.model.workload import Workload

AGENT = Agent(AgentKind.DEPLOYMENT, "receptionist")
NOTE = trigger_annotation("frejun")

OLD_POD = OldPod("u-a", "a")
PATCHED_ANEW = replace(PATCHED, previous_trigger=None, previous_digest=None)
ADOPTIONS = {
    "at first sight a workload is believed": (None, gen.deployment(), gen.agent_status(digest="base")),
    "also one that carries a trigger of before": (
        None,
        gen.deployment(gen.trigger("d0")),
        gen.agent_status(trigger="d0", digest="base"),
    ),
    "nothing changed": (ADOPTED, gen.deployment(), ADOPTED),
    "our own patch, not recorded": (
        ADOPTED,
        gen.deployment(gen.trigger("d2")),
        replace(ADOPTED, trigger="d2", digest="d2"),
    ),
    "somebody took the trigger away": (
        replace(PATCHED, patched_time=None),
        gen.deployment(),
        replace(PATCHED, patched_time=None, trigger="", digest="d1"),
    ),
    "somebody took away a trigger that was not the last change's": (
        replace(PATCHED_ANEW, patched_time=None),
        gen.deployment(),
        replace(PATCHED_ANEW, patched_time=None, trigger="", digest=""),
    ),
    "a trigger of pods that were restarted once more": (
        ADOPTED,
        gen.deployment(gen.trigger("d2-1")),
        replace(ADOPTED, trigger="d2-1", digest="d2"),
    ),
    "deleted and made again: a new baseline, the pods on the old key stay known": (
        replace(PATCHED, uid="u-before", old_pods=(OLD_POD,), unwitnessed=1),
        gen.deployment(),
        replace(PATCHED_ANEW, trigger="", digest="base", old_pods=(OLD_POD,), unwitnessed=1),
    ),
    "a status of before without a digest": (
        gen.agent_status(digest=None, restarts=(gen.NOW,)),
        gen.deployment(),
        gen.agent_status(digest="base", restarts=(gen.NOW,)),
    ),
}


@pytest.mark.parametrize(("status", "workload", "after"), ADOPTIONS.values(), ids=ADOPTIONS)
def test_adoption(status: AgentStatus | None, workload: Workload, after: AgentStatus) -> None:
    assert records.adopt(AGENT, status, workload, NOTE, "base") == after


def test_adoption_restarts_nothing() -> None:
    adopted = records.adopt(AGENT, None, gen.deployment(gen.trigger("of another time")), NOTE, "d2")
    assert policy.decide(progress(adopted), None) == Step(Do.NOTHING)


def test_a_lost_fingerprint_key_restarts_nothing_and_forgets_no_old_pod() -> None:
    based = records.rekeyed(replace(PATCHED, old_pods=(OLD_POD,)), "d2", "n2")
    assert based == replace(PATCHED_ANEW, digest="n2", old_pods=(OLD_POD,))
    assert policy.decide(progress(based, desired="n2"), None).do is Do.WATCH
    assert policy.decide(progress(based, desired="n2", old_serving=0), None) == Step(Do.NOTHING)


def test_a_lost_fingerprint_key_forgets_no_restart_that_was_to_come() -> None:
    held = records.rekeyed(ADOPTED, "d2", "n2")
    assert policy.decide(progress(held, desired="n2"), None).do is Do.PATCH
    assert records.rekeyed(replace(ADOPTED, digest=None), "d2", "n2").digest == "n2"
    assert records.rekeyed(ADOPTED, None, "n2").digest == "n2"


TRIGGERS = {
    "a new digest is its own trigger": (ADOPTED, "d2", "d2"),
    "what the pods have": (ADOPTED, "d1", ""),
    "what they have under another trigger": (replace(PATCHED, trigger="t2"), "d2", "t2"),
    "what they had before: the very template of before": (PATCHED, "d1", ""),
    "what they had before, under a trigger": (replace(PATCHED, previous_trigger="t1"), "d1", "t1"),
    "a status of before without triggers": (gen.agent_status(trigger=None), "d1", ""),
    "the same, on the way back": (replace(PATCHED, previous_trigger=None), "d1", ""),
}


@pytest.mark.parametrize(("status", "desired", "trigger"), TRIGGERS.values(), ids=TRIGGERS)
def test_the_target_trigger(status: AgentStatus, desired: str, trigger: str) -> None:
    assert records.target_trigger(status, desired) == trigger


NEXT = {
    "a new digest": (ADOPTED, "d2", set(), False, "d2"),
    "one that pods have already, as those of a refused key": (ADOPTED, "d2", {"d2", "d2-1"}, False, "d2-2"),
    "the template's own, given anew": (replace(PATCHED, digest="0"), "d2", set(), False, "d2-1"),
    "a way back": (PATCHED, "d1", {"", "d2"}, False, ""),
    "a way back to pods that may have read other data": (PATCHED, "d1", {"", "d2"}, True, "d1"),
    "the same under a trigger": (replace(PATCHED, previous_trigger="d1"), "d1", {"d1"}, True, "d1-1"),
}


@pytest.mark.parametrize(("status", "desired", "taken", "doubtful", "trigger"), NEXT.values(), ids=NEXT)
def test_the_next_trigger(
    status: AgentStatus,
    desired: str,
    taken: set[str],
    doubtful: bool,  # noqa: FBT001
    trigger: str,
) -> None:
    assert records.next_trigger(status, desired, taken, doubtful=doubtful) == trigger


def test_a_change_back_in_flight_is_a_restart_of_the_budget() -> None:
    back = records.patched(records.begin(PATCHED, "", gen.at(5)), "", "d1")
    assert records.restarted(back) == (gen.NOW, gen.at(5))


def test_since_when_the_secret_differs_is_kept_for_both_templates() -> None:
    held = records.diverged(ADOPTED, "d2", gen.at(1))
    assert records.diverged(held, "d3", gen.at(9)).diverged_time == gen.at(1)
    assert records.diverged(held, "d1", gen.at(9)) == held, "that it returned is no reason to forget it"
    rolling = records.patched(records.begin(held, "d2", gen.at(6)), "d2", "d2")
    assert (rolling.diverged_time, rolling.previous_diverged_time) == (None, gen.at(1))
    back = records.diverged(rolling, "d1", gen.at(20))
    assert (back.diverged_time, back.previous_diverged_time) == (gen.at(20), gen.at(1))
    there = records.patched(back, "", "d1")
    assert there.diverged_time == gen.at(1)
    assert records.finish(there).diverged_time is None


def test_begin_records_the_way_back() -> None:
    begun = records.begin(ADOPTED, "d2", gen.NOW)
    assert begun == replace(
        ADOPTED,
        previous_trigger="",
        previous_digest="d1",
        patched_time=gen.NOW,
        restarts=(gen.NOW,),
        intended_trigger="d2",
    )


def test_a_change_that_overtakes_another_goes_back_to_what_was_proven_before_both() -> None:
    begun = records.begin(PATCHED, "d3", gen.at(5))
    assert (begun.previous_trigger, begun.previous_digest) == ("", "d1")
    assert begun.restarts == (gen.NOW, gen.at(5))


def test_an_intent_without_a_patch_costs_no_restart() -> None:
    """Killed between the two, the operator writes the intent anew; the workload restarts once."""
    begun = records.begin(records.begin(ADOPTED, "d2", gen.NOW), "d2", gen.at(5))
    assert begun.restarts == (gen.at(5),)
    assert (begun.previous_trigger, begun.previous_digest) == (ADOPTED.trigger, ADOPTED.digest)


def test_finish_drops_the_way_back() -> None:
    done = records.finish(PATCHED)
    assert done == gen.agent_status(trigger="d2", digest="d2", restarts=(gen.NOW,))


def test_a_restart_counts_for_an_hour() -> None:
    assert records.spent(restarts(1, 59.9, 60, 90), gen.NOW) == restarts(59.9, 1)


def test_what_bindings_did_together_counts_as_one_restart() -> None:
    own, others = [gen.at(1), gen.at(4)], [gen.at(second) for second in (0, 3, 9, 14, 16, 40)]
    assert records.spent(own, gen.at(50), others) == [gen.at(1), gen.at(4), gen.at(14), gen.at(40)]


def test_a_bindings_own_restarts_all_count() -> None:
    own = [gen.at(second) for second in (0, 1, 2)]
    assert records.spent(own, gen.at(5)) == own


def test_an_intent_is_no_restart_until_the_template_carries_it() -> None:
    intended = records.begin(ADOPTED, "d2", gen.NOW)
    assert records.restarted(intended) == ()
    assert records.restarted(records.patched(intended, "d2", "d2")) == (gen.NOW,)
    assert records.restarted(records.finish(records.patched(intended, "d2", "d2"))) == (gen.NOW,)


def test_as_many_restarts_are_kept_as_the_largest_budget_counts() -> None:
    """A budget beyond what is remembered would never be spent."""
    status = ADOPTED
    for second in range(80):
        status = records.patched(records.begin(status, f"d{second}", gen.at(second)), f"d{second}", f"d{second}")
    assert len(status.restarts) == MAX_RESTARTS == 60
    settings = Rollout(max_restarts_per_hour=60)
    held = policy.decide(progress(replace(status, digest="d1"), spent=status.restarts, settings=settings), None)
    assert held.verdict is not None
    assert held.verdict.reason == "RestartBudgetSpent"


_DIGESTS = st.sampled_from(["d1", "d2", "d3"])


@given(
    ready=st.integers(-100, 100),
    ago=st.lists(st.integers(0, 7200), max_size=20),
    budget=st.integers(1, 60),
    rolling_back=st.booleans(),
    desired=_DIGESTS,
    patched=st.booleans(),
    updated=st.integers(0, 3),
    seconds=st.integers(0, 2000),
)
def test_no_state_breaks_an_invariant(
    ready: int,
    ago: list[int],
    budget: int,
    rolling_back: bool,  # noqa: FBT001
    desired: str,
    patched: bool,  # noqa: FBT001
    updated: int,
    seconds: int,
) -> None:
    now = gen.at(seconds)
    state = progress(
        PATCHED if patched else ADOPTED,
        ready_at=gen.at(ready),
        spent=records.spent([now - timedelta(seconds=one) for one in ago], now),
        settings=Rollout(max_restarts_per_hour=budget),
        rolling_back=rolling_back,
        desired=desired,
        workload=gen.deployment(gen.rolling(updated, 3)),
        now=now,
    )
    step = policy.decide(state, None)
    if step.do is Do.PATCH:
        assert now >= state.ready_at, "patched before every node can read the Secret"
        assert rolling_back or len(state.spent) < budget, "patched beyond the budget"
        assert desired != state.status.digest, "patched for nothing"
    if step.do is Do.ROLL_BACK:
        assert state.status.previous_digest == "d1", "rolled back to what was not in use before"
        assert now >= gen.NOW + SETTINGS.timeout
        assert not rolling_back
    assert (step.verdict is None) == (step.do is Do.NOTHING)
    assert policy.decide(state, BLOCK).do is not Do.PATCH
    if step.do is Do.HOLD:
        assert step.wake is not None
        assert step.wake > now
        assert policy.decide(replace(state, now=step.wake, spent=records.spent(state.spent, step.wake)), None) != step


@given(digests=st.lists(_DIGESTS, min_size=1, max_size=8), finished=st.lists(st.booleans(), min_size=8, max_size=8))
def test_the_way_back_is_always_the_pair_that_served_last(digests: list[str], finished: list[bool]) -> None:
    """Over any sequence of changes, finished or overtaken, `previous_*` is the last pair whose pods all served."""
    status, served = ADOPTED, ("", "d1")
    for digest, done in zip(digests, finished, strict=False):
        if digest == status.digest:
            continue
        trigger = records.next_trigger(status, digest, set())
        status = records.begin(status, trigger, gen.NOW)
        assert (status.previous_trigger, status.previous_digest) == served
        status = records.patched(status, trigger, digest)
        assert records.target_trigger(status, served[1]) == served[0]
        if done:
            served, status = (trigger, digest), records.finish(status)


def test_a_trigger_that_is_taken_off_is_counted_only_during_a_change() -> None:
    found = records.adopt(AGENT, PATCHED_ANEW, gen.deployment(), NOTE, "base")
    settled = replace(PATCHED_ANEW, patched_time=None)
    assert records.stripped(settled, found) == replace(settled, trigger=""), "its pods start with the current data"
    assert records.stripped(replace(PATCHED_ANEW, strips=1), found).strips == 2
    assert records.stripped(replace(settled, old_pods=(OLD_POD,)), found).strips == 1


MANAGERS = {
    "nobody tells": ([], ""),
    "the last of them, not us": ([("helm", 1, ""), ("kubectl", 2, ""), ("voicekeys", 3, "")], "kubectl"),
    "who writes a status or scales is not meant": ([("helm", 1, ""), ("kube-controller-manager", 2, "status")], "helm"),
}


@pytest.mark.parametrize(("entries", "writer"), MANAGERS.values(), ids=MANAGERS)
def test_who_last_wrote_a_workload(entries: list[tuple[str, int, str]], writer: str) -> None:
    fields = [
        {"manager": name, "time": gen.text(gen.at(at)), "fieldsV1": {"f:spec": {}}, "subresource": part}
        for name, at, part in entries
    ]
    assert gen.deployment(gen.put("metadata.managedFields", fields)).writer == writer


REMADE = {
    "first sight": (None, "uid-1", "d2", False),
    "the same one": (AgentStatus(AgentKind.DEPLOYMENT, "a", "uid-1", digest="d1"), "uid-1", "d2", False),
    "not seen before": (AgentStatus(AgentKind.DEPLOYMENT, "a", None, digest="d1"), "uid-2", "d2", False),
    "with a restart to come": (AgentStatus(AgentKind.DEPLOYMENT, "a", "uid-1", digest="d1"), "uid-2", "d2", True),
    "settled": (AgentStatus(AgentKind.DEPLOYMENT, "a", "uid-1", digest="d2"), "uid-2", "d2", False),
    "while the Secret held other data": (
        AgentStatus(AgentKind.DEPLOYMENT, "a", "uid-1", digest="d2", diverged_time=gen.NOW),
        "uid-2",
        "d2",
        True,
    ),
}


@pytest.mark.parametrize(("status", "uid", "desired", "expected"), REMADE.values(), ids=REMADE)
def test_is_remade(status: AgentStatus | None, uid: str, desired: str, *, expected: bool) -> None:
    assert records.is_remade(status, replace(gen.deployment(), uid=uid), desired) is expected
