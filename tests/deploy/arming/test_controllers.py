"""Pods that the real controllers make, with no operator running: armed, and nothing written on the workload for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.arming.pods import HOOK, OWNERS, agent, await_arming, bind, env, notes, pre_stop, template
from tests.lab import LabError
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from tests.lab import Lab

Object = dict[str, Any]

HTTP = {"mode": "HTTP", "maxCallDuration": "30m"}
KINDS = pytest.mark.parametrize("kind", OWNERS)


def workload(kind: str, name: str = "agent", **meta: Any) -> Object:
    """Return a workload as its team writes it."""
    made = template()
    made["metadata"]["labels"] = {"app": name}
    extra: Object = {"serviceName": name} if kind == "StatefulSet" else {}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": made, **extra}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def apply(lab: Lab, namespace: str, *objects: Object, server_side: bool = True) -> None:
    """Apply manifests as their team does."""
    text = "\n---\n".join(json.dumps(one) for one in objects)
    lab.kubectl("apply", *(["--server-side"] if server_side else []), "-n", namespace, "-f", "-", stdin=text)


def pods(lab: Lab, namespace: str, name: str = "agent") -> list[Object]:
    """Return the pods of a workload, once there is one."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{name}"
    found: list[Object] = eventually(lambda: lab.api("GET", path)["items"], f"pods of {name}", seconds=30)
    return found


def path(kind: str, namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/agent"


@KINDS
def test_its_pods_have_the_hook(armed: Lab, tenant: str, kind: str) -> None:
    bind(armed, tenant, "frejun", agent(HTTP, kind))
    await_arming(armed, tenant)

    apply(armed, tenant, workload(kind))

    (pod,) = pods(armed, tenant)
    assert pod["metadata"]["ownerReferences"][0]["kind"] == OWNERS[kind]
    assert pre_stop(pod) == HOOK
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1845
    assert notes(pod)["voicekeys.dev/armed"] == "HTTP"
    assert notes(pod)["voicekeys.dev/armed-by"] == "frejun"
    assert env(pod)["VOICEKEYS_DRAIN_PORT"] == "9909"


@KINDS
def test_gitops_sees_nothing_of_it(armed: Lab, tenant: str, kind: str) -> None:
    """The workload is what it would be without a binding, to the byte; and its manifest has no diff."""
    user = workload(kind)
    bare = armed.make_namespace(f"{tenant}-bare")
    apply(armed, bare, user)
    bind(armed, tenant, "frejun", agent(HTTP, kind))
    await_arming(armed, tenant)
    apply(armed, tenant, user)
    assert pre_stop(pods(armed, tenant)[0]) == HOOK
    assert pre_stop(pods(armed, bare)[0]) is None

    here, there = armed.api("GET", path(kind, tenant)), armed.api("GET", path(kind, bare))

    assert json.dumps(here["spec"]) == json.dumps(there["spec"])
    assert here["metadata"].get("annotations") == there["metadata"].get("annotations")
    assert here["metadata"]["generation"] == there["metadata"]["generation"] == 1
    for flags in (["--server-side"], []):
        assert armed.kubectl("diff", *flags, "-n", tenant, "-f", "-", stdin=json.dumps(user)) == ""
    user["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 31
    with pytest.raises(LabError):  # kubectl diff would have said so
        armed.kubectl("diff", "--server-side", "-n", tenant, "-f", "-", stdin=json.dumps(user))


def test_a_deployment_whose_name_begins_alike_is_another(armed: Lab, tenant: str) -> None:
    bind(armed, tenant, "frejun", agent(HTTP, name="agent"))
    await_arming(armed, tenant)

    apply(armed, tenant, workload("Deployment"), workload("Deployment", "agent-b"), workload("StatefulSet", "agent-c"))

    assert pre_stop(pods(armed, tenant)[0]) == HOOK
    assert pre_stop(pods(armed, tenant, "agent-b")[0]) is None
    assert pre_stop(pods(armed, tenant, "agent-c")[0]) is None


def test_pods_from_before_the_binding_stay_as_they_are(armed: Lab, tenant: str) -> None:
    apply(armed, tenant, workload("Deployment"))
    (before,) = pods(armed, tenant)

    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)

    (after,) = pods(armed, tenant)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert pre_stop(after) is None
    assert notes(after) == notes(before)


def test_the_users_own_rollout_arms(armed: Lab, tenant: str) -> None:
    apply(armed, tenant, workload("Deployment"))
    pods(armed, tenant)
    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)

    armed.kubectl("rollout", "restart", "-n", tenant, "deployment/agent")

    eventually(lambda: any(pre_stop(pod) == HOOK for pod in pods(armed, tenant)), "an armed pod", seconds=30)


def test_a_gauge_runs_beside_the_agent(armed: Lab, tenant: str) -> None:
    """The real scheduler and controllers take the pod with its sidecar; it becomes ready on a simulated node."""
    gauge = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}
    bind(armed, tenant, "frejun", agent(gauge))
    await_arming(armed, tenant)

    apply(armed, tenant, workload("Deployment"))

    (pod,) = pods(armed, tenant)
    (sidecar,) = pod["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("voicekeys-gauge", "Always")
    assert pre_stop(pod) == HOOK
    eventually(
        lambda: armed.api("GET", path("Deployment", tenant))["status"].get("availableReplicas") == 1,
        "it to run",
        seconds=30,
    )


def test_a_pod_of_nobody_is_left_alone(armed: Lab, tenant: str) -> None:
    """Neither a bare pod nor one of a Job, whatever labels it has."""
    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent-7d9f"}, "spec": template()["spec"]}
    bare["metadata"]["labels"] = {"app": "bare", "pod-template-hash": "7d9f"}
    job_pod = template()
    job_pod["metadata"]["labels"] = {"app": "job", "pod-template-hash": "7d9f"}
    job_pod["spec"]["restartPolicy"] = "Never"
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "agent"}, "spec": {"template": job_pod}}

    apply(armed, tenant, bare, job)

    for name in ("bare", "job"):
        (pod,) = pods(armed, tenant, name)
        assert pre_stop(pod) is None
        assert "voicekeys.dev/armed" not in notes(pod)
