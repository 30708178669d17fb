"""Stores as the API server's JSON, and their specs parsed."""

from __future__ import annotations

from typing import Any

from tests.gen.base import Modifier, Object, build
from voicekeys.api.store import LabelSelector, StoreSpec, parse_store_spec

_BASE: Object = {
    "apiVersion": "voicekeys.dev/v1alpha1",
    "kind": "VoiceKeyStore",
    "metadata": {"name": "default", "uid": "u-default", "generation": 1},
    "spec": {
        "vault": {"address": "https://vault.example.com:8200"},
        "auth": {"kubernetes": {"role": "voicekeys"}},
        "rules": [],
    },
}


def store(*modifiers: Modifier) -> Object:
    """A store without rules."""
    return build(_BASE, *modifiers)


def store_spec(*modifiers: Modifier) -> StoreSpec:
    """Such a store's spec, parsed."""
    return parse_store_spec(store(*modifiers)["spec"])


def rule(name: str, environment: str, *prefixes: str, **selector: Any) -> Modifier:
    """Add a rule; without a selector it selects every namespace."""

    def modify(obj: Object) -> None:
        made = {"name": name, "environment": environment, "pathPrefixes": list(prefixes)}
        obj["spec"]["rules"].append(made | {"namespaceSelector": selector})

    return modify


def selector(**fields: Any) -> LabelSelector:
    """A label selector, from the API's own field names."""
    return store_spec(rule("r", "e", "p", **fields)).rules[0].namespace_selector
