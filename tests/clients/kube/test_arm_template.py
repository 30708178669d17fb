"""A template is armed in one rollout, and the user's own applies go through afterwards (facts K24)."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import LabError
from voicekeys.api.binding import Agent, parse_binding_spec
from voicekeys.clients.kube.ownership import is_left, without_arming
from voicekeys.model.errors import ApiConflict, ApiNotFound
from voicekeys.model.identity import WorkloadId
from voicekeys.policies.arming import arming_patch
from voicekeys.policies.hooks import is_armed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import Lab
    from voicekeys.clients.kube.cluster import KubeCluster

Object = dict[str, Any]
Apply = tuple[str, ...]

TRIGGER = "voicekeys.dev/key.frejun"
SERVER_SIDE = ("--server-side", "--field-manager=flux")
CLIENT_SIDE: Apply = ()
BOTH = pytest.mark.parametrize("flags", [SERVER_SIDE, CLIENT_SIDE], ids=["server-side", "client-side"])
KINDS = pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])


def manifest(kind: str = "Deployment") -> Object:
    """Return a user's workload of two containers. Nothing runs: it has no node to go to."""
    pod = {
        "nodeSelector": {"no": "node"},
        "containers": [
            {"name": "agent", "image": "agent:1", "env": [{"name": "A", "value": "b"}]},
            {"name": "helper", "image": "helper:1"},
        ],
    }
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": pod}
    extra: Object = {"serviceName": "agent"} if kind == "StatefulSet" else {}
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template, **extra}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "agent"}, "spec": spec}


def rename(user: Object) -> None:
    user["spec"]["template"]["spec"]["containers"][0]["name"] = "renamed"


def remove(user: Object) -> None:
    del user["spec"]["template"]["spec"]["containers"][1]


def keep(_: Object) -> None:
    """Change nothing."""


