"""Calls to a cluster's API server, whichever cluster it is: the lab's own, kind's, or the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.lab.controlplane import Endpoint, bearer
from tests.lab.http import ApiError
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

REVIEWER_NAMESPACE = "voicekeys-lab-vault"
FIELD_MANAGER = "lab"
NOT_FOUND = 404
CONFLICT = 409


class Cluster:
    """A cluster seen through its API, as administrator unless a call says otherwise."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._http = endpoint.http()
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        as_user: str | None = None,
        content_type: str | None = None,
    ) -> Any:
        """Call the API server and return the decoded answer; raises ApiError at 400 and above.

        A PATCH is a JSON merge patch unless `content_type` says otherwise. `token` replaces the administrator's,
        `as_user` impersonates.
        """
        headers = bearer(token or self.endpoint.admin_token, as_user)
        if content_type or method == "PATCH":
            headers["Content-Type"] = content_type or "application/merge-patch+json"
        return self._http.json(method, path, body, headers)

    def apply(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply one object, taking over any field in conflict; return it as the server has it."""
        path = f"{self.path(obj)}?fieldManager={FIELD_MANAGER}&force=true"
        answer: dict[str, Any] = self.call("PATCH", path, obj, content_type="application/apply-patch+yaml")
        if obj["kind"] == "CustomResourceDefinition":
            self._await_crd(obj)
        return answer

    def path(self, obj: Mapping[str, Any]) -> str:
        """Return the API path of an object by its apiVersion, kind, namespace (default: `default`) and name."""
        collection, namespaced = self._resource(obj["apiVersion"], obj["kind"])
        meta = obj["metadata"]
        prefix = f"/namespaces/{meta.get('namespace', 'default')}" if namespaced else ""
        root = "/api" if "/" not in obj["apiVersion"] else "/apis"
        return f"{root}/{obj['apiVersion']}{prefix}/{collection}/{meta['name']}"

    def exists(self, path: str) -> bool:
        """Tell whether there is an object at a path."""
        try:
            self.call("GET", path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def token_for(self, namespace: str, name: str, audience: str | None = None, seconds: int = 86400) -> str:
        """Return a token of a ServiceAccount by TokenRequest; namespace and account are made when missing."""
        self.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        self.ensure(account)
        spec: dict[str, Any] = {"expirationSeconds": seconds} | ({"audiences": [audience]} if audience else {})
        answer = self.call("POST", f"{self.path(account)}/token", {"spec": spec})
        return str(answer["status"]["token"])

    def ensure(self, obj: Mapping[str, Any]) -> None:
        """Create an object unless one of its name is there."""
        try:
            self.call("POST", self.path(obj).rpartition("/")[0], obj)
        except ApiError as error:
            if error.status != CONFLICT:
                raise

    def make_reviewer(self) -> str:
        """Make the ServiceAccount with which Vault reviews tokens (`system:auth-delegator`), and return its token."""
        token = self.token_for(REVIEWER_NAMESPACE, "reviewer")
        subject = {"kind": "ServiceAccount", "name": "reviewer", "namespace": REVIEWER_NAMESPACE}
        self.bind("voicekeys-lab-vault-reviewer", "system:auth-delegator", subject)
        return token

    def publish_issuer(self) -> None:
        """Let anyone read the public keys of ServiceAccount tokens, as Vault's JWT auth does."""
        group = {"kind": "Group", "name": "system:unauthenticated", "apiGroup": "rbac.authorization.k8s.io"}
        self.bind("voicekeys-lab-issuer", "system:service-account-issuer-discovery", group)

    def bind(self, name: str, cluster_role: str, subject: Mapping[str, str]) -> None:
        """Bind a ClusterRole to a subject in the whole cluster."""
        api = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": cluster_role},
            "subjects": [dict(subject)],
        }
        self.ensure(binding)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Return a kind's plural and whether it is namespaced, from discovery, asked again for a kind not yet seen."""
        if (api_version, kind) not in self._resources:
            root = "/api" if "/" not in api_version else "/apis"
            for each in self.call("GET", f"{root}/{api_version}")["resources"]:
                if "/" not in each["name"]:
                    self._resources[api_version, each["kind"]] = (each["name"], each["namespaced"])
        return self._resources[api_version, kind]

    def _await_crd(self, crd: Mapping[str, Any]) -> None:
        """Wait until a CRD's kinds are served, which its Established condition runs ahead of by a moment."""
        group, path = crd["spec"]["group"], self.path(crd)
        served = [version["name"] for version in crd["spec"]["versions"] if version["served"]]
        plural = crd["spec"]["names"]["plural"]

        def ready() -> bool:
            # A CRD just made has `conditions: null`.
            conditions = self.call("GET", path).get("status", {}).get("conditions") or []
            if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                return False
            return all(self.exists(f"/apis/{group}/{version}/{plural}?limit=1") for version in served)

        eventually(ready, f"CRD {crd['metadata']['name']} served", pause=0.05)
