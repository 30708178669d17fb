"""Workloads and pods, parsed from what an API server sends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests import gen
from voicekeys.model.identity import WorkloadId
from voicekeys.model.workload import Workload, parse_time, parse_workload

BARE = {"metadata": {"uid": "u-1", "resourceVersion": "1", "generation": 1}, "spec": {"template": {}}}


def test_times() -> None:
    assert parse_time(None) is None
    assert parse_time("") is None
    assert parse_time("2026-01-02T03:04:05Z") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_workload_that_its_controller_has_not_seen() -> None:
    deployment = parse_workload(WorkloadId("Deployment", "voice", "new"), BARE)
    assert (deployment.replicas, deployment.updated, deployment.available) == (1, 0, 0)
    assert not deployment.settled
    assert not deployment.paused
    assert deployment.strategy == {"type": "RollingUpdate"}
    assert (deployment.triggers, deployment.selector, deployment.pod_spec) == ({}, {}, {})
    assert deployment.grace_seconds == 30
    assert parse_workload(WorkloadId("DaemonSet", "voice", "new"), BARE).replicas == 0


def test_a_deployment() -> None:
    deployment = gen.deployment(gen.trigger("d1"), gen.put("spec.paused", True))
    assert str(deployment.id) == "Deployment voice/receptionist"
    assert (deployment.uid, deployment.resource_version) == ("u-receptionist", "42")
    assert deployment.triggers == {"voicekeys.dev/key.frejun": "d1"}
    assert deployment.strategy == {"type": "RollingUpdate", "maxSurge": 1, "maxUnavailable": 0}
    assert deployment.selector == {"matchLabels": {"app": "receptionist"}}
    assert deployment.grace_seconds == 1845
    assert deployment.paused


ROLLED_OUT = {
    "a Deployment": (gen.deployment(), True),
    "a StatefulSet": (gen.stateful_set(), True),
    "a DaemonSet": (gen.daemon_set(), True),
    "scaled to nothing": (gen.deployment(gen.replicas(0), gen.rolling(0, 0)), True),
    "more than wanted": (gen.deployment(gen.replicas(2)), True),
    "an old template": (gen.deployment(gen.rolling(2, 3)), False),
    "not available": (gen.deployment(gen.rolling(3, 2)), False),
    "a DaemonSet with an old pod": (gen.daemon_set(gen.rolling(2, 3)), False),
    "a DaemonSet that lacks a pod": (gen.daemon_set(gen.rolling(3, 2)), False),
    "not seen by its controller": (gen.deployment(gen.put("metadata.generation", 4)), False),
}


@pytest.mark.parametrize(("workload", "done"), ROLLED_OUT.values(), ids=ROLLED_OUT)
def test_rolled_out(workload: Workload, done: bool) -> None:  # noqa: FBT001
    assert workload.rolled_out is done


def test_a_pod() -> None:
    pod = gen.pod("a", gen.of_key("d1"), gen.put("metadata.annotations.other", "x"))
    assert (pod.uid, pod.name, pod.node) == ("u-a", "a", "node-1")
    assert (pod.owner, pod.owner_kind, pod.owner_name) == ("u-rs", "ReplicaSet", f"receptionist-{gen.HASH}")
    assert pod.triggers == {"voicekeys.dev/key.frejun": "d1"}
    assert (pod.terminating, pod.deadline, pod.grace_seconds) == (False, None, 60)
    assert (pod.ended, pod.ready, pod.trouble) == (False, True, "")


def test_a_pod_that_was_just_made() -> None:
    pod = gen.pod("a", gen.drop("spec"), gen.drop("status"), gen.drop("metadata.ownerReferences"))
    assert (pod.node, pod.owner, pod.owner_kind, pod.owner_name) == ("", "", "", "")
    assert (pod.ended, pod.ready, pod.trouble, pod.grace_seconds) == (False, False, "", 30)


def test_an_owner_that_does_not_control_is_none() -> None:
    pod = gen.pod("a", gen.put("metadata.ownerReferences", [{"kind": "Team", "name": "t", "uid": "u-t"}]))
    assert pod.owner == ""


def test_a_terminating_pod() -> None:
    pod = gen.pod("a", gen.terminating(gen.at(45)), gen.put("metadata.deletionGracePeriodSeconds", 45))
    assert (pod.terminating, pod.deadline, pod.grace_seconds) == (True, gen.at(45), 45)


def test_a_forced_deletion_counts_with_the_pod_s_own_grace() -> None:
    """K9: the object may go at once, the container runs on."""
    pod = gen.pod("a", gen.terminating(gen.NOW), gen.put("metadata.deletionGracePeriodSeconds", 0))
    assert pod.grace_seconds == 60


GONE = gen.terminating(gen.NOW)
UP: gen.Object = {"running": {}}
OVER = {"terminated": {"exitCode": 0}}
WAITS = {"waiting": {"reason": "ContainerCreating"}}
ENDS = {
    "running": ((), False),
    "succeeded": ((gen.put("status.phase", "Succeeded"), gen.containers(OVER)), True),
    "failed, as by eviction": ((gen.put("status.phase", "Failed"), gen.containers()), True),
    "deleted, still running": ((GONE,), False),
    "deleted, all containers terminated": ((GONE, gen.containers(OVER, OVER)), True),
    "deleted, one container runs": ((GONE, gen.containers(OVER, UP)), False),
    "deleted, a native sidecar runs": (
        (
            GONE,
            gen.containers(OVER),
            gen.put("status.initContainerStatuses", [{"name": "s", "state": UP}]),
        ),
        False,
    ),
    "deleted, a container never started": ((GONE, gen.containers(OVER, WAITS)), False),
    "deleted, nothing said of containers": ((GONE, gen.containers()), False),
    "deleted before it had a node": ((GONE, gen.put("spec.nodeName", "")), True),
    "waiting for a node": ((gen.put("spec.nodeName", ""), gen.containers()), False),
    "crashed: the kubelet starts it again, in the same pod": ((gen.containers(OVER),), False),
}


@pytest.mark.parametrize(("modifiers", "ended"), ENDS.values(), ids=ENDS)
def test_when_a_pod_has_ended(modifiers: tuple[gen.Modifier, ...], ended: bool) -> None:  # noqa: FBT001
    assert gen.pod("a", *modifiers).ended is ended


def statuses(**fields: Any) -> gen.Modifier:
    return gen.put("status.containerStatuses", [{"name": "agent"} | fields])


def unscheduled(**fields: str) -> gen.Modifier:
    return gen.put("status.conditions", [{"type": "PodScheduled", "status": "False"} | fields])


CRASH = {"terminated": {"exitCode": 1, "reason": "Error", "message": f"usage: --key {gen.CANARY}"}}
TROUBLES = {
    "none": ((), ""),
    "starting": ((statuses(state=WAITS),), ""),
    "pulling fails": (
        (statuses(state={"waiting": {"reason": "ImagePullBackOff", "message": "x"}}),),
        "container agent: ImagePullBackOff",
    ),
    "an init container fails": (
        (
            gen.put(
                "status.initContainerStatuses",
                [{"name": "init", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
            ),
        ),
        "container init: CrashLoopBackOff",
    ),
    "crashed, and up again, not ready": (
        (statuses(state=UP, lastState=CRASH, restartCount=1, ready=False),),
        "container agent: Error (exit code 1)",
    ),
    "crashed without a reason": (
        (statuses(state=UP, lastState={"terminated": {"exitCode": 2}}, restartCount=1),),
        "container agent: unknown (exit code 2)",
    ),
    "crashed once, ready by now": ((statuses(state=UP, lastState=CRASH, restartCount=1, ready=True),), ""),
    "no node has room": (
        (unscheduled(reason="Unschedulable", message="0/3 nodes are available"),),
        "Unschedulable: 0/3 nodes are available",
    ),
    "no node, nothing said": ((unscheduled(),), "Unschedulable: "),
    "other conditions": ((gen.put("status.conditions", [{"type": "Ready", "status": "False"}]),), ""),
}


@pytest.mark.parametrize(("modifiers", "trouble"), TROUBLES.values(), ids=TROUBLES)
def test_why_a_pod_does_not_start(modifiers: tuple[gen.Modifier, ...], trouble: str) -> None:
    shown = gen.pod("a", *modifiers).trouble
    assert shown == trouble
    assert gen.CANARY not in shown


def test_a_pod_serves_until_it_is_deleted_or_has_ended() -> None:
    pod = gen.pod("a")
    assert pod.serving
    assert not replace(pod, terminating=True).serving
    assert not replace(pod, ended=True).serving
