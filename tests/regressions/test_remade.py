"""A workload that is made anew in the middle of a key change, and what an operator cannot know then is not believed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.regressions.small import NS, Small
from voicekeys.model.errors import ApiUnreachable
from voicekeys.model.identity import Name

if TYPE_CHECKING:
    from voicekeys.model.identity import WorkloadId


@pytest.fixture
def held(small: Small) -> Small:
    """The new key is in the Secret, and a quota holds the restart."""
    small.quota(hard=1, used=1)
    small.put("two")
    small.pass_by(60)
    assert small.reason("Stalled") == "QuotaExceeded"
    return small


def remake(small: Small) -> None:
    """As `kubectl delete --cascade=orphan` and apply do: the pods stay."""
    small.workload["metadata"]["uid"] = "made-anew"


def test_pods_of_before_that_were_taken_over_are_restarted(held: Small) -> None:
    remake(held)
    held.pass_by(60)
    assert not held.is_true("Ready"), "its pod has the key of before"
    held.quota(hard=2, used=1)
    held.pass_by(90, 5)
    assert len(held.patches) == 1
    held.pod("new")
    held.controller()
    held.end("old")
    held.pass_by(60)
    assert held.is_true("Ready")
    assert len(held.patches) == 1


def test_also_when_the_workload_could_not_be_read_at_first(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failing = small.cluster.get_workload, iter([True, True])

    async def get_workload(workload: WorkloadId) -> Any:
        if next(failing, False):
            raise ApiUnreachable("ApiUnreachable", "it does not answer")
        return await real(workload)

    monkeypatch.setattr(small.cluster, "get_workload", get_workload)
    remake(small)
    small.end("old")
    small.pod("on-the-first-key")
    small.put("two")
    small.pass_by(60)
    assert not small.is_true("Ready")
    assert len(small.patches) == 1


def test_after_the_change_it_restarts_nothing(small: Small) -> None:
    small.put("two")
    small.pass_by(20)
    small.pod("new")
    small.controller()
    small.end("old")
    small.pass_by(10)
    assert small.is_true("Ready")
    remake(small)
    small.pass_by(60)
    assert small.is_true("Ready")
    assert len(small.patches) == 1


def test_the_way_back_is_found_for_a_workload_made_anew(small: Small) -> None:
    small.put("bad")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.controller(updated=1, available=0)
    small.unreadable = {1}
    small.pass_by(700, 5)
    remake(small)
    for name in ("new", "old"):
        small.end(name)
    small.pod("again", ready=False)
    small.pass_by(60)
    small.unreadable = set()
    small.pass_by(100, 5)
    assert small.secret() == "one"
    assert small.reason("Stalled") == "NewKeyRefused"


def ready_for_a_moment(small: Small, name: str) -> None:
    """Let a pod get ready, and crash ten seconds later."""
    for ready, seconds in ((True, 10), (False, 290)):
        status = small.cluster.pods[name]["status"]
        status["conditions"] = [{"type": "Ready", "status": str(ready), "lastTransitionTime": small.stamp()}]
        small.cluster.tell("MODIFIED", small.cluster.pods[name])
        small.pass_by(seconds, 10)


def test_a_pod_that_is_ready_for_moments_again_and_again_is_refused(small: Small) -> None:
    small.put("bad")
    small.pass_by(20)
    small.pod("new", ready=False)
    small.controller(updated=1, available=0)
    for _ in range(6):
        ready_for_a_moment(small, "new")
    assert small.reason("Stalled") == "NewKeyRefused"
    assert small.secret() == "one"


def test_another_secret_is_not_taken_for_the_last_good_one_while_vault_is_down(small: Small) -> None:
    small.put("other", path="voice/o")
    small.bind("c", source={"path": "voice/o"}, agents=[])
    small.pass_by(5)
    small.unbind("c")
    small.vault_down = True
    small.boot()
    small.pass_by(30)
    container = small.workload["spec"]["template"]["spec"]["containers"][0]
    container["envFrom"] = [{"secretRef": {"name": "c"}}]
    small.end("old")
    small.pod("on-c")
    small.bind(target={"secretName": "c"})
    small.pass_by(60)
    assert small.reason("SecretSynced") == "SecretDiffers"
    assert "SourceReachable" in small.message("SecretSynced")
    small.vault_down = False
    small.pass_by(400, 5)
    data = small.cluster.secrets[Name(NS, "c")]["data"]["api_key"]
    assert base64.b64decode(data) == b"key-one-0123456789"
    assert len(small.patches) == 1, "the pod has read what was there"
    assert not small.is_true("Ready")
