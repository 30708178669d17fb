"""Builders of the objects that tests apply: what a user would write, one argument for each thing varied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API = "voicekeys.dev/v1alpha1"
LAB = "lab.voicekeys.dev/"
Object = dict[str, Any]


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> Object:
    """`base` with `change` laid over it, maps key by key; None takes a key away."""
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def rule(name: str, namespace: str, prefix: str, environment: str = "production") -> Object:
    """A store's rule for one namespace, found by its name."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {"name": name, "namespaceSelector": selector, "pathPrefixes": [prefix], "environment": environment}


def store(name: str, address: str, rules: Sequence[Object], **spec: Any) -> Object:
    """A store on a Vault without TLS that is read each 5 s; `spec` is laid over it."""
    base = {
        "vault": {"address": address, "insecure": True, "timeout": "2s"},
        "auth": {"kubernetes": {"role": "voicekeys"}},
        "poll": {"interval": "5s"},
        "rules": list(rules),
    }
    return {"apiVersion": API, "kind": "VoiceKeyStore", "metadata": {"name": name}, "spec": merged(base, spec)}


def binding(namespace: str, name: str, path: str, store_name: str, **spec: Any) -> Object:
    """A binding of the environment production whose Secret has its name; `spec` is laid over it."""
    base = {
        "environment": "production",
        "source": {"path": path, "storeRef": {"name": store_name}},
        "rollout": {"propagation": "1s"},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API, "kind": "VoiceKeyBinding", "metadata": metadata, "spec": merged(base, spec)}


def agent(name: str = "agent", kind: str = "Deployment", **more: Any) -> Object:
    """An entry of a binding's spec.agents."""
    return {"kind": kind, "name": name, **more}


def template(name: str, secrets: Sequence[str], marks: Mapping[str, str], pod: Mapping[str, Any]) -> Object:
    """A pod template that reads Secrets by envFrom; `marks` are annotations (`ready_after`: `…/ready-after`)."""
    annotations = {LAB + key.replace("_", "-"): value for key, value in marks.items()}
    sources = [{"secretRef": {"name": secret}} for secret in secrets]
    container = {"name": "agent", "image": "example.com/agent:1", "envFrom": sources}
    spec = merged({"containers": [container]}, pod)
    return {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec}


def workload(
    namespace: str,
    name: str = "agent",
    kind: str = "Deployment",
    *,
    replicas: int = 3,
    secrets: Sequence[str] = ("voice",),
    strategy: Mapping[str, Any] | None = None,
    pod: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    **marks: str,
) -> Object:
    """A Deployment (maxSurge 1, maxUnavailable 0 unless `strategy` says otherwise), StatefulSet or DaemonSet."""
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    field = "strategy" if kind == "Deployment" else "updateStrategy"
    chosen = strategy if strategy is not None else (surge if kind == "Deployment" else None)
    made: Object = {
        "selector": {"matchLabels": {"app": name}},
        "template": template(name, secrets, marks, pod or {}),
        **({field: dict(chosen)} if chosen is not None else {}),
        **({} if kind == "DaemonSet" else {"replicas": replicas}),
        **({"serviceName": name} if kind == "StatefulSet" else {}),
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": merged(made, spec or {})}
