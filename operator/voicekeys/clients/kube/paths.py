"""Where each kind lives in the API, and what a path means: for requests, metrics and messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from voicekeys.api.names import (
    API_VERSION,
    BINDING_KIND,
    BINDING_PLURAL,
    STORE_KIND,
    STORE_PLURAL,
)
from voicekeys.model.errors import ApiInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOTS = {
    "secrets": "/api/v1",
    "configmaps": "/api/v1",
    "pods": "/api/v1",
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "serviceaccounts": "/api/v1",
    "resourcequotas": "/api/v1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "events": "/apis/events.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "mutatingadmissionpolicies": "/apis/admissionregistration.k8s.io/v1",
    BINDING_PLURAL: f"/apis/{API_VERSION}",
    STORE_PLURAL: f"/apis/{API_VERSION}",
}
PLURALS = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    BINDING_KIND: BINDING_PLURAL,
    STORE_KIND: STORE_PLURAL,
}
_PLAIN = re.compile(r"[a-z0-9.\-]+\Z")
_VERBS = {
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
    "WATCH": "watch",
}


class Call(NamedTuple):
    """What a request does, in Kubernetes' words: ``patch``, ``secrets``, and a text for messages (names only)."""

    verb: str
    resource: str
    text: str


def plural(kind: str) -> str:
    """Plural of a kind that we use; `ApiInvalid` for any other."""
    try:
        return PLURALS[kind]
    except KeyError:
        raise ApiInvalid("KindUnknown", f"{kind!r} is not a kind that voicekeys works with") from None


def path(resource: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Path of a collection (no ``name``) or an object.

    Args:
        resource: plural.
        namespace: empty for cluster-scoped kinds, or for all namespaces.
        name: of the object.
        subresource: such as ``status`` or ``token``.

    Raises:
        ApiInvalid: a name that would lead elsewhere in the API, or a resource that we do not use.
    """
    root = _ROOTS.get(resource)
    if root is None:
        raise ApiInvalid("KindUnknown", f"{resource!r} is not a resource that voicekeys works with")
    parts = [root]
    if namespace:
        parts += ["namespaces", _segment(namespace)]
    parts.append(resource)
    if name:
        parts.append(_segment(name))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def core_events(namespace: str) -> str:
    """Path of a namespace's events in the core API, where kubelets write theirs."""
    return f"/api/v1/namespaces/{_segment(namespace)}/events"


def call_of(method: str, path: str) -> Call:
    """Read a request's verb and resource from its method and path."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":  # noqa: PLR2004 - namespaces/NAME/resource
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*rest, "", "", ""][:3]
    verb = _VERBS.get(method) or ("get" if name else "list")
    target = "/".join(part for part in (namespace, name) if part)
    full = f"{resource}/{subresource}" if subresource else resource
    return Call(verb, full or "other", f"{verb} {full} {target}".rstrip())


def selector_text(selector: Mapping[str, Any]) -> str:
    """Write a LabelSelector as the query parameter that lists take; an empty one selects everything.

    Raises:
        ApiInvalid: an operator other than In, NotIn, Exists, DoesNotExist.
    """
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, operator, values = (
            expression["key"],
            expression["operator"],
            ",".join(expression.get("values") or ()),
        )
        match operator:
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
            case _:
                raise ApiInvalid(
                    "SelectorInvalid",
                    f"{operator!r} is not an operator of a label selector",
                )
    return ",".join(terms)


def _segment(name: str) -> str:
    if name in {"", ".", ".."}:
        raise ApiInvalid("NameInvalid", f"{name!r} is not a name of a Kubernetes object")
    return name if _PLAIN.match(name) else quote(name, safe=":")
