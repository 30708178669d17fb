"""What the operator keeps in its own namespace: the fingerprint key, and the mark on its pod that it leads."""

from __future__ import annotations

import base64
import binascii
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final

from voicekeys.api.names import FINGERPRINT_SECRET, LEADER_LABEL, MANAGED_BY, MANAGED_BY_LABEL
from voicekeys.clients.kube.paths import path
from voicekeys.clients.kube.session import MERGE_PATCH
from voicekeys.model.errors import ApiConflict, ApiNotFound, Terminal

if TYPE_CHECKING:
    from voicekeys.clients.kube.session import KubeSession

KEY_BYTES: Final = 32
OPERATOR_CONTAINER: Final = "operator"
"""As deploy/ names it."""
_FIELD: Final = "key"


class OwnNamespace:
    """The operator's own namespace.

    Args:
        session: the connection.
        namespace: its name.
    """

    def __init__(self, session: KubeSession, namespace: str) -> None:
        self._session = session
        self._namespace = namespace

    async def fingerprint_key(self) -> bytes:
        """Give the key that all digests are made with; make it where there is none.

        Raises:
            Terminal: the Secret is there and holds no usable key, or the namespace is missing.
            ApiError: the API server refused or did not answer.
        """
        target = path("secrets", self._namespace, FINGERPRINT_SECRET)
        try:
            found = await self._session.request("GET", target)
        except ApiNotFound:
            found = await self._make(target)
        return self._usable((found.get("data") or {}).get(_FIELD))

    async def _make(self, target: str) -> dict[str, Any]:
        key = secrets.token_bytes(KEY_BYTES)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": FINGERPRINT_SECRET, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "type": "Opaque",
            "data": {_FIELD: base64.b64encode(key).decode()},
        }
        try:
            made: dict[str, Any] = await self._session.request("POST", path("secrets", self._namespace), body)
        except ApiConflict:  # another replica was quicker: its key is the one
            made = await self._session.request("GET", target)
        except ApiNotFound as error:
            where = f"namespace {self._namespace} does not exist"
            message = f"{where}: create it, or name another in VOICEKEYS_POD_NAMESPACE"
            raise Terminal("NamespaceMissing", message) from error
        return made

    def _usable(self, text: object) -> bytes:
        try:
            key = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except binascii.Error:
            key = b""
        if len(key) < KEY_BYTES:
            message = (
                f"Secret {self._namespace}/{FINGERPRINT_SECRET} must hold at least {KEY_BYTES} bytes under {_FIELD!r}: "
                "restore it from your backup, or delete it to have a new one made (every binding then takes a new "
                "baseline, nothing restarts)"
            )
            raise Terminal("FingerprintKeyUnusable", message)
        return key

    async def mark_leader(self, pod: str, *, leads: bool) -> str:
        """Label the operator's own pod, so that the notify Service reaches the leader; no pod, no label.

        Whoever leads takes the label off every other pod, too: a leader that was killed could not do it itself, and its
        container may start again, as a standby, in the same pod.

        Args:
            pod: this pod's name; empty outside a cluster.
            leads: whether it leads.

        Returns:
            The image that the pod runs; empty without a pod.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        if not pod:
            return ""
        own = await self._label(pod, "true" if leads else None)
        containers = own["spec"]["containers"]
        # By its name: a mesh may put its proxy before it.
        mine = next((one for one in containers if one["name"] == OPERATOR_CONTAINER), containers[0])
        image = str(mine["image"])
        if not leads:
            return image
        params = {"labelSelector": f"{LEADER_LABEL}=true"}
        marked = await self._session.request("GET", path("pods", self._namespace), params=params)
        names = [each["metadata"]["name"] for each in marked.get("items") or ()]
        for former in names:
            if former != pod:
                with contextlib.suppress(ApiNotFound):
                    await self._label(former, None)
        return image

    async def _label(self, pod: str, value: str | None) -> dict[str, Any]:
        target = path("pods", self._namespace, pod)
        body = {"metadata": {"labels": {LEADER_LABEL: value}}}
        labelled: dict[str, Any] = await self._session.request("PATCH", target, body, content_type=MERGE_PATCH)
        return labelled
