"""What a ServiceAccount may do, asked of the real API server: every verb on every resource that it serves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# Verbs that RBAC knows beside those of HTTP, with the resources that they are checked on.
SPECIAL = (
    ("rbac.authorization.k8s.io", "roles", "bind"),
    ("rbac.authorization.k8s.io", "roles", "escalate"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    ("rbac.authorization.k8s.io", "clusterroles", "escalate"),
    ("", "users", "impersonate"),
    ("", "groups", "impersonate"),
    ("", "serviceaccounts", "impersonate"),
    ("certificates.k8s.io", "signers", "approve"),
    ("certificates.k8s.io", "signers", "sign"),
)


class Act(NamedTuple):
    """A verb on a resource (with its subresource after a slash) in a namespace; empty means the whole cluster."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""


def served(lab: Lab) -> Iterator[tuple[str, str, bool]]:
    """Yield group, resource and whether it is namespaced, of all that the API server serves, subresources too."""
    groups = [("", "/api/v1")]
    for group in lab.api("GET", "/apis")["groups"]:
        groups += [(group["name"], f"/apis/{each['groupVersion']}") for each in group["versions"]]
    for group, path in groups:
        for each in lab.api("GET", path)["resources"]:
            yield group, each["name"], each["namespaced"]


def acts(lab: Lab, namespace: str) -> set[Act]:
    """Return every act on what the server serves: in a namespace, or in the whole cluster when it is empty."""
    everything = {
        Act(group, resource, verb, namespace)
        for group, resource, namespaced in served(lab)
        for verb in VERBS
        if namespaced or not namespace
    }
    return everything | {Act(group, resource, verb, namespace) for group, resource, verb in SPECIAL}


def may(lab: Lab, account: str, act: Act) -> bool:
    """Tell whether a ServiceAccount (`namespace/name`) may do an act."""
    namespace, name = account.split("/")
    resource, _, subresource = act.resource.partition("/")
    attributes = {
        "group": act.group,
        "resource": resource,
        "subresource": subresource,
        "verb": act.verb,
        "namespace": act.namespace,
        "name": act.name,
    }
    spec = {
        "user": f"system:serviceaccount:{namespace}:{name}",
        "groups": ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
        "resourceAttributes": attributes,
    }
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = lab.api("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def allowed(lab: Lab, account: str, candidates: set[Act]) -> set[Act]:
    """Return those of the acts that a ServiceAccount may do."""
    ordered = sorted(candidates)
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda act: may(lab, account, act), ordered)
        return {act for act, answer in zip(ordered, answers, strict=True) if answer}


def own_rights(lab: Lab, account: str, namespace: str) -> set[Act]:
    """Return what an account may do in a namespace (empty: cluster-wide) that not every account may."""
    candidates = acts(lab, namespace)
    home = account.split("/", maxsplit=1)[0]
    return allowed(lab, account, candidates) - allowed(lab, f"{home}/nobody", candidates)
