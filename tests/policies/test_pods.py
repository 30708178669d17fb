"""Which pods hold the old key: none leaves the set unseen before its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.api.names import trigger_annotation
from voicekeys.api.status import OldPod
from voicekeys.policies import pods as policy
from voicekeys.policies.pods import SeenPods

if TYPE_CHECKING:
    from voicekeys.model.workload import Pod, Workload

NOTE = trigger_annotation("frejun")
DEADLINE = gen.at(600)


def seen(*pods: Pod, ended: tuple[str, ...] = ()) -> SeenPods:
    return SeenPods({pod.uid: pod for pod in pods}, dict.fromkeys(ended))


def known(name: str = "a", **fields: Any) -> OldPod:
    return replace(OldPod(f"u-{name}", name, "node-1", 60), **fields)


def ended_now(obj: gen.Object) -> None:
    gen.put("status.phase", "Succeeded")(obj)
    gen.containers({"terminated": {"exitCode": 0}})(obj)


FOLLOWED = {
    "a pod of an older template joins": ((), seen(gen.pod("a")), "d2", (known(),), 0),
    "a pod of another template joins": ((), seen(gen.pod("a", gen.of_key("d1"))), "d2", (known(),), 0),
    "a pod of the wanted template does not": ((), seen(gen.pod("a", gen.of_key("d2"))), "d2", (), 0),
    "a pod without a trigger is the wanted one where none is wanted": ((), seen(gen.pod("a")), "", (), 0),
    "a pod that ended before it was known never joins": ((), seen(gen.pod("a", ended_now)), "d2", (), 0),
    "a pod without a node joins": (
        (),
        seen(gen.pod("a", gen.put("spec.nodeName", ""))),
        "d2",
        (known(node=None),),
        0,
    ),
    "a pod that is deleted stays, with its deadline": (
        (known(),),
        seen(gen.pod("a", gen.terminating(DEADLINE))),
        "d2",
        (known(deadline=DEADLINE),),
        0,
    ),
    "a pod whose containers were seen terminated leaves": ((known(),), seen(gen.pod("a", ended_now)), "d2", (), 0),
    "a pod that is gone and was seen to end leaves": ((known(),), seen(ended=("u-a",)), "d2", (), 0),
    "a pod that a rollback wants again leaves": (
        (known(),),
        seen(gen.pod("a", gen.of_key("d1"))),
        "d1",
        (),
        0,
    ),
    "a pod that vanished unseen stays": (
        (known(deadline=DEADLINE),),
        seen(),
        "d2",
        (known(deadline=DEADLINE, vanished_time=gen.NOW),),
        0,
    ),
    "one that was not being deleted gets a deadline of one grace": (
        (known(),),
        seen(),
        "d2",
        (known(deadline=gen.at(60), vanished_time=gen.NOW),),
        0,
    ),
    "one whose grace is not known gets the default": (
        (known(grace_seconds=None),),
        seen(),
        "d2",
        (known(grace_seconds=None, deadline=gen.at(30), vanished_time=gen.NOW),),
        0,
    ),
    "it keeps the time at which it vanished": (
        (known(deadline=DEADLINE, vanished_time=gen.at(-9)),),
        seen(),
        "d2",
        (known(deadline=DEADLINE, vanished_time=gen.at(-9)),),
        0,
    ),
    "one second before deadline and grace it stays": (
        (known(deadline=gen.at(-59), vanished_time=gen.at(-99)),),
        seen(),
        "d2",
        (known(deadline=gen.at(-59), vanished_time=gen.at(-99)),),
        0,
    ),
    "after deadline and grace it counts as unwitnessed": (
        (known(deadline=gen.at(-60), vanished_time=gen.at(-99)), known("b")),
        seen(ended=("u-b",)),
        "d2",
        (),
        1,
    ),
    "one that was only missing from an outdated list has not vanished": (
        (known(deadline=gen.at(60), vanished_time=gen.NOW),),
        seen(gen.pod("a")),
        "d2",
        (known(),),
        0,
    ),
    "the set is sorted by name": ((known("b"),), seen(gen.pod("b"), gen.pod("a")), "d2", (known("a"), known("b")), 0),
}


@pytest.mark.parametrize(("before", "watched", "trigger", "after", "lost"), FOLLOWED.values(), ids=FOLLOWED)
def test_follow(
    before: tuple[OldPod, ...], watched: SeenPods, trigger: str, after: tuple[OldPod, ...], lost: int
) -> None:
    assert policy.follow(before, watched, NOTE, trigger, gen.NOW) == (after, lost)


_SIGHTS = st.sampled_from(["alive old", "alive new", "terminating", "ended", "gone seen", "gone unseen"])


@given(
    rounds=st.lists(
        st.tuples(st.lists(_SIGHTS, min_size=3, max_size=3), st.integers(0, 200)),
        min_size=1,
        max_size=8,
    )
)
def test_a_pod_leaves_only_seen_or_after_its_deadline_and_a_grace(rounds: list[tuple[list[str], int]]) -> None:
    """Whatever is seen, in whatever order: each leaver has a reason, and leavers, lost and kept add up."""
    held: tuple[OldPod, ...] = ()
    now = gen.NOW
    for sights, seconds in rounds:
        now += timedelta(seconds=seconds)
        state = {f"u-{name}": sight for name, sight in zip("abc", sights, strict=True)}
        watched = _watched(state)
        before = {pod.uid: pod for pod in held}
        held, lost = policy.follow(held, watched, NOTE, "d2", now)
        after = {pod.uid: pod for pod in held}
        left = before.keys() - after.keys()
        witnessed = {uid for uid in left if state[uid] in {"ended", "gone seen", "alive new"}}
        assert lost == len(left) - len(witnessed)
        for uid in left - witnessed:
            assert state[uid] == "gone unseen"
            assert before[uid].deadline is not None or before[uid].grace_seconds == 0
            assert now >= _least_release(before[uid], now)
        for uid, pod in after.items():
            assert state[uid] in {"alive old", "terminating", "gone unseen"}
            assert (pod.vanished_time is not None) == (state[uid] == "gone unseen")
        joined = after.keys() - before.keys()
        assert {state[uid] for uid in joined} <= {"alive old", "terminating"}
        assert all(uid in after for uid, sight in state.items() if sight in {"alive old", "terminating"})


def _watched(state: dict[str, str]) -> SeenPods:
    looks = {"alive old": (), "alive new": (gen.of_key("d2"),), "terminating": (gen.terminating(DEADLINE),)}
    looks["ended"] = (ended_now,)
    alive = [gen.pod(uid.removeprefix("u-"), *looks[sight]) for uid, sight in state.items() if sight in looks]
    return seen(*alive, ended=tuple(uid for uid, sight in state.items() if sight == "gone seen"))


def _least_release(pod: OldPod, now: datetime) -> datetime:
    grace = timedelta(seconds=30 if pod.grace_seconds is None else pod.grace_seconds)
    return (pod.deadline or now) + grace


def test_the_release_of_a_pod_that_is_there_is_no_question() -> None:
    with pytest.raises(ValueError, match="pod a has not vanished"):
        policy.release_time(known())


def test_the_release_of_a_pod_that_an_older_status_has_without_a_deadline() -> None:
    assert policy.release_time(known(vanished_time=gen.NOW)) == gen.at(60)


OWNERS = {
    "a Deployment's pods are those of its ReplicaSets": (
        gen.deployment(),
        gen.owned_by("ReplicaSet", f"receptionist-{gen.HASH}", "u-1"),
        True,
    ),
    "not those of a Deployment whose name goes on": (
        gen.deployment(),
        gen.owned_by("ReplicaSet", f"receptionist-eu-{gen.HASH}", "u-1"),
        False,
    ),
    "nor of a StatefulSet that is called like a ReplicaSet": (
        gen.deployment(),
        gen.owned_by("StatefulSet", "receptionist-eu", "u-1"),
        False,
    ),
    "nor an orphan": (gen.deployment(), gen.drop("metadata.ownerReferences"), False),
    "a StatefulSet's pods are its own": (
        gen.stateful_set(),
        gen.owned_by("StatefulSet", "receptionist", "u-receptionist"),
        True,
    ),
    "not those of one deleted before, of the same name": (
        gen.stateful_set(),
        gen.owned_by("StatefulSet", "receptionist", "u-before"),
        False,
    ),
}


@pytest.mark.parametrize(("workload", "owner", "its"), OWNERS.values(), ids=OWNERS)
def test_whose_pod_it_is(workload: Workload, owner: gen.Modifier, its: bool) -> None:  # noqa: FBT001
    pod = gen.pod("a", owner)
    assert policy.of_workload([pod], workload) == ([pod] if its else [])


BETWEEN = {
    "made before": ((-9,), -20, False),
    "made meanwhile": ((), 3, True),
    "a container of it started meanwhile": ((-9, 3), -20, True),
    "both before and after": ((11,), -20, False),
    "nobody knows": ((), None, True),
}


@pytest.mark.parametrize(("started", "created", "may"), BETWEEN.values(), ids=BETWEEN)
def test_what_a_pod_may_have_read(started: tuple[int, ...], created: int | None, may: bool) -> None:  # noqa: FBT001
    moments = tuple(gen.at(second) for second in started)
    pod = replace(gen.pod(), started=moments, created=None if created is None else gen.at(created))
    assert policy.may_differ(pod, gen.NOW, gen.at(10)) is may
    assert not policy.may_differ(replace(pod, ended=True), gen.NOW, gen.at(10))


OLDER = {
    "made before": ((), -1, True),
    "a container of it started before": ((-1,), 3, True),
    "made at that moment": ((), 0, False),
    "made after": ((4,), 3, False),
    "nobody knows": ((), None, True),
}


@pytest.mark.parametrize(("started", "created", "older"), OLDER.values(), ids=OLDER)
def test_whether_a_pod_is_older_than_a_moment(started: tuple[int, ...], created: int | None, *, older: bool) -> None:
    moments = tuple(gen.at(second) for second in started)
    pod = replace(gen.pod(), started=moments, created=None if created is None else gen.at(created))
    assert policy.is_older(pod, gen.NOW) is older


def test_the_recorded_pods_that_still_run() -> None:
    pod = gen.pod("a")
    known = (OldPod(pod.uid, "a"), OldPod("gone", "b"))
    stranger = gen.pod("c")
    seen = policy.SeenPods({pod.uid: pod, stranger.uid: stranger}, {})
    assert policy.alive_of(known, seen) == {pod.uid: pod}


def test_when_containers_started_is_parsed() -> None:
    running: list[gen.Object] = [{"running": {"startedAt": gen.text(gen.at(5))}}, {"waiting": {}}, {"running": {}}]
    assert gen.pod("a", gen.containers(*running)).started == (gen.at(5),)
