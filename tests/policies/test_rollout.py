"""One agent's next step: never before the Secret is everywhere, never beyond the budget, always with a way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.api.binding import Agent, AgentKind, Rollout
from voicekeys.api.names import trigger_annotation
from voicekeys.api.status import MAX_RESTARTS, AgentStatus, OldPod
from voicekeys.model.verdict import Verdict
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do, Progress, Step

if TYPE_CHECKING:
    from voicekeys.model.workload import Workload

ID = "Deployment voice/receptionist"
AGENT = Agent(AgentKind.DEPLOYMENT, "receptionist")
NOTE = trigger_annotation("frejun")
SETTINGS = Rollout()
BLOCK = Verdict("SecretNotUsed", "add a secretKeyRef")

ADOPTED = gen.agent_status()
PATCHED = gen.agent_status(
    trigger="d2", digest="d2", previous_trigger="", previous_digest="d1", patched_time=gen.NOW, restarts=(gen.NOW,)
)


def progress(status: AgentStatus = ADOPTED, **fields: Any) -> Progress:
    """An adopted, healthy Deployment that is to have the digest ``d2``, which every node can read by now."""
    base: dict[str, Any] = {
        "workload": gen.deployment(),
        "desired": "d2",
        "ready_at": gen.NOW,
        "settings": SETTINGS,
        "spent": [],
        "old_serving": 3,
        "troubled": [],
        "rolling_back": False,
        "now": gen.NOW,
    }
    return Progress(status=status, **(base | fields))


def restarts(*minutes: float) -> list[datetime]:
    return [gen.at(-60 * ago) for ago in minutes]


BEFORE = {
    "the template may be patched": (
        progress(),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
    "preflight found something in the way": (
        progress(),
        BLOCK,
        Step(Do.HOLD, BLOCK, gen.at(60), stalls=True),
    ),
    "a node may still serve the old Secret": (
        progress(ready_at=gen.at(3)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "Propagating",
                f"the Secret has the new key; {ID} restarts 5 s later, when every node can read it",
            ),
            gen.at(3),
        ),
    ),
    "the budget of the hour is spent": (
        progress(spent=restarts(59, 50, 40, 30, 20, 10)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "RestartBudgetSpent",
                f"{ID} was restarted 6 times within an hour, as often as spec.rollout.maxRestartsPerHour allows; it "
                "goes on at 2026-03-01T12:01:00Z. Find out what changes the key so often, or raise the number",
            ),
            gen.at(60),
            stalls=True,
        ),
    ),
    "the budget was lowered below what is spent": (
        progress(spent=restarts(59, 50, 40), settings=Rollout(max_restarts_per_hour=1)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "RestartBudgetSpent",
                f"{ID} was restarted 3 times within an hour, as often as spec.rollout.maxRestartsPerHour allows; it "
                "goes on at 2026-03-01T12:20:00Z. Find out what changes the key so often, or raise the number",
            ),
            gen.at(20 * 60),
            stalls=True,
        ),
    ),
    "a way back costs no restart of the budget": (
        progress(spent=restarts(59, 50, 40, 30, 20, 10), rolling_back=True),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
    "a paused workload is patched all the same": (
        progress(workload=gen.deployment(gen.put("spec.paused", True))),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
}

HALF = gen.deployment(gen.rolling(updated=2, available=3))
NONE = gen.deployment(gen.rolling(updated=1, available=3))
BROKEN = gen.pod(
    "receptionist-y",
    gen.put("status.containerStatuses", [{"name": "agent", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]),
)
LATE = gen.at(600)
TIMED_OUT = f"1 of 3 pods of {ID} serve 10 min after the restart on the new key"

AFTER = {
    "nothing is to be done": (progress(replace(ADOPTED, digest="d2")), Step(Do.NOTHING)),
    "all new pods serve, the old ones are on their way out": (progress(PATCHED, old_serving=0), Step(Do.NOTHING)),
    "new pods come": (
        progress(PATCHED, workload=HALF),
        Step(Do.WATCH, Verdict("Rolling", f"2 of 3 pods of {ID} serve; they restart on the new key"), LATE),
    ),
    "all new pods are there, an old one still takes calls": (
        progress(PATCHED, old_serving=1),
        Step(Do.WATCH, Verdict("Rolling", f"3 of 3 pods of {ID} serve; they restart on the new key"), LATE),
    ),
    "the controller has not seen the patch": (
        progress(PATCHED, workload=gen.deployment(gen.put("metadata.generation", 4)), old_serving=0),
        Step(Do.WATCH, Verdict("Rolling", f"3 of 3 pods of {ID} serve; they restart on the new key"), LATE),
    ),
    "the user's pause": (
        progress(PATCHED, workload=gen.deployment(gen.put("spec.paused", True), gen.rolling(0, 3)), now=LATE),
        Step(
            Do.HOLD,
            Verdict(
                "WaitingForResume",
                f"{ID} is paused and carries the new key: its pods restart when you resume it (kubectl rollout resume)",
            ),
        ),
    ),
    "the user deletes the pods": (
        progress(PATCHED, workload=gen.stateful_set(gen.strategy("OnDelete"), gen.rolling(0, 3)), now=LATE),
        Step(
            Do.WATCH,
            Verdict(
                "WaitingForDelete",
                "StatefulSet voice/receptionist carries the new key; delete its old pods one by one, each takes the "
                "key as it returns",
            ),
        ),
    ),
    "the user's partition keeps the other pods": (
        progress(
            PATCHED,
            workload=gen.stateful_set(gen.strategy("RollingUpdate", partition=2), gen.rolling(1, 3)),
            now=LATE,
        ),
        Step(
            Do.WATCH,
            Verdict(
                "WaitingForPartition",
                "StatefulSet voice/receptionist carries the new key; its pods below "
                "spec.updateStrategy.rollingUpdate.partition 2 take it when you set partition to 0",
            ),
        ),
    ),
    "a partition of 0 holds nothing": (
        progress(PATCHED, workload=gen.stateful_set(gen.strategy("RollingUpdate", partition=0), gen.rolling(2, 3))),
        Step(
            Do.WATCH,
            Verdict("Rolling", "2 of 3 pods of StatefulSet voice/receptionist serve; they restart on the new key"),
            LATE,
        ),
    ),
    "new pods did not come in time: back": (
        progress(PATCHED, workload=NONE, now=LATE, troubled=[BROKEN]),
        Step(
            Do.ROLL_BACK,
            Verdict(
                "NewKeyRefused",
                f"{TIMED_OUT} (receptionist-y: container agent: ImagePullBackOff). Versions are being changed back: "
                "put a working key into Vault",
            ),
            stalls=True,
        ),
    ),
    "below the partition a pod that does not start is refused, too": (
        progress(
            PATCHED,
            workload=gen.stateful_set(gen.strategy("RollingUpdate", partition=2), gen.rolling(1, 2)),
            now=LATE,
            settings=Rollout(timeout=timedelta(seconds=90)),
        ),
        Step(
            Do.ROLL_BACK,
            Verdict(
                "NewKeyRefused",
                "1 of 3 pods of StatefulSet voice/receptionist serve 90 s after the restart on the new key. Versions "
                "are being changed back: put a working key into Vault",
            ),
            stalls=True,
        ),
    ),
    "there is nothing to go back to": (
        progress(replace(PATCHED, previous_digest=None), workload=NONE, now=LATE),
        Step(Do.WATCH, Verdict("RolloutTimedOut", f"{TIMED_OUT}: see `kubectl describe pod`"), stalls=True),
    ),
    "the way back goes on": (
        progress(PATCHED, workload=HALF, rolling_back=True),
        Step(Do.WATCH, Verdict("RollingBack", f"2 of 3 pods of {ID} serve; they go back to the previous key"), LATE),
    ),
    "the way back does not come in time, either": (
        progress(PATCHED, workload=NONE, now=LATE, rolling_back=True),
        Step(Do.WATCH, Verdict("RolloutTimedOut", f"{TIMED_OUT}: see `kubectl describe pod`"), stalls=True),
    ),
    "a way back that is not recorded as patched is followed": (
        progress(replace(PATCHED, patched_time=None), workload=HALF, rolling_back=True, now=LATE),
        Step(
            Do.WATCH,
            Verdict("RollingBack", f"2 of 3 pods of {ID} serve; they go back to the previous key"),
            LATE + timedelta(minutes=10),
        ),
    ),
    "the way back is done": (progress(PATCHED, old_serving=0, rolling_back=True), Step(Do.NOTHING)),
}
STEPS = BEFORE | {what: (state, None, step) for what, (state, step) in AFTER.items()}


@pytest.mark.parametrize(("state", "block", "step"), STEPS.values(), ids=STEPS)
def test_the_next_step(state: Progress, block: Verdict | None, step: Step) -> None:
    assert policy.decide(state, block) == step


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
        replace(PATCHED, patched_time=None, trigger="", digest=""),
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
    assert policy.adopt(AGENT, status, workload, NOTE, "base") == after


def test_adoption_restarts_nothing() -> None:
    adopted = policy.adopt(AGENT, None, gen.deployment(gen.trigger("of another time")), NOTE, "d2")
    assert policy.decide(progress(adopted), None) == Step(Do.NOTHING)


def test_a_lost_fingerprint_key_restarts_nothing_and_forgets_no_old_pod() -> None:
    based = policy.rebase(replace(PATCHED, old_pods=(OLD_POD,)), gen.deployment(gen.trigger("d2")), NOTE, "n2")
    assert based == replace(PATCHED_ANEW, digest="n2", old_pods=(OLD_POD,))
    assert policy.decide(progress(based, desired="n2"), None).do is Do.WATCH
    assert policy.decide(progress(based, desired="n2", old_serving=0), None) == Step(Do.NOTHING)


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
    assert policy.target_trigger(status, desired) == trigger


def test_begin_records_the_way_back() -> None:
    begun = policy.begin(ADOPTED, gen.NOW)
    assert begun == replace(
        ADOPTED, previous_trigger="", previous_digest="d1", patched_time=gen.NOW, restarts=(gen.NOW,)
    )


def test_a_change_that_overtakes_another_goes_back_to_what_was_proven_before_both() -> None:
    begun = policy.begin(PATCHED, gen.at(5))
    assert (begun.previous_trigger, begun.previous_digest) == ("", "d1")
    assert begun.restarts == (gen.NOW, gen.at(5))


def test_an_intent_without_a_patch_costs_no_restart() -> None:
    """Killed between the two, the operator writes the intent anew; the workload restarts once."""
    begun = policy.begin(policy.begin(ADOPTED, gen.NOW), gen.at(5))
    assert begun.restarts == (gen.at(5),)
    assert (begun.previous_trigger, begun.previous_digest) == (ADOPTED.trigger, ADOPTED.digest)


def test_finish_drops_the_way_back() -> None:
    done = policy.finish(PATCHED)
    assert done == gen.agent_status(trigger="d2", digest="d2", restarts=(gen.NOW,))


def test_a_restart_counts_for_an_hour() -> None:
    assert policy.spent(restarts(1, 59.9, 60, 90), gen.NOW) == restarts(59.9, 1)


def test_as_many_restarts_are_kept_as_the_largest_budget_counts() -> None:
    """A budget beyond what is remembered would never be spent."""
    status = ADOPTED
    for second in range(80):
        status = replace(policy.begin(status, gen.at(second)), trigger=f"d{second}", digest=f"d{second}")
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
        spent=policy.spent([now - timedelta(seconds=one) for one in ago], now),
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
        assert policy.decide(replace(state, now=step.wake, spent=policy.spent(state.spent, step.wake)), None) != step


@given(digests=st.lists(_DIGESTS, min_size=1, max_size=8), finished=st.lists(st.booleans(), min_size=8, max_size=8))
def test_the_way_back_is_always_the_pair_that_served_last(digests: list[str], finished: list[bool]) -> None:
    """Over any sequence of changes, finished or overtaken, `previous_*` is the last pair whose pods all served."""
    status, served = ADOPTED, ("", "d1")
    for digest, done in zip(digests, finished, strict=False):
        if digest == status.digest:
            continue
        trigger = policy.target_trigger(status, digest)
        status = policy.begin(status, gen.NOW)
        assert (status.previous_trigger, status.previous_digest) == served
        status = replace(status, trigger=trigger, digest=digest)
        assert policy.target_trigger(status, served[1]) == served[0]
        if done:
            served, status = (trigger, digest), policy.finish(status)
