"""`KubeCluster` against a real API server: what is written, what is refused, and how."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.kube.conftest import secret
from tests.clients.kube.faulty import FaultServer, Reply, page, status_of
from voicekeys.clients.kube.cluster import KubeCluster
from voicekeys.clients.kube.credentials import load_credentials
from voicekeys.clients.kube.session import KubeSession
from voicekeys.model.errors import ApiConflict, ApiError, ApiForbidden, ApiInvalid, ApiNotFound
from voicekeys.model.identity import Identity, Name, WorkloadId

if TYPE_CHECKING:
    from tests.lab import Lab

pytestmark = pytest.mark.asyncio

OTHER_UID = "11111111-1111-1111-1111-111111111111"
CANARY = "canary-sk-live-123"
TRIGGER = "voicekeys.dev/key.frejun"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def deployment(namespace: str, name: str = "agent", replicas: int = 0) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "agent"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        # No pods: nothing has to run, on whichever cluster this is.
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
    }


async def make_deployment(cluster: KubeCluster, lab: Lab, namespace: str) -> tuple[WorkloadId, str, str]:
    """A workload that nobody changes any more, with its UID and resourceVersion."""
    lab.apply(deployment(namespace))
    workload = WorkloadId("Deployment", namespace, "agent")
    while True:
        found = await cluster.get_workload(workload)
        assert found is not None
        conditions = {one["type"]: one.get("reason") for one in found.get("status", {}).get("conditions", [])}
        if "Available" in conditions and conditions.get("Progressing") == "NewReplicaSetAvailable":
            return workload, found["metadata"]["uid"], found["metadata"]["resourceVersion"]
        await asyncio.sleep(0.1)


def binding(lab: Lab, namespace: str) -> dict[str, Any]:
    spec = {"environment": "production", "source": {"path": "voice/frejun"}}
    manifest = {
        "apiVersion": "voicekeys.dev/v1alpha1",
        "kind": "VoiceKeyBinding",
        "metadata": {"name": "frejun", "namespace": namespace},
        "spec": spec,
    }
    made: dict[str, Any] = lab.apply(manifest)[0]
    return made


# Secrets


async def test_a_secret_is_made_read_and_changed(cluster: KubeCluster, namespace: str) -> None:
    name = Name(namespace, "key")
    assert await cluster.get_secret(name) is None
    made = await cluster.apply_secret(secret(namespace, "key", A=b64("1"), B=b64("2")))
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("voicekeys", "Apply")
    await cluster.apply_secret(secret(namespace, "key", made["metadata"]["uid"], A=b64("3")))
    found = await cluster.get_secret(name)
    assert found is not None
    assert found["data"] == {"A": b64("3")}


async def test_the_same_again_writes_nothing(cluster: KubeCluster, namespace: str) -> None:
    versions = {
        (await cluster.apply_secret(secret(namespace, "key", A=b64("1"))))["metadata"]["resourceVersion"] for _ in "ab"
    }
    assert len(versions) == 1


async def test_fields_of_others_are_taken_by_force(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    lab.apply(secret(namespace, "key", A=b64("theirs"), C=b64("kept")))
    applied = await cluster.apply_secret(secret(namespace, "key", A=b64("ours")))
    assert applied["data"] == {"A": b64("ours"), "C": b64("kept")}


async def test_a_secret_that_was_deleted_is_not_made_again(cluster: KubeCluster, namespace: str) -> None:
    with pytest.raises(ApiConflict):
        await cluster.apply_secret(secret(namespace, "key", OTHER_UID, A=b64("1")))
    assert await cluster.get_secret(Name(namespace, "key")) is None


async def test_a_secret_that_was_made_anew_is_not_touched(cluster: KubeCluster, namespace: str) -> None:
    await cluster.apply_secret(secret(namespace, "key", A=b64("1")))
    with pytest.raises(ApiConflict):
        await cluster.apply_secret(secret(namespace, "key", OTHER_UID, A=b64("2")))


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"data": {"A B": b64(CANARY)}}, ApiInvalid, "data FieldValueInvalid"),
        ({"data": {"A": b64("x" * 1_100_000)}}, ApiInvalid, "data FieldValueTooLong"),
        ({"type": "kubernetes.io/tls"}, ApiInvalid, "type"),
        ({"data": {"A": b64("x" * 3_500_000)}}, ApiInvalid, "RequestEntityTooLarge"),
        ({"data": {"A": CANARY + "!"}}, ApiError, "HTTP 500"),
        ({"data": {"A": [CANARY]}}, ApiError, "HTTP 500"),
    ],
    ids=["key name", "1 MiB", "type change", "body", "base64", "list"],
)
async def test_a_refused_secret_is_told_without_its_values(
    change: dict[str, Any], kind: type[ApiError], said: str, cluster: KubeCluster, namespace: str
) -> None:
    await cluster.apply_secret(secret(namespace, "key", A=b64("1")))
    with pytest.raises(kind) as caught:
        await cluster.apply_secret({**secret(namespace, "key"), **change})
    assert said in caught.value.message
    assert f"{namespace}/key" in caught.value.message
    assert CANARY not in repr(caught.value)
    assert b64(CANARY) not in repr(caught.value)


async def test_a_missing_namespace_is_told(cluster: KubeCluster) -> None:
    with pytest.raises(ApiNotFound):
        await cluster.apply_secret(secret("nowhere", "key", A=b64("1")))


# Status


@pytest.mark.usefixtures("crds")
async def test_a_status_is_replaced_whole(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    uid = binding(lab, namespace)["metadata"]["uid"]
    name = Name(namespace, "frejun")
    await cluster.replace_status("VoiceKeyBinding", name, uid, {"observedGeneration": 1, "handled": {"syncNow": "x"}})
    written = await cluster.replace_status("VoiceKeyBinding", name, uid, {"observedGeneration": 2})
    assert written["status"] == {"observedGeneration": 2}


@pytest.mark.usefixtures("crds")
async def test_a_status_of_another_object_is_not_touched(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    before = binding(lab, namespace)["status"]
    name = Name(namespace, "frejun")
    with pytest.raises(ApiConflict) as caught:
        await cluster.replace_status("VoiceKeyBinding", name, OTHER_UID, {"observedGeneration": 1})
    assert caught.value.reason == "UidChanged"
    path = f"/apis/voicekeys.dev/v1alpha1/namespaces/{namespace}/voicekeybindings/frejun"
    assert lab.api("GET", path)["status"] == before
    with pytest.raises(ApiNotFound):
        await cluster.replace_status("VoiceKeyBinding", Name(namespace, "gone"), OTHER_UID, {"observedGeneration": 1})


@pytest.mark.usefixtures("crds")
async def test_a_status_that_the_schema_refuses_names_the_field(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    uid = binding(lab, namespace)["metadata"]["uid"]
    with pytest.raises(ApiInvalid) as caught:
        await cluster.replace_status("VoiceKeyBinding", Name(namespace, "frejun"), uid, {"observedGeneration": CANARY})
    assert "status.observedGeneration" in caught.value.message
    assert CANARY not in repr(caught.value)


# Workloads


async def test_a_trigger_is_set_and_removed(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    workload, uid, version = await make_deployment(cluster, lab, namespace)
    patched = await cluster.annotate_template(workload, uid, version, {TRIGGER: "digest"})
    assert patched["spec"]["template"]["metadata"]["annotations"] == {TRIGGER: "digest"}
    version = patched["metadata"]["resourceVersion"]
    for _ in range(50):  # the controller writes the status meanwhile
        with contextlib.suppress(ApiConflict):
            patched = await cluster.annotate_template(workload, uid, version, {TRIGGER: None})
            break
        found = await cluster.get_workload(workload)
        assert found is not None
        version = found["metadata"]["resourceVersion"]
    assert "annotations" not in patched["spec"]["template"]["metadata"]


async def test_a_workload_that_changed_meanwhile_is_not_touched(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    workload, uid, version = await make_deployment(cluster, lab, namespace)
    lab.api(
        "PATCH",
        f"/apis/apps/v1/namespaces/{namespace}/deployments/agent",
        {"metadata": {"annotations": {"someone": "else"}}},
    )
    with pytest.raises(ApiConflict):
        await cluster.annotate_template(workload, uid, version, {TRIGGER: "digest"})
    found = await cluster.get_workload(workload)
    assert found is not None
    assert "annotations" not in found["spec"]["template"]["metadata"]


async def test_a_workload_that_was_made_anew_is_not_touched(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    workload, _, version = await make_deployment(cluster, lab, namespace)
    with pytest.raises(ApiConflict) as caught:
        await cluster.annotate_template(workload, OTHER_UID, version, {TRIGGER: "digest"})
    assert caught.value.reason == "UidChanged"


async def test_a_patch_never_makes_a_workload(cluster: KubeCluster, namespace: str) -> None:
    workload = WorkloadId("Deployment", namespace, "gone")
    with pytest.raises(ApiNotFound):
        await cluster.annotate_template(workload, OTHER_UID, "1", {TRIGGER: "digest"})
    assert await cluster.get_workload(workload) is None


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_each_kind_of_workload_can_be_missing(kind: str, cluster: KubeCluster, namespace: str) -> None:
    assert await cluster.get_workload(WorkloadId(kind, namespace, "gone")) is None


async def test_an_unknown_kind_is_refused_before_it_is_asked_for(cluster: KubeCluster, namespace: str) -> None:
    with pytest.raises(ApiInvalid):
        await cluster.get_workload(WorkloadId("CronJob", namespace, "x"))


# Lists and tokens


async def test_pods_are_listed_by_selector(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    lab.apply(deployment(namespace, replicas=2))
    while len(await cluster.list_pods(namespace, {})) < 2:
        await asyncio.sleep(0.1)
    everything = [{"key": "app", "operator": "In", "values": ["agent", "x"]}, {"key": "y", "operator": "DoesNotExist"}]
    assert len(await cluster.list_pods(namespace, {"matchLabels": {"app": "agent"}})) == 2
    assert len(await cluster.list_pods(namespace, {"matchExpressions": everything})) == 2
    assert await cluster.list_pods(namespace, {"matchLabels": {"app": "other"}}) == []
    assert await cluster.list_quotas(namespace) == []


async def test_a_list_goes_on_page_by_page_and_starts_over_when_it_expires(
    faulty: FaultServer, shaky: KubeSession
) -> None:
    expired = Reply(410, body=status_of(410, "Expired"))
    faulty.script(page("a", following="more"), page("b"))
    assert len(await KubeCluster(shaky).list_pods("x", {})) == 2
    faulty.script(page("a", following="more"), expired, page("a", "b", "c"))
    assert len(await KubeCluster(shaky).list_pods("x", {})) == 3
    assert [request.query for request in faulty.requests[-3:]] == ["limit=500", "limit=500&continue=more", ""]


async def test_a_token_is_for_its_audience_and_short(cluster: KubeCluster, namespace: str) -> None:
    while True:
        with contextlib.suppress(ApiNotFound):  # the controller makes the account
            token = await cluster.mint_token(Identity(namespace, "default"), "vault")
            break
        await asyncio.sleep(0.1)
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["aud"] == ["vault"]
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["exp"] - claims["iat"] == 600


async def test_a_missing_account_is_told(cluster: KubeCluster, namespace: str) -> None:
    with pytest.raises(ApiNotFound) as caught:
        await cluster.mint_token(Identity(namespace, "voicekeys-reader"), "vault")
    assert f"{namespace}/voicekeys-reader" in caught.value.message


@pytest.mark.parametrize("body", [{}, {"status": {}}, {"status": {"token": 7}}, {"status": {"token": ""}}])
async def test_a_token_answer_without_token_is_garbage(
    body: dict[str, Any], faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(Reply(201, body=body))
    with pytest.raises(ApiError) as caught:
        await KubeCluster(shaky).mint_token(Identity("a", "b"), "vault")
    assert caught.value.reason == "ApiGarbage"


async def test_own_values_are_read(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    lab.apply(secret(namespace, "vault-token", token=b64("hvs.x"), binary=base64.b64encode(b"\xff").decode()))
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "ca", "namespace": namespace},
            "data": {"ca.crt": "PEM"},
        }
    )
    assert await cluster.read_own("Secret", "vault-token", "token") == "hvs.x"
    assert await cluster.read_own("ConfigMap", "ca", "ca.crt") == "PEM"
    assert await cluster.read_own("Secret", "vault-token", "other") is None
    assert await cluster.read_own("Secret", "gone", "token") is None
    with pytest.raises(ApiInvalid) as caught:
        await cluster.read_own("Secret", "vault-token", "binary")
    assert caught.value.__suppress_context__


# Refusals


async def test_without_rights_it_is_forbidden(lab: Lab, namespace: str) -> None:
    session = KubeSession(load_credentials(str(lab.kubeconfig_for(f"{namespace}/nobody"))))
    try:
        poor = KubeCluster(session)
        with pytest.raises(ApiForbidden) as caught:
            await poor.get_secret(Name(namespace, "key"))
        assert "RBAC" in caught.value.message
        with pytest.raises(ApiForbidden):
            await poor.mint_token(Identity(namespace, "default"), "vault")
    finally:
        await session.close()


async def test_a_policy_that_refuses_is_named(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    name = f"refuse-{namespace}"
    group = "admissionregistration.k8s.io/v1"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}]
    own = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules, "namespaceSelector": own},
            "validations": [{"expression": "object.metadata.name != 'refused'", "message": CANARY}],
        },
    }
    bound = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    lab.apply([policy, bound])
    try:
        with pytest.raises(ApiForbidden) as caught:  # noqa: PT012 - the policy takes a while to take effect
            for _ in range(100):
                await cluster.apply_secret(secret(namespace, "refused", A=b64("1")))
                lab.api("DELETE", f"/api/v1/namespaces/{namespace}/secrets/refused")
                await asyncio.sleep(0.1)
        assert caught.value.reason == "DeniedByPolicy"
        assert repr(name) in caught.value.message
        assert CANARY not in caught.value.message
    finally:
        lab.api("DELETE", f"/apis/{group}/validatingadmissionpolicybindings/{name}")
        lab.api("DELETE", f"/apis/{group}/validatingadmissionpolicies/{name}")


async def test_what_is_not_served_is_no_missing_object(cluster: KubeCluster) -> None:
    with pytest.raises(ApiNotFound) as caught:
        await cluster._get("/apis/nothing.example.com/v1/namespaces/a/things/b")
    assert caught.value.reason == "KindNotServed"


# Watches


async def test_a_watch_follows_a_real_server(cluster: KubeCluster, namespace: str) -> None:
    await cluster.apply_secret(secret(namespace, "first", A=b64("1")))
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(20), contextlib.aclosing(cluster.watch("secrets", namespace)) as stream:
        async for kind, found in stream:
            seen.append((kind, found["metadata"]["name"] if found else ""))
            if kind == "SYNCED":
                assert [watcher.resource for watcher in cluster.watchers] == ["secrets"]
                await cluster.apply_secret(secret(namespace, "second", A=b64("x" * 700_000)))
            elif kind == "ADDED" and seen[-1][1] == "second":
                await cluster.apply_secret(secret(namespace, "second", A=b64("2")))
            elif kind == "MODIFIED":
                break
    assert seen == [("LISTING", ""), ("ADDED", "first"), ("SYNCED", ""), ("ADDED", "second"), ("MODIFIED", "second")]
    assert cluster.watchers == ()


async def test_metadata_only_leaves_the_data_at_the_server(cluster: KubeCluster, namespace: str) -> None:
    await cluster.apply_secret(secret(namespace, "first", A=b64("1")))
    objects: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(cluster.watch("secrets", namespace, metadata_only=True)) as stream,
    ):
        async for kind, found in stream:
            if kind == "SYNCED":
                await cluster.apply_secret(secret(namespace, "second", A=b64("2")))
            objects += [found] if found else []
            if len(objects) == 2:
                break
    assert [each["metadata"]["name"] for each in objects] == ["first", "second"]
    assert all("data" not in each for each in objects)
