"""A hook that cannot run, of a pod that nobody can ask for its calls: the kubelet's event tells, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.regressions.calls import bound, change, order
from tests.regressions.small import NS, Small
from voicekeys.api import names
from voicekeys.model.errors import ApiForbidden, ApiUnreachable
from voicekeys.model.identity import Name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicekeys.model.errors import ApiError

FAILED = "FailedPreStopHook"
COMMAND = ["/bin/wait-until-idle"]


def hooked(small: Small, name: str, preStop: dict[str, object] | None = None) -> None:  # noqa: N803 - as in a manifest
    """Give a pod a hook that holds it by itself."""
    pod = small.cluster.pods[name]
    lifecycle = {"preStop": preStop or {"exec": {"command": COMMAND}}}
    pod["spec"] |= {"containers": [{"name": "c", "lifecycle": lifecycle}], "terminationGracePeriodSeconds": 1845}
    small.cluster.tell("MODIFIED", pod)


def rolled(small: Small, old: str = "old", new: str = "new") -> None:
    """The new pod serves, and the old one is being deleted."""
    small.pod(new)
    hooked(small, new)
    small.controller()
    small.terminate(old)


def says(small: Small, pod: str) -> None:
    """A kubelet writes an event: the hook of this pod failed."""
    small.cluster.kubelet_said.add((f"p-{pod}", FAILED))


def looks(small: Small, pod: str) -> int:
    return small.cluster.looks.count((NS, f"p-{pod}", FAILED))


@pytest.fixture
def small() -> Iterator[Small]:
    """An agent of mode Exec with one pod, whose key has just changed: the old pod is being deleted."""
    with Small() as made:
        made.deploy()
        made.pod("old")
        hooked(made, "old")
        bound(made, mode="Exec", command=COMMAND)
        made.pass_by(5)
        change(made)
        assert len(made.patches) == 1
        yield made


def test_a_hook_that_failed_is_told_with_what_to_do(small: Small) -> None:
    says(small, "old")
    rolled(small)
    small.pass_by(5)
    assert small.is_true("HookFailed")
    told = small.message("HookFailed")
    assert told.startswith("Deployment n/agent: the preStop of pod old failed")
    assert "calls were cut, or may have been" in told
    assert names.APPROVE_ANNOTATION in told
    assert [reason for reason, _ in small.events].count("HookFailed") == 1


def test_it_is_seen_at_the_end_of_a_pod_that_ended_before_anybody_looked(small: Small) -> None:
    says(small, "old")
    rolled(small)
    small.end("old")
    small.pass_by(5)
    assert looks(small, "old") == 1
    assert small.is_true("HookFailed")
    assert small.is_true("CallsDrained")


def test_a_pod_is_looked_at_once_while_it_drains_and_once_when_it_ended(small: Small) -> None:
    rolled(small)
    small.pass_by(60)
    assert looks(small, "old") == 1
    small.exit("old")
    small.pass_by(20)
    small.end("old")
    small.pass_by(60)
    assert looks(small, "old") == 2
    assert looks(small, "new") == 0
    assert not small.message("HookFailed")


def test_an_event_has_a_moment_to_come(small: Small) -> None:
    """The kubelet runs the hook after the deletion, and writes its event after that."""
    pod = small.cluster.pods["old"]
    pod["spec"]["terminationGracePeriodSeconds"] = pod["metadata"]["deletionGracePeriodSeconds"] = 1845
    rolled(small)
    pod["metadata"]["deletionTimestamp"] = small.stamp(1845)
    small.cluster.tell("MODIFIED", pod)
    small.pass_by(1)
    wake = small.loop.run_until_complete(small.reconciler.reconcile(Name(NS, "b")))
    assert wake is not None
    assert wake - small.clock.now() <= timedelta(seconds=2)
    assert looks(small, "old") == 0
    small.pass_by(5)
    assert looks(small, "old") == 1


def test_the_next_restart_waits_for_a_person(small: Small) -> None:
    says(small, "old")
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert small.is_true("Ready")
    small.put("three")
    small.pass_by(60)
    assert len(small.patches) == 1
    assert small.reason("AgentsCurrent") == "HookFailed"
    assert small.secret() == "three"
    order(small, names.APPROVE_ANNOTATION, "looked")
    small.pass_by(10)
    assert len(small.patches) == 2
    assert not small.message("HookFailed")
    assert any(reason == "Approved" for reason, _ in small.events)


def test_it_is_known_after_a_restart_of_the_operator_and_after_a_suspend(small: Small) -> None:
    says(small, "old")
    rolled(small)
    small.end("old")
    small.pass_by(20)
    small.boot()
    small.pass_by(200)
    small.bind(agents=small.binding()["spec"]["agents"], suspend=True)
    small.pass_by(5)
    small.bind(agents=small.binding()["spec"]["agents"])
    small.put("three")
    small.pass_by(60)
    assert len(small.patches) == 1
    assert small.is_true("HookFailed")


def test_it_is_known_though_the_status_could_not_be_written_at_first(small: Small) -> None:
    failures = iter([True, True])

    def unavailable(status: object) -> None:
        if "HookFailed" in str(status) and next(failures, False):
            raise ApiUnreachable("Unavailable", "the API server does not answer")

    small.before_status = unavailable  # type: ignore[method-assign]
    says(small, "old")
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert small.is_true("HookFailed")


def test_a_fault_elsewhere_does_not_make_it_forgotten(small: Small) -> None:
    says(small, "old")
    rolled(small)
    small.end("old")
    small.pass_by(20)

    async def unavailable(_: object) -> None:
        raise ApiUnreachable("Unavailable", "the API server does not answer")

    get, small.cluster.get_workload = small.cluster.get_workload, unavailable  # type: ignore[method-assign,assignment]
    small.sync_now("look")
    small.pass_by(5)
    small.cluster.get_workload = get  # type: ignore[method-assign]
    small.pass_by(5)
    assert small.is_true("HookFailed")


def test_an_order_to_go_on_is_for_one_restart(small: Small) -> None:
    """The one for pods without a working hook; that its calls may be cut is said once more."""
    says(small, "old")
    rolled(small)
    small.end("old")
    small.pass_by(20)
    order(small, names.ARM_ANNOTATION, "now")
    small.put("three")
    small.pass_by(20)
    assert len(small.patches) == 2
    assert any(reason == "RestartMayCutCalls" and "preStop" in message for reason, message in small.events)
    assert small.is_true("HookFailed")


def test_after_an_approval_the_same_pods_are_not_told_again(small: Small) -> None:
    """Their hook failed before the person looked, or while it was known to."""
    says(small, "old")
    rolled(small)
    small.pass_by(5)
    order(small, names.APPROVE_ANNOTATION, "looked")
    small.pass_by(5)
    assert not small.message("HookFailed")
    small.end("old")
    small.pass_by(20)
    assert looks(small, "old") == 1
    assert not small.message("HookFailed")


@pytest.mark.parametrize(
    "error",
    [
        ApiForbidden("Forbidden", "list events: check the operator's RBAC", status=403),
        ApiUnreachable("Unavailable", "the API server does not answer"),
    ],
    ids=["forbidden", "unreachable"],
)
def test_events_that_cannot_be_read_hold_nothing_up(small: Small, error: ApiError) -> None:
    says(small, "old")
    written: list[str] = []
    small.before_status = lambda status: written.append(str(status))  # type: ignore[method-assign]
    small.cluster.no_events = error
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert not [one for one in written if error.reason in one]
    assert looks(small, "old") == 1
    assert small.is_true("CallsDrained")
    assert small.is_true("Ready")
    assert small.outcomes() == ["Completed"]
    small.put("three")
    small.pass_by(20)
    assert len(small.patches) == 2


def test_an_api_server_that_never_answers_keeps_the_drain_for_seconds_only(small: Small) -> None:
    async def silent(*_: object) -> bool:
        await asyncio.Event().wait()
        return True

    small.cluster.has_event = silent  # type: ignore[method-assign,assignment]
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert small.outcomes() == ["Completed"]


def test_of_many_pods_that_end_at_once_a_few_are_looked_at() -> None:
    with Small() as small:
        small.deploy(replicas=30)
        for number in range(30):
            small.pod(f"old-{number}")
            hooked(small, f"old-{number}")
        bound(small, mode="Exec", command=COMMAND)
        small.pass_by(5)
        change(small)
        small.controller(updated=30, available=30)
        for number in range(30):
            small.terminate(f"old-{number}")
        small.pass_by(10)
        assert len(small.cluster.looks) == 8


def test_the_pause_of_mode_sleep_is_looked_at_too() -> None:
    with Small() as small:
        small.deploy()
        small.pod("old")
        hooked(small, "old", {"sleep": {"seconds": 1800}})
        bound(small, mode="Sleep")
        small.pass_by(5)
        change(small)
        says(small, "old")
        rolled(small)
        small.pass_by(5)
        assert small.is_true("HookFailed")


def test_whose_calls_are_asked_for_has_no_need_of_events(small: Small) -> None:
    """A hook of the contract fails as well where the agent ends by itself, with no call left."""
    says(small, "old")
    bound(small, mode="HTTP")
    small.pass_by(2)
    rolled(small)
    small.end("old")
    small.pass_by(20)
    assert small.cluster.looks == []
    assert not small.message("HookFailed")
