"""Whole, valid objects of both kinds, and how a test changes one thing in them."""

from __future__ import annotations

import copy
from typing import Any, Final

Object = dict[str, Any]

GONE: Final = object()
"""As a value in ``changed``: the field is taken out."""

_BINDING: Final[Object] = {
    "apiVersion": "voicekeys.dev/v1alpha1",
    "kind": "VoiceKeyBinding",
    "metadata": {"name": "frejun", "namespace": "default"},
    "spec": {
        "suspend": False,
        "environment": "production",
        "source": {
            "storeRef": {"name": "vault"},
            "path": "voice/production/frejun",
            "version": 7,
            "serviceAccountName": "voicekeys-reader",
        },
        "target": {
            "secretName": "frejun-api-key",
            "type": "Opaque",
            "data": {"FREJUN_API_KEY": "api_key", "ca.crt": "ca"},
            "base64Decode": ["ca.crt"],
            "labels": {"team": "voice", "example.com/tier": "1"},
            "annotations": {"example.com/note": "the telephone key"},
            "adopt": False,
            "deletionPolicy": "Retain",
        },
        "agents": [
            {
                "kind": "Deployment",
                "name": "receptionist",
                "container": "agent",
                "drain": {
                    "mode": "HTTP",
                    "inject": "Pod",
                    "port": 9909,
                    "maxCallDuration": "30m",
                    "settle": "5s",
                    "teardown": "10s",
                },
            },
        ],
        "rollout": {"timeout": "10m", "propagation": "5s", "maxRestartsPerHour": 6},
        "rotation": {"maxAge": "90d", "warnBefore": "14d"},
    },
}

_STORE: Final[Object] = {
    "apiVersion": "voicekeys.dev/v1alpha1",
    "kind": "VoiceKeyStore",
    "metadata": {"name": "vault"},
    "spec": {
        "suspend": False,
        "vault": {
            "address": "https://vault.example.com:8200",
            "namespace": "admin/voice",
            "mount": "secret",
            "caBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "insecure": False,
            "timeout": "10s",
        },
        "auth": {"kubernetes": {"mountPath": "kubernetes", "role": "voicekeys", "audience": "vault"}},
        "poll": {"interval": "30s", "readsPerSecond": 10},
        "rollout": {"maxWorkloads": 20},
        "rules": [
            {
                "name": "production-voice",
                "namespaceSelector": {
                    "matchLabels": {"voicekeys-env": "production"},
                    "matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]},
                    ],
                },
                "pathPrefixes": ["voice/production"],
                "environment": "production",
            },
        ],
    },
}

AUTHS: Final[dict[str, Object]] = {
    "kubernetes": {"mountPath": "kubernetes", "role": "voicekeys", "audience": "vault"},
    "jwt": {"mountPath": "jwt", "role": "voicekeys", "audience": "vault"},
    "appRole": {
        "mountPath": "approle",
        "roleId": "voicekeys",
        "secretRef": {"name": "vault-approle", "key": "secret-id"},
    },
    "token": {"secretRef": {"name": "vault-token", "key": "token"}},
}
"""One valid use of each auth method."""

DRAINS: Final[dict[str, Object]] = {
    "gauge": {
        "mode": "Gauge",
        "port": 8080,
        "gauge": {
            "path": "/status.json",
            "scheme": "HTTP",
            "jsonPointer": "/sessions/active",
            "authorizationSecret": {"name": "livekit-metrics", "key": "authorization"},
        },
    },
    "command": {"mode": "Exec", "command": ["/opt/agent/drain", "--wait"]},
}
"""A valid drain for each field that only one mode has."""


def binding(drain: str = "") -> Object:
    """Return a VoiceKeyBinding that sets every field; those of ``drain`` that only one mode has, by their name."""
    made = copy.deepcopy(_BINDING)
    if drain:
        made["spec"]["agents"][0]["drain"] = copy.deepcopy(DRAINS[drain])
    return made


def store(auth: str = "kubernetes", *, ca_config_map: bool = False) -> Object:
    """Return a VoiceKeyStore that sets every field, with one auth method and one source of the CA."""
    made = copy.deepcopy(_STORE)
    made["spec"]["auth"] = {auth: copy.deepcopy(AUTHS[auth])}
    if ca_config_map:
        del made["spec"]["vault"]["caBundle"]
        made["spec"]["vault"]["caConfigMapRef"] = {"name": "vault-ca", "key": "ca.crt"}
    return made


def base(path: str) -> Object:
    """Return the valid object of either kind that has something at ``path``, given as ``binding:…`` or ``store:…``."""
    kind, _, field = path.partition(":")
    if kind == "binding":
        made = binding(next((name for name in DRAINS if f".drain.{name}" in field), ""))
        if field.endswith("gauge.metric"):
            made["spec"]["agents"][0]["drain"]["gauge"] = {"metric": "calls"}
        return made
    auth = next((name for name in AUTHS if field.startswith(f"spec.auth.{name}")), "kubernetes")
    return store(auth, ca_config_map=field.startswith("spec.vault.caConfigMapRef"))


def changed(made: Object, changes: dict[str, Any]) -> Object:
    """Return ``made`` with each change made: ``{"spec.agents[0].name": "x"}``; the value GONE takes a field out.

    A change whose key is a map's key with dots in it names it in brackets: ``spec.target.labels[a.b/c]``.
    """
    made = copy.deepcopy(made)
    for path, value in changes.items():
        *steps, last = _steps(path)
        here: Any = made
        for step in steps:
            here = here[step] if isinstance(here, list) else here.setdefault(step, {})
        if value is GONE:
            del here[last]
        else:
            here[last] = value
    return made


def at(made: Object, path: str) -> Any:
    """Return what ``made`` has at ``path``."""
    here: Any = made
    for step in _steps(path):
        here = here[step]
    return here


def _steps(path: str) -> list[Any]:
    """Split ``a.b[0][x.y]`` into ``["a", "b", 0, "x.y"]``."""
    steps: list[Any] = []
    for dotted, bracketed in _pairs(path):
        steps += dotted.split(".") if dotted else []
        if bracketed:
            steps.append(int(bracketed) if bracketed.isdigit() else bracketed)
    return steps


def _pairs(path: str) -> list[tuple[str, str]]:
    """Split ``a.b[0].c`` into its runs of dotted names, each with the bracketed key after it."""
    pairs = []
    while path:
        dotted, _, rest = path.partition("[")
        bracketed, _, path = rest.partition("]")
        pairs.append((dotted.strip("."), bracketed))
    return pairs
