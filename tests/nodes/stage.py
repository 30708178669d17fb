"""A namespace on real nodes: what a test does there and sees."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.lab.http import ApiError
from tests.lab.processes import eventually
from tests.nodes import pods

if TYPE_CHECKING:
    from tests.lab.nodes import RealNodes
    from tests.nodes.pods import Object
    from tests.nodes.witness import Witness

GONE = 404


class Stage:
    """Where pods of tests run."""

    def __init__(self, nodes: RealNodes, witness: Witness, namespace: str) -> None:
        self.nodes = nodes
        self.lab = nodes.lab
        self.witness = witness
        self.namespace = namespace

    def container(self, plan: Object | None = None, name: str = "agent", **fields: Any) -> Object:
        """Return a container of the agent: see `pods.container`."""
        return pods.container(self.witness.address, plan, name, **fields)

    def apply(self, *objects: Object) -> None:
        """Apply objects in this namespace."""
        for each in objects:
            each["metadata"]["namespace"] = self.namespace
            self.lab.apply(each)

    def run(self, name: str, *containers: Object, **options: Any) -> None:
        """Make a pod (see `pods.pod`) and wait until it is ready, and its agent serves."""
        self.apply(pods.pod(name, *containers, **options))
        self.await_ready(name)
        # Without a readiness probe a container is ready before its program has begun.
        for each in containers:
            self.witness.wait(name, "started", each["name"])

    def await_ready(self, name: str, seconds: float = 60) -> None:
        """Wait until a pod is ready."""
        eventually(lambda: ready(self.pod(name)), f"pod {name} ready", seconds)

    def delete(self, name: str, grace: int | None = None) -> float:
        """Delete a pod, with its own grace period or another; return the Unix time just before."""
        before = time.time()
        self.lab.api("DELETE", self.path(name), None if grace is None else {"gracePeriodSeconds": grace})
        return before

    def pod(self, name: str) -> Object | None:
        """Return a pod, None when there is none."""
        try:
            found: Object = self.lab.api("GET", self.path(name))
        except ApiError as error:
            if error.status != GONE:
                raise
            return None
        return found

    def pods(self, app: str) -> list[Object]:
        """Return the pods of a Deployment, also those that are ending."""
        query = f"labelSelector=app%3D{app}"
        found: list[Object] = self.lab.api("GET", f"/api/v1/namespaces/{self.namespace}/pods?{query}")["items"]
        return found

    def deploy(
        self, name: str, *containers: Object, kind: str = "Deployment", replicas: int = 3, **options: Any
    ) -> list[str]:
        """Make a Deployment or another workload, wait until its pods are ready, and return their names."""
        self.apply(pods.workload(kind, name, pods.pod(name, *containers, **options), replicas))
        self.kubectl("rollout", "status", f"{kind.lower()}/{name}", "--timeout=90s")
        names = sorted(each["metadata"]["name"] for each in self.pods(name))
        for each in names:
            self.witness.wait(each, "started", containers[0]["name"])
        return names

    def restart(self, name: str) -> None:
        """Begin a rolling update, as `kubectl rollout restart` does."""
        self.kubectl("rollout", "restart", f"deployment/{name}")

    def deployment(self, name: str) -> Object:
        """Return a Deployment."""
        found: Object = self.lab.api("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")
        return found

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in this namespace."""
        return self.lab.kubectl("-n", self.namespace, *arguments)

    def path(self, pod: str) -> str:
        """Return a pod's API path."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod}"


def ready(pod: Object | None) -> bool:
    """Tell whether a pod is ready."""
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
