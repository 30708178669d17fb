"""Operators with a Lease, and who holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.reconcilers.harness import HOME, Operator, found

if TYPE_CHECKING:
    from tests.faults.proxy import Proxy
    from tests.lab import Lab

LOST = 3  # the exit code of a process that lost its Lease
_LEASES = "/apis/coordination.k8s.io/v1"


def start(lab: Lab, proxy: Proxy, lease: str, name: str) -> Operator:
    """Start a candidate for a Lease, behind a proxy."""
    file = proxy.kubeconfig(lab, f"{lease}-{name}")
    made = Operator(lab, name, kubeconfig=file, leader_election=True, lease_name=lease, log_level="INFO")
    return made.start()


def holder(lab: Lab, lease: str) -> dict[str, Any]:
    """The Lease's spec, empty where there is none."""
    raw = found(lambda: lab.api("GET", f"{_LEASES}/namespaces/{HOME}/leases/{lease}"))
    spec: dict[str, Any] = (raw or {}).get("spec") or {}
    return spec


def leads(operator: Operator) -> bool:
    """Whether a process says that it leads."""
    return operator.metric("voicekeys_leader") == 1
