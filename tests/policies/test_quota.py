"""What one more pod takes from a ResourceQuota."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from voicekeys.policies.quota import Shortage, pod_needs, shortage


def container(
    requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests, "limits": limits}} | more


A, B, C = (container({"cpu": cpu}) for cpu in ("100m", "200m", "1"))
SIDECAR = B | {"restartPolicy": "Always"}

NEEDS = {
    "nothing asked for": ({"containers": [{"name": "c"}]}, None),
    "a request": ({"containers": [A]}, "0.1"),
    "containers add up": ({"containers": [A, B]}, "0.3"),
    "a limit is the request that is not written": ({"containers": [container(limits={"cpu": "2"})]}, "2"),
    "a request is written beside its limit": ({"containers": [container({"cpu": 1}, {"cpu": 2})]}, "1"),
    "a small init container costs nothing more": ({"initContainers": [A], "containers": [B]}, "0.2"),
    "a large init container counts instead": ({"initContainers": [C], "containers": [B]}, "1"),
    "a native sidecar stays": ({"initContainers": [SIDECAR], "containers": [A]}, "0.3"),
    "it runs beside the sidecars before it": (
        {"initContainers": [SIDECAR, C], "containers": [A]},
        "1.2",
    ),
    "and not beside those after it": ({"initContainers": [C, SIDECAR], "containers": [A]}, "1"),
    "the overhead of the runtime comes on top": ({"containers": [A], "overhead": {"cpu": "50m"}}, "0.15"),
}


@pytest.mark.parametrize(("pod_spec", "cpu"), NEEDS.values(), ids=NEEDS)
def test_what_a_pod_requests(pod_spec: dict[str, Any], cpu: str | None) -> None:
    needs = pod_needs(pod_spec)
    expected = None if cpu is None else Decimal(cpu)
    assert (needs.get("cpu"), needs.get("requests.cpu")) == (expected, expected)
    assert needs["pods"] == needs["count/pods"] == 1


def test_limits_count_on_their_own() -> None:
    needs = pod_needs({"containers": [container({"cpu": 1}, {"cpu": 2, "nvidia.com/gpu": 1}), container({"cpu": 1})]})
    assert needs["limits.cpu"] == 2
    assert needs["requests.nvidia.com/gpu"] == 1


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "spec": spec, "status": {"hard": hard, "used": used}}


QUOTAS = {
    "no quota": ([], None),
    "one that nobody has counted yet": ([{"metadata": {"name": "team"}}], None),
    "room for all": ([quota({"pods": "10"}, {"pods": "8"})], None),
    "room for one only": (
        [quota({"pods": "10"}, {"pods": "9"})],
        Shortage("team", "pods", Decimal(1), Decimal(2), Decimal(10)),
    ),
    "cpu is short": (
        [quota({"pods": "10", "requests.cpu": "1"}, {"requests.cpu": "900m"})],
        Shortage("team", "requests.cpu", Decimal("0.1"), Decimal("0.2"), Decimal(1)),
    ),
    "the second one is short": (
        [quota({"pods": "10"}, {}), quota({"count/pods": "1"}, {})],
        Shortage("team", "count/pods", Decimal(1), Decimal(2), Decimal(1)),
    ),
    "what a pod does not need may be overdrawn": ([quota({"services": "1"}, {"services": "2"})], None),
    "a scoped quota is not ours to judge": ([quota({"pods": "1"}, {"pods": "1"}, scopes=["BestEffort"])], None),
    "nor one with a scope selector": (
        [quota({"pods": "1"}, {"pods": "1"}, scopeSelector={"matchExpressions": []})],
        None,
    ),
}


@pytest.mark.parametrize(("quotas", "short"), QUOTAS.values(), ids=QUOTAS)
def test_shortage_for_two_more_pods(quotas: list[dict[str, Any]], short: Shortage | None) -> None:
    assert shortage({"containers": [A]}, 2, quotas) == short
