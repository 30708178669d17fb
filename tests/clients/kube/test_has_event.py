"""Whether there is an event about an object: one small request, whatever comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from tests.clients.kube.faulty import FaultServer, Reply, page, status_of
from voicekeys.clients.kube.cluster import KubeCluster
from voicekeys.model.errors import ApiError, ApiForbidden

if TYPE_CHECKING:
    from tests.lab import Lab
    from voicekeys.clients.kube.session import KubeSession

UID = "11111111-1111-1111-1111-111111111111"


@pytest.mark.parametrize(("answer", "found"), [(page(), False), (page("agent-1.17"), True), (Reply(body={}), False)])
async def test_it_is_asked_for_by_the_objects_uid(
    faulty: FaultServer,
    shaky: KubeSession,
    answer: Reply,
    found: bool,  # noqa: FBT001
) -> None:
    faulty.script(answer)
    assert await KubeCluster(shaky).has_event("shop", UID, "FailedPreStopHook") is found
    (request,) = faulty.requests
    assert (request.method, request.target.partition("?")[0]) == ("GET", "/api/v1/namespaces/shop/events")
    query = parse_qs(request.query)
    assert query == {"fieldSelector": [f"involvedObject.uid={UID},reason=FailedPreStopHook"], "limit": ["1"]}


async def test_an_api_server_selects_by_both_fields(cluster: KubeCluster, lab: Lab, namespace: str) -> None:
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "agent-1", "uid": UID}
    metadata = {"name": "agent-1.17", "namespace": namespace}
    said = {"reason": "FailedPreStopHook", "type": "Warning", "message": "PreStopHook failed"}
    lab.api("POST", f"/api/v1/namespaces/{namespace}/events", {"metadata": metadata, "involvedObject": about, **said})
    assert await cluster.has_event(namespace, UID, "FailedPreStopHook")
    assert not await cluster.has_event(namespace, UID, "Killing")
    assert not await cluster.has_event(namespace, UID.replace("1", "2"), "FailedPreStopHook")


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_it_is_not_asked_again(faulty: FaultServer, shaky: KubeSession, status: int) -> None:
    faulty.script(Reply(status, status_of(status, "No", "not now")))
    with pytest.raises(ApiForbidden if status == 403 else ApiError, match="list events shop"):
        await KubeCluster(shaky).has_event("shop", UID, "FailedPreStopHook")
    assert len(faulty.requests) == 1
