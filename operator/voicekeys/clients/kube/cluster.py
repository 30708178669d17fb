"""The Kubernetes API as the reconcilers need it: satisfies their ``Cluster`` and ``SecretReader`` protocols."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

from voicekeys.api.names import ARMING_POLICY, FIELD_MANAGER
from voicekeys.clients.kube.faults import KIND_NOT_SERVED, UID_CHANGED, UNPROCESSABLE
from voicekeys.clients.kube.ownership import without_arming
from voicekeys.clients.kube.paths import core_events, path, plural, selector_text
from voicekeys.clients.kube.session import APPLY, JSON_PATCH, MERGE_PATCH
from voicekeys.clients.kube.watch import Watcher
from voicekeys.model.errors import (
    ApiConflict,
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiInvalid,
    ApiNotFound,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from voicekeys.clients.kube.session import KubeSession
    from voicekeys.model.identity import Identity, Name, WorkloadId

Object = dict[str, Any]

LIST_CHUNK: Final = 500
TOKEN_SECONDS: Final = 600
"""The least that TokenRequest takes: a token is only used once, for a login at Vault."""

_GIVE_UP_TRIES: Final = 10
_MANAGED = {"fieldManager": FIELD_MANAGER}
_APPLIED = {"fieldManager": FIELD_MANAGER, "force": "true"}


class KubeCluster:
    """Reads and writes of the operator. Every method raises `ApiError` subclasses.

    Args:
        session: the connection.
        namespace: the operator's own, for `read_own`; default: the credentials'.
        on_watch_error: called with (resource, error) at each fault of a watch; the watch goes on by itself.
    """

    def __init__(
        self,
        session: KubeSession,
        *,
        namespace: str | None = None,
        on_watch_error: Callable[[str, ApiError], None] | None = None,
    ) -> None:
        self._session = session
        self._namespace = namespace or session.credentials.namespace
        self._on_watch_error = on_watch_error
        self._watchers: list[Watcher] = []

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """Every watch that was started and has not ended, for health: see `Watcher.last_seen`."""
        return tuple(self._watchers)

    async def get_secret(self, name: Name) -> Object | None:
        """Read one Secret; None where it does not exist."""
        return await self._get(path("secrets", name.namespace, name.name))

    async def apply_secret(self, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply a Secret with our field manager, by force. ``data`` values are base64 text.

        With ``metadata.uid`` set, a Secret that was deleted meanwhile is not created again (ApiConflict).
        """
        metadata = manifest["metadata"]
        target = path("secrets", metadata["namespace"], metadata["name"])
        return await self._patch(target, manifest, APPLY, _APPLIED)

    async def replace_status(self, kind: str, name: Name, uid: str, status: Mapping[str, Any]) -> Object:
        """Replace the whole status of a VoiceKeyBinding or VoiceKeyStore, if it still has this UID.

        Raises:
            ApiConflict: the object was made anew under the same name.
            ApiNotFound: it is gone.
        """
        target = path(plural(kind), name.namespace, name.name, "status")
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            # Twice is as good as once, so it may be retried after a cut connection.
            return await self._patch(target, patch, JSON_PATCH, _MANAGED, idempotent=True)
        except ApiInvalid as error:
            if error.reason != UNPROCESSABLE:  # the schema refused the status
                raise
            message = f"{kind} {name} is not the object that was read: its UID changed"
            raise ApiConflict(UID_CHANGED, message, status=error.status) from error

    async def get_workload(self, workload: WorkloadId) -> Object | None:
        """Read a Deployment, StatefulSet or DaemonSet; None where it does not exist."""
        return await self._get(path(plural(workload.kind), workload.namespace, workload.name))

    async def annotate_template(
        self,
        workload: WorkloadId,
        uid: str,
        resource_version: str,
        annotations: Mapping[str, str | None],
    ) -> Object:
        """Set (or, with None, remove) pod-template annotations in one merge patch, tested against UID and version.

        Raises:
            ApiConflict: the workload changed since it was read: read again and decide again.
            ApiNotFound: it is gone; a patch never creates.
        """
        return await self._patch_template(
            workload, uid, resource_version, {"metadata": {"annotations": dict(annotations)}}
        )

    async def arm_template(
        self,
        workload: WorkloadId,
        uid: str,
        resource_version: str,
        arming: Mapping[str, Any],
        annotations: Mapping[str, str | None],
    ) -> Object:
        """Arm a pod template and set its triggers in one merge patch, so in one rollout; then give up ownership.

        Args:
            workload: the agents' workload.
            uid: its UID, which the patch is tested against.
            resource_version: that of the object which ``arming`` was made from.
            arming: what ``policies.arming.arming_patch`` returned.
            annotations: triggers, as in `annotate_template`.

        Raises:
            ApiConflict: the workload changed since it was read, and nothing is written.
            ApiForbidden: the admission policy of deploy/ lets the operator add nothing of this kind.
            ApiNotFound: it is gone.
        """
        metadata = arming.get("metadata") or {}
        notes = {**(metadata.get("annotations") or {}), **annotations}
        template = {**arming, "metadata": {**metadata, "annotations": notes}}
        written = await self._patch_template(workload, uid, resource_version, template)
        return await self.give_up_template(workload, written)

    async def give_up_template(self, workload: WorkloadId, raw: Mapping[str, Any]) -> Object:
        """Take our name off every field of a workload but the triggers; return the object as it is then.

        Whoever owns a field inside a user's container stands in the way of the user's own server-side applies (facts
        K24). The values stay, owned by nobody. Call it as well where `ownership.is_left` finds what a crash between the
        two writes of `arm_template` left. Nothing is written where nothing is left.

        Args:
            workload: the agents' workload.
            raw: the workload as last read or written.

        Raises:
            ApiConflict: it was made anew, or others write it without a pause.
            ApiNotFound: it is gone.
        """
        target = path(plural(workload.kind), workload.namespace, workload.name)
        found, tries = dict(raw), 0
        while (entries := without_arming(found["metadata"].get("managedFields") or ())) is not None:
            version = found["metadata"]["resourceVersion"]
            metadata = {"uid": raw["metadata"]["uid"], "resourceVersion": version, "managedFields": entries}
            try:
                return await self._patch(target, {"metadata": metadata}, MERGE_PATCH, _MANAGED)
            except ApiConflict as error:  # mostly its controller's status: only the entries matter, so read again
                tries += 1
                if error.reason == UID_CHANGED or tries == _GIVE_UP_TRIES:
                    raise
                found = await self._session.request("GET", target)
        return found

    async def _patch_template(
        self, workload: WorkloadId, uid: str, resource_version: str, template: Mapping[str, Any]
    ) -> Object:
        body = {"metadata": {"uid": uid, "resourceVersion": resource_version}, "spec": {"template": template}}
        target = path(plural(workload.kind), workload.namespace, workload.name)
        return await self._patch(target, body, MERGE_PATCH, _MANAGED)

    async def annotate_pod(self, namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> None:
        """Set annotations of a pod, tested against its UID.

        Raises:
            ApiNotFound: it is gone.
            ApiConflict: another pod has its name.
        """
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
        await self._patch(path("pods", namespace, name), body, MERGE_PATCH, _MANAGED)

    async def has_arming_policy(self) -> bool | None:
        """Whether the API server arms new pods: it serves MutatingAdmissionPolicy v1 (1.36), and ours is there.

        None where the operator may not look.
        """
        try:
            await self._session.request("GET", path("mutatingadmissionpolicies", "", ARMING_POLICY))
        except ApiNotFound:
            return False
        except ApiForbidden:
            return None
        return True

    async def list_pods(self, namespace: str, selector: Mapping[str, Any]) -> list[Object]:
        """Pods of a namespace by LabelSelector (``matchLabels`` and ``matchExpressions``), read consistently."""
        return await self._list(path("pods", namespace), selector_text(selector))

    async def get_namespace(self, name: str) -> Object | None:
        """Read one namespace; None where it does not exist."""
        return await self._get(path("namespaces", "", name))

    async def list_quotas(self, namespace: str) -> list[Object]:
        """ResourceQuotas of a namespace."""
        return await self._list(path("resourcequotas", namespace))

    async def has_event(self, namespace: str, uid: str, reason: str) -> bool:
        """Whether there is an event with this reason about the object with this UID: asked once, not tried again.

        Events are kept for an hour, by the API server's default.
        """
        params = {"fieldSelector": f"involvedObject.uid={uid},reason={reason}", "limit": "1"}
        answer = await self._session.request("GET", core_events(namespace), params=params, retry=False)
        return bool(answer.get("items"))

    async def mint_token(self, identity: Identity, audience: str) -> str:
        """Mint a ServiceAccount token (TokenRequest) for ``audience``, good for ten minutes.

        Raises:
            ApiNotFound: there is no such ServiceAccount.
            ApiForbidden: RBAC does not let the operator mint for it.
        """
        target = path("serviceaccounts", identity.namespace, identity.service_account, "token")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": TOKEN_SECONDS},
        }
        answer = await self._session.request("POST", target, body, idempotent=True)
        token = (answer.get("status") or {}).get("token")
        if not isinstance(token, str) or not token:
            raise ApiError(
                "ApiGarbage",
                f"the TokenRequest for {identity} was answered without a token",
                status=201,
            )
        return token

    async def read_own(self, kind: str, name: str, key: str) -> str | None:
        """One value of a Secret or ConfigMap of the operator's namespace, as text; None where it is missing.

        Raises:
            ApiInvalid: a Secret's value that is not text in UTF-8.
        """
        found = await self._get(path(plural(kind), self._namespace, name))
        value = ((found or {}).get("data") or {}).get(key)
        if value is None or kind != "Secret":
            return value
        try:
            return base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            message = f"key {key!r} of {kind} {self._namespace}/{name} is not text in UTF-8"
            raise ApiInvalid("NotText", message) from None  # the foreign one holds the value

    async def watch(
        self,
        resource: str,
        namespace: str = "",
        selector: str = "",
        *,
        metadata_only: bool = False,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """List, then watch, for ever; see `Watcher` for what is yielded and `watchers` for health."""
        watcher = Watcher(
            self._session,
            resource,
            namespace,
            selector,
            metadata_only=metadata_only,
            on_error=self._on_watch_error,
        )
        self._watchers.append(watcher)
        try:
            async for event in watcher.events():
                yield event
        finally:
            self._watchers.remove(watcher)

    async def _get(self, target: str) -> Object | None:
        try:
            found: Object = await self._session.request("GET", target)
        except ApiNotFound as error:
            if error.reason == KIND_NOT_SERVED:
                raise
            return None
        return found

    async def _patch(
        self,
        target: str,
        body: object,
        content_type: str,
        params: Mapping[str, str],
        *,
        idempotent: bool | None = None,
    ) -> Object:
        answer: Object = await self._session.request(
            "PATCH",
            target,
            body,
            content_type=content_type,
            params=params,
            idempotent=idempotent,
        )
        return answer

    async def _list(self, target: str, selector: str = "") -> list[Object]:
        try:
            return await self._list_chunked(target, selector, LIST_CHUNK)
        except ApiGone:  # the list took longer than etcd keeps its snapshot: once more, in one piece
            return await self._list_chunked(target, selector, 0)

    async def _list_chunked(self, target: str, selector: str, limit: int) -> list[Object]:
        params = {"labelSelector": selector} if selector else {}
        if limit:
            params["limit"] = str(limit)
        items: list[Object] = []
        while True:
            answer = await self._session.request("GET", target, params=params)
            items += answer.get("items") or ()
            following = (answer.get("metadata") or {}).get("continue")
            if not following:
                return items
            params["continue"] = following
