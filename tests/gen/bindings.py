"""Bindings as the API server's JSON: specs and statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.gen.base import NOW, Modifier, Object, build, put, text
from voicekeys.api.binding import BindingSpec, Target, parse_binding_spec
from voicekeys.api.status import AgentStatus, BindingStatus, parse_binding_status

if TYPE_CHECKING:
    from datetime import datetime


_BASE: Object = {
    "apiVersion": "voicekeys.dev/v1alpha1",
    "kind": "VoiceKeyBinding",
    "metadata": {"name": "frejun", "namespace": "voice", "uid": "u-frejun", "generation": 3},
    "spec": {
        "environment": "production",
        "source": {"path": "voice/production/frejun"},
        "target": {"secretName": "frejun-api-key"},
    },
}


def binding(*modifiers: Modifier) -> Object:
    """A binding ``voice/frejun`` that nobody has reconciled."""
    return build(_BASE, *modifiers)


def ready_binding(*modifiers: Modifier) -> Object:
    """A binding with one agent, reconciled: the key is in the Secret and in every pod."""
    return build(
        _BASE,
        agents({"kind": "Deployment", "name": "receptionist"}),
        put("status", {"observedGeneration": 3, "conditions": []}),
        condition("AgentsCurrent", "True", "Current", "every pod of 1 workload has the current key"),
        condition("CallsDrained", "True", "Drained", "no pod holds an older key"),
        condition("Ready", "True", "KeyInPlace", "the current key is in place"),
        condition("SecretSynced", "True", "Synced", "Secret frejun-api-key holds version 7 of the key"),
        condition("SourceReachable", "True", "Read", "Vault answers for voice/production/frejun"),
        *modifiers,
    )


def spec(*modifiers: Modifier) -> BindingSpec:
    """Such a binding's spec, parsed."""
    return parse_binding_spec(binding(*modifiers)["spec"])


def target(**fields: Any) -> Target:
    """A parsed target of these fields."""
    return spec(put("spec.target", fields)).target


def agents(*entries: Object) -> Modifier:
    """Set the agents."""
    return put("spec.agents", list(entries))


def condition(kind: str, status: str, reason: str, message: str, since: datetime = NOW) -> Modifier:
    """Set one condition, of the object's generation; conditions stay sorted."""

    def modify(obj: Object) -> None:
        had = obj.setdefault("status", {}).setdefault("conditions", [])
        new = {"type": kind, "status": status, "reason": reason, "message": message}
        new |= {"lastTransitionTime": text(since), "observedGeneration": obj["metadata"]["generation"]}
        kept = [one for one in had if one["type"] != kind]
        obj["status"]["conditions"] = sorted([*kept, new], key=lambda one: one["type"])

    return modify


def without(kind: str) -> Modifier:
    """Remove one condition."""

    def modify(obj: Object) -> None:
        obj["status"]["conditions"] = [one for one in obj["status"]["conditions"] if one["type"] != kind]

    return modify


def status(*modifiers: Modifier) -> BindingStatus:
    """A reconciled binding's status, parsed."""
    return parse_binding_status(ready_binding(*modifiers)["status"])


def agent_status(**fields: Any) -> AgentStatus:
    """What is recorded of the agent: adopted, on the digest ``d1``, without a trigger on its template."""
    base: Object = {"uid": "u-receptionist", "trigger": "", "digest": "d1"}
    return AgentStatus(**({"kind": "Deployment", "name": "receptionist"} | base | fields))
