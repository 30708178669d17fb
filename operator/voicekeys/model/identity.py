"""Who reads a key, and where from: the names that readers, pollers and metrics share."""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """A namespaced object's name; ``namespace`` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Identity(NamedTuple):
    """The ServiceAccount whose rights read the key; both empty where the store lends the operator's own."""

    namespace: str
    service_account: str

    @property
    def lent(self) -> bool:
        """Whether the store lends its own login (AppRole, token) instead of the tenant's."""
        return not self.service_account

    def __str__(self) -> str:
        return "the store's own login" if self.lent else f"ServiceAccount {self.namespace}/{self.service_account}"


OPERATOR = Identity("", "")


class SourceId(NamedTuple):
    """One thing to poll: every binding with the same store, identity, path and version pin shares it."""

    store: str
    identity: Identity
    path: str
    version: int = 0  # 0: the latest


class WorkloadId(NamedTuple):
    """A workload that runs agents; ``kind`` is Deployment, StatefulSet or DaemonSet."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