def own_grace(user: Object) -> None:
    user["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 7200


def own_hook(user: Object) -> None:
    user["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["/wait"]}}}


CHANGES = pytest.mark.parametrize("change", [rename, remove, keep, own_grace], ids=lambda change: change.__name__)

AGENT: Agent = parse_binding_spec(
    {
        "environment": "e",
        "source": {"path": "p"},
        "agents": [{"kind": "Deployment", "name": "agent", "drain": {"mode": "HTTP", "maxCallDuration": "30m"}}],
    }
).agents[0]


def apply(lab: Lab, namespace: str, user: Object, flags: Apply) -> None:
    """Apply a manifest as its author does."""
    lab.kubectl("apply", *flags, "-n", namespace, "-f", "-", stdin=json.dumps(user))


async def read(cluster: KubeCluster, workload: WorkloadId) -> Object:
    found = await cluster.get_workload(workload)
    assert found is not None
    return found


async def arm(cluster: KubeCluster, workload: WorkloadId) -> Object:
    """Arm a workload as a reconcile does: read, decide, write, and from the start on a conflict."""
    while True:
        found = await read(cluster, workload)
        patch = arming_patch("frejun", AGENT, found["spec"]["template"], token="t", gauge_image=None)
        assert patch is not None
        metadata = found["metadata"]
        try:
            return await cluster.arm_template(
                workload, metadata["uid"], metadata["resourceVersion"], patch, {TRIGGER: "digest"}
            )
        except ApiConflict:
            continue


def owned(raw: Object) -> Object:
    """What the operator owns of a workload's spec."""
    entries = [one for one in raw["metadata"]["managedFields"] if one["manager"] == "voicekeys"]
    assert len(entries) <= 1
    return entries[0]["fieldsV1"] if entries else {}


@BOTH
@KINDS
async def test_it_takes_one_rollout_and_leaves_us_the_trigger(
    cluster: KubeCluster, lab: Lab, namespace: str, kind: str, flags: Apply
) -> None:
    apply(lab, namespace, manifest(kind), flags)
    workload = WorkloadId(kind, namespace, "agent")
    before = await read(cluster, workload)

    after = await arm(cluster, workload)

    template = after["spec"]["template"]
    assert is_armed(template)
    assert template["spec"]["terminationGracePeriodSeconds"] == 1800 + 5 + 10 + 30
    assert template["metadata"]["annotations"][TRIGGER] == "digest"
    assert {one["lifecycle"]["preStop"]["httpGet"]["port"] for one in template["spec"]["containers"]} == {9909}
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    annotations = owned(after)["f:spec"]["f:template"]["f:metadata"]["f:annotations"]
    assert {key for key in annotations if key != "."} == {f"f:{TRIGGER}"}
    assert list(owned(after)["f:spec"]["f:template"]) == ["f:metadata"]


@BOTH
@CHANGES
@KINDS
async def test_the_users_own_apply_goes_through_afterwards(
    cluster: KubeCluster, lab: Lab, namespace: str, kind: str, change: Callable[[Object], None], flags: Apply
) -> None:
    user = manifest(kind)
    apply(lab, namespace, user, flags)
    workload = WorkloadId(kind, namespace, "agent")
    await arm(cluster, workload)

    edited = copy.deepcopy(user)
    change(edited)
    apply(lab, namespace, edited, flags)

    after = (await read(cluster, workload))["spec"]["template"]
    wanted = edited["spec"]["template"]["spec"]
    assert [one["name"] for one in after["spec"]["containers"]] == [one["name"] for one in wanted["containers"]]
    assert after["metadata"]["annotations"][TRIGGER] == "digest"
    assert after["spec"]["terminationGracePeriodSeconds"] == wanted.get("terminationGracePeriodSeconds", 1845)
    if change is keep:
        assert is_armed(after)
        assert all("preStop" in one["lifecycle"] for one in after["spec"]["containers"])


async def test_with_ownership_kept_the_users_apply_would_conflict(
    cluster: KubeCluster, lab: Lab, namespace: str
) -> None:
    """What makes the tests above worth something."""
    user = manifest()
    apply(lab, namespace, user, SERVER_SIDE)
    workload = WorkloadId("Deployment", namespace, "agent")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/agent"
    template = (await read(cluster, workload))["spec"]["template"]
    patch = arming_patch("frejun", AGENT, template, token="t", gauge_image=None)
    lab.api("PATCH", f"{path}?fieldManager=voicekeys", {"spec": {"template": patch}})
    own_grace(user)

    with pytest.raises(LabError, match='conflict with "voicekeys"'):
        apply(lab, namespace, user, SERVER_SIDE)

    found = await read(cluster, workload)
    assert is_left(found)
    await cluster.give_up_template(workload, found)
    apply(lab, namespace, user, SERVER_SIDE)


@pytest.mark.parametrize("change", [rename, remove], ids=lambda change: change.__name__)
async def test_an_apply_of_ours_would_stand_in_the_users_way(
    lab: Lab, namespace: str, change: Callable[[Object], None]
) -> None:
    """K24 itself: why it is a merge patch, which owns what it changes inside a container and not the container."""
    user = manifest()
    apply(lab, namespace, user, SERVER_SIDE)
    ours = manifest()
    ours["spec"] = {"template": {"spec": {"containers": [_hooked("agent"), _hooked("helper")]}}}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/agent?fieldManager=voicekeys"
    lab.api("PATCH", path, ours, content_type="application/apply-patch+yaml")
    change(user)

    with pytest.raises(LabError, match=r"containers\[[01]\].image: Required value"):
        apply(lab, namespace, user, SERVER_SIDE)


def _hooked(name: str) -> Object:
    return {"name": name, "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}


@BOTH
async def test_another_hook_of_the_users_own_is_refused_while_ours_is_there(
    cluster: KubeCluster, lab: Lab, namespace: str, flags: Apply
) -> None:
    """A limit of Template: an apply merges into what is there, and a preStop of two kinds is refused.

    The way out is to take ours off first (operator/docs/install.md); drain.inject Pod has no such limit.
    """
    user = manifest()
    apply(lab, namespace, user, flags)
    await arm(cluster, WorkloadId("Deployment", namespace, "agent"))
    own_hook(user)

    with pytest.raises(LabError, match="may not specify more than 1 handler type"):
        apply(lab, namespace, user, flags)


@BOTH
async def test_the_users_manifest_has_no_diff(cluster: KubeCluster, lab: Lab, namespace: str, flags: Apply) -> None:
    apply(lab, namespace, manifest(), flags)
    await arm(cluster, WorkloadId("Deployment", namespace, "agent"))
    assert lab.kubectl("diff", *flags, "-n", namespace, "-f", "-", stdin=json.dumps(manifest())) == ""


async def test_what_was_given_up_is_not_written_again(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    apply(lab, namespace, manifest(), SERVER_SIDE)
    workload = WorkloadId("Deployment", namespace, "agent")
    await arm(cluster, workload)
    before = await read(cluster, workload)

    after = await cluster.give_up_template(workload, before)

    assert not is_left(before)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_workload_that_changed_meanwhile_is_not_armed(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    apply(lab, namespace, manifest(), SERVER_SIDE)
    workload = WorkloadId("Deployment", namespace, "agent")
    before = await read(cluster, workload)
    edited = manifest()
    rename(edited)
    apply(lab, namespace, edited, SERVER_SIDE)
    patch = arming_patch("frejun", AGENT, before["spec"]["template"], token="t", gauge_image=None)
    assert patch is not None
    metadata = before["metadata"]

    with pytest.raises(ApiConflict):
        await cluster.arm_template(workload, metadata["uid"], metadata["resourceVersion"], patch, {})

    assert not is_armed((await read(cluster, workload))["spec"]["template"])


async def test_ownership_is_given_up_on_what_is_read_anew(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    """Between the two writes the workload's controller writes its status: the version that was read is old then."""
    apply(lab, namespace, manifest(), SERVER_SIDE)
    workload = WorkloadId("Deployment", namespace, "agent")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/agent"
    spec = {"template": {"spec": {"terminationGracePeriodSeconds": 99}}}
    old = lab.api("PATCH", f"{path}?fieldManager=voicekeys", {"spec": spec})
    lab.api("PATCH", path, {"metadata": {"annotations": {"someone": "else"}}})

    after = await cluster.give_up_template(workload, old)

    assert not is_left(after)
    assert after["metadata"]["annotations"]["someone"] == "else"


async def test_a_workload_that_is_gone_or_made_anew_is_told(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    apply(lab, namespace, manifest(), SERVER_SIDE)
    workload = WorkloadId("Deployment", namespace, "agent")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/agent"
    spec = {"template": {"spec": {"terminationGracePeriodSeconds": 99}}}
    old = lab.api("PATCH", f"{path}?fieldManager=voicekeys", {"spec": spec})
    other = copy.deepcopy(old)
    other["metadata"]["uid"] = "11111111-1111-1111-1111-111111111111"

    with pytest.raises(ApiConflict):
        await cluster.give_up_template(workload, other)
    lab.api("DELETE", path)
    with pytest.raises(ApiNotFound):
        await cluster.give_up_template(workload, old)


def test_others_entries_and_our_trigger_stay_as_they_are() -> None:
    triggers: Object = {"f:annotations": {".": {}, f"f:{TRIGGER}": {}}}
    ours: Object = {"manager": "voicekeys", "fieldsV1": {"f:spec": {"f:template": {"f:metadata": triggers}}}}
    others = {"manager": "flux", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    status = {"manager": "voicekeys", "subresource": "status", "fieldsV1": {"f:status": {}}}
    assert without_arming([ours, others, status]) is None

    hook = copy.deepcopy(ours)
    hook["fieldsV1"]["f:spec"]["f:template"]["f:spec"] = {"f:terminationGracePeriodSeconds": {}}
    assert without_arming([others, hook]) == [others, ours]
    grace = {"manager": "voicekeys", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:a": {}}}}}}
    assert without_arming([grace, others]) == [others]
    assert without_arming([grace]) == [{}]
