"""A tool takes the trigger off the pod template, again and again: pods on the current key do not restart for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.regressions.small import Small


@pytest.fixture
def small(small: Small) -> Small:
    """The second key serves, and the pod of the first one has its last calls."""
    small.put("two")
    small.pass_by(20)
    small.pod("new")
    small.controller()
    small.terminate("old")
    small.pass_by(5)
    return small


def strip(small: Small, name: str) -> None:
    """A tool applies the manifest as it has it; the pods restart."""
    small.workload["spec"]["template"]["metadata"].pop("annotations")
    small.workload["metadata"]["generation"] += 1
    entry = {"manager": "argocd-controller", "operation": "Update", "fieldsV1": {"f:spec": {}}, "time": small.stamp()}
    small.workload["metadata"]["managedFields"] = [entry, {"manager": "voicekeys", "fieldsV1": {"f:spec": {}}}]
    small.pod(name)
    small.controller()
    small.pass_by(5)


def test_between_changes_it_is_left_alone(small: Small) -> None:
    small.end("old")
    small.pass_by(5)
    strip(small, "again")
    small.end("new")
    small.pass_by(3700, 60)
    assert len(small.patches) == 1, "its pods have read the current key"
    assert small.is_true("Ready")
    small.put("three")
    small.pass_by(20)
    assert len(small.patches) == 2
    assert [pod["name"] for pod in small.agent()["oldPods"]] == ["again"]
    removed = [message for reason, message in small.events if reason == "TriggerRemoved"]
    assert len(removed) == 1
    assert "argocd-controller took annotation voicekeys.dev/key.b off" in removed[0]


def test_during_a_change_it_is_put_back_once_and_then_said(small: Small) -> None:
    strip(small, "stripped")
    assert len(small.patches) == 2
    small.pod("newer")
    small.controller()
    strip(small, "stripped-again")
    small.pass_by(3700, 60)
    assert len(small.patches) == 2
    assert small.reason("Stalled") == "TriggerRemoved"
    assert "argocd-controller" in small.message("Stalled")
    assert "ignoreDifferences" in small.message("Stalled")
    assert "old" in {pod["name"] for pod in small.agent()["oldPods"]}, "it may still have a call"
    for name in ("old", "new", "stripped", "newer"):
        small.end(name)
    small.pass_by(20)
    assert small.is_true("Ready"), "no pod on the old key is left"
    assert small.outcomes() == ["Completed"]
    assert "strips" not in small.agent()


def test_sync_now_puts_it_back_once_more(small: Small) -> None:
    strip(small, "stripped")
    small.pod("newer")
    small.controller()
    strip(small, "stripped-again")
    small.sync_now("mended")
    small.pass_by(10)
    assert len(small.patches) == 3
