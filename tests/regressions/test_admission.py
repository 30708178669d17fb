"""Who arms new pods may change while the operator runs, or look as if it did."""

from __future__ import annotations

import pytest

from tests.regressions.calls import agent_with_a_call, bound, hook
from tests.regressions.small import Small
from voicekeys.reconcilers.admission import Admission


class Policy:
    """Answers in turn whether the policy is there; the last answer stays."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.changes = 0

    async def ask(self) -> bool | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def change(self) -> None:
        self.changes += 1

    def admission(self) -> Admission:
        return Admission(self.ask, self.change, again=0)


@pytest.mark.parametrize(
    ("answers", "arms", "changes"),
    [
        ((True, True), True, 0),
        ((True, False, True), True, 0),
        ((True, False, False), False, 1),
        ((True, None), True, 0),
        ((True, False, None), True, 0),
        ((False, True), True, 1),
        ((None, None), False, 0),
        ((None, True), True, 0),
    ],
    ids=["stays", "replaced", "gone", "right lost", "gone and right lost", "comes", "no right", "right comes"],
)
async def test_two_looks(answers: tuple[bool | None, ...], arms: bool, changes: int) -> None:  # noqa: FBT001
    """What is kept in a template for good is not decided by one answer."""
    policy = Policy(*answers)
    admission = policy.admission()
    await admission.look()
    await admission.look()
    assert (admission.arms, policy.changes, admission.changes) == (arms, changes, changes)


async def test_a_team_s_operator_never_asks() -> None:
    admission = Admission(None, lambda: None)
    await admission.look()
    assert not admission.arms


def test_pods_that_came_after_the_policy_went_are_counted() -> None:
    """Every pod was armed, so nobody looked again; the next ones are not."""
    with agent_with_a_call(armed=True) as small:
        assert small.is_true("DrainArmed")
        scaled(small)
        small.pass_by(300)
        assert small.is_true("DrainArmed"), "nobody has a reason to look"
        small.admission.goes()
        small.pass_by(10)
        assert small.reason("DrainArmed") == "UnarmedPods"
        hook(small, "late")
        small.pass_by(300)
        assert small.is_true("DrainArmed")


def scaled(small: Small) -> None:
    """One pod more, which nobody armed."""
    small.workload["spec"]["replicas"] = 2
    small.pod("late")
    small.controller(updated=2, available=2)


@pytest.mark.parametrize("what", ["suspended", "Vault down"])
def test_new_pods_are_armed_whatever_stops_the_rest(what: str) -> None:
    """Admission takes the token and the gauge's image from the status; pods come when they come."""
    with Small() as small:
        small.vault_down = what == "Vault down"
        bound(small, mode="Gauge", port=8080, gauge={"jsonPointer": "/calls"})
        if what == "suspended":
            small.bind(agents=small.binding()["spec"]["agents"], suspend=True)
        small.pass_by(10)
        assert small.agent()["drainToken"]
        assert small.status()["gaugeImage"]
