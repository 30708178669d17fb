"""When a rollout last got on: its timeout is for each new pod, not for the calls and pods before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests import gen
from tests.policies.rollouts import ADOPTED, PATCHED, progress
from voicekeys.policies import records
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do

if TYPE_CHECKING:
    from voicekeys.model.workload import Pod


def pod(*, ready: bool, created: datetime | None = None, since: datetime | None = None) -> Pod:
    return replace(gen.pod(), ready=ready, created=created, ready_time=since)


def test_nothing_got_on_before_the_patch() -> None:
    assert records.progressed(ADOPTED, [pod(ready=True, since=gen.at(9))]) is None


CASES = {
    "no pod yet": ([], gen.NOW),
    "one got ready": ([pod(ready=True, since=gen.at(30))], gen.at(30)),
    "the first to start counts": ([pod(ready=False, created=gen.at(at)) for at in (20, 10)], gen.at(10)),
    "the later of both": ([pod(ready=True, since=gen.at(5)), pod(ready=False, created=gen.at(8))], gen.at(8)),
    "from before the patch": ([pod(ready=True, since=gen.at(-60))], gen.NOW),
    "times unknown": ([pod(ready=True), pod(ready=False)], gen.NOW),
}


@pytest.mark.parametrize(("pods", "expected"), CASES.values(), ids=CASES)
def test_when_it_last_got_on(pods: list[Pod], expected: datetime) -> None:
    assert records.progressed(PATCHED, pods) == expected


def test_a_rollout_that_gets_on_is_not_late() -> None:
    rolling = gen.deployment(gen.put("status.updatedReplicas", 1))
    at = progress(PATCHED, workload=rolling, now=gen.at(700), since=gen.at(650))
    assert policy.decide(at, None).do is Do.WATCH
    assert policy.decide(at, None).wake == gen.at(650) + timedelta(minutes=10)


def test_without_another_version_there_is_no_way_back() -> None:
    rolling = gen.deployment(gen.put("status.updatedReplicas", 1))
    step = policy.decide(progress(PATCHED, workload=rolling, now=gen.at(700), way_back=False), None)
    assert step.do is Do.WATCH
    assert step.stalls
    assert step.verdict is not None
    assert step.verdict.reason == "RolloutTimedOut"
