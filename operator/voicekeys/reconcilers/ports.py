"""What the reconcilers need from the outside, as Protocols: the clients satisfy them, and so do the tests' fakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from voicekeys.model.calls import CallsReport
    from voicekeys.model.hook import Endpoint
    from voicekeys.model.identity import Identity, Name, WorkloadId
    from voicekeys.model.payload import KeyVersion
    from voicekeys.model.probe import Probe

Object = dict[str, Any]
"""A Kubernetes object as the API server sends it, decoded from JSON."""


class Clock(Protocol):
    """Time, so that tests can hold it."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, for intervals."""


class KeySource(Protocol):
    """One store's Vault, ready to read keys with a tenant's identity."""

    async def read(self, identity: Identity, path: str, version: int = 0) -> KeyVersion:
        """Read one key.

        Args:
            identity: whose login reads it.
            path: below the store's mount, without ``data/``.
            version: 0 reads the latest.

        Raises:
            SourceError: a subclass by cause; the message says what to do.
        """

    async def close(self) -> None:
        """Close connections; tokens that this client got are revoked where Vault still answers."""


class Cluster(Protocol):
    """The Kubernetes API, as much of it as the operator uses. Every method raises `ApiError` subclasses."""

    async def get_secret(self, name: Name) -> Object | None:
        """Read one Secret; None where it does not exist."""

    async def apply_secret(self, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply a Secret with our field manager, by force. ``data`` values are base64 text.

        With ``metadata.uid`` set, a Secret that was deleted meanwhile is not created again (ApiConflict).
        """

    async def replace_status(self, kind: str, name: Name, uid: str, status: Mapping[str, Any]) -> Object:
        """Replace the whole status of one of our objects (JSON patch, tested against the UID).

        Args:
            kind: ``VoiceKeyBinding`` or ``VoiceKeyStore``.
            name: the object's name.
            uid: the UID that the object must still have (else ApiConflict / ApiNotFound).
            status: the new status.
        """

    async def get_workload(self, workload: WorkloadId) -> Object | None:
        """Read a Deployment, StatefulSet or DaemonSet; None where it does not exist."""

    async def annotate_template(
        self, workload: WorkloadId, uid: str, resource_version: str, annotations: Mapping[str, str | None]
    ) -> Object:
        """Set (or, with None, remove) pod-template annotations in one merge patch, tested against UID and version.

        Raises:
            ApiConflict: the workload changed since it was read: read again and decide again.
        """

    async def annotate_pod(self, namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> None:
        """Set annotations of a pod, tested against its UID."""

    async def list_pods(self, namespace: str, selector: Mapping[str, Any]) -> list[Object]:
        """Pods of a namespace by LabelSelector."""

    async def arm_template(
        self,
        workload: WorkloadId,
        uid: str,
        resource_version: str,
        arming: Mapping[str, Any],
        annotations: Mapping[str, str | None],
    ) -> Object:
        """Arm a pod template and set its triggers in one patch, then give up ownership of all but these."""

    async def give_up_template(self, workload: WorkloadId, raw: Object) -> Object:
        """Own no field of a workload but the triggers; returns the object as it is then."""

    async def get_namespace(self, name: str) -> Object | None:
        """Read one namespace; None where it does not exist."""

    async def list_quotas(self, namespace: str) -> list[Object]:
        """ResourceQuotas of a namespace."""

    async def has_event(self, namespace: str, uid: str, reason: str) -> bool:
        """Whether there is an event with this reason about the object with this UID."""

    async def mint_token(self, identity: Identity, audience: str) -> str:
        """A short-lived ServiceAccount token (TokenRequest) for ``audience``."""

    def watch(
        self, resource: str, namespace: str = "", selector: str = "", *, metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, Object]]:
        """List, then watch, for ever.

        Yields ``(type, object)``: types ``ADDED``, ``MODIFIED``, ``DELETED``, and ``LISTING`` before, ``SYNCED`` after
        each complete list, both with ``{}``. After a lost position (410) it lists again: consumers sweep what did not
        come between the two. Reconnects with capped, jittered backoff.

        Args:
            resource: plural, such as ``secrets``, ``pods``, ``deployments``, ``namespaces``.
            namespace: empty watches the whole cluster.
            selector: label selector as text.
            metadata_only: ask for ``PartialObjectMetadata``.
        """


class Agents(Protocol):
    """The drain contract of pods. Every method raises `AgentError` subclasses, and answers or fails in bounded time."""

    async def calls(self, pod: Endpoint, since: int | None = None, wait: float = 0.0) -> CallsReport:
        """Ask a pod for its live calls.

        Args:
            pod: whom to ask.
            since: the revision of the last report: the answer waits until there is another one. None does not wait.
            wait: seconds to wait at most.
        """

    async def release(self, pod: Endpoint) -> int:
        """Let a draining pod go although calls are live; returns how many that forces.

        Raises:
            AgentRefused: the token is another one, or the pod is not draining (reason ``NotDraining``).
        """

    async def probe(self, pod: Endpoint) -> Probe:
        """Find out whether a pod's hook would work, without starting a drain."""


class Events(Protocol):
    """Kubernetes Events, aggregated: the same reason and message on the same object raises a count."""

    def emit(self, regarding: Mapping[str, str], kind: str, reason: str, message: str) -> None:
        """Queue one event; never blocks and never raises.

        Args:
            regarding: apiVersion, kind, namespace, name, uid of the object.
            kind: ``Normal`` or ``Warning``.
            reason: CamelCase word.
            message: for a person; never a value.
        """


class SecretReader(Protocol):
    """Reads the operator's own Secrets and ConfigMaps: store credentials, CA bundles."""

    async def read_own(self, kind: str, name: str, key: str) -> str | None:
        """One value of a Secret or ConfigMap of the operator's namespace, or None."""
