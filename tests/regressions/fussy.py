"""Pods that do not start on a new key: an admission policy makes every pod with a trigger annotation unready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.reconcilers.world import World


def fussy(world: World) -> None:
    """Let no pod of this tenant that carries a trigger annotation ever get ready."""
    name = f"fussy-{world.namespace}"
    mark = 'Object{metadata: Object.metadata{annotations: {"lab.voicekeys.dev/ready": "never"}}}'
    selector = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    carries = (
        'has(object.metadata.annotations) && object.metadata.annotations.exists(a, a.startsWith("voicekeys.dev/"))'
    )
    spec: dict[str, Any] = {
        "matchConstraints": {"namespaceSelector": selector, "resourceRules": [rule]},
        "matchConditions": [{"name": "carries", "expression": carries}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mark}}],
    }
    api = {"apiVersion": "admissionregistration.k8s.io/v1"}
    world.lab.apply(
        [
            {**api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
            {
                **api,
                "kind": "MutatingAdmissionPolicyBinding",
                "metadata": {"name": name},
                "spec": {"policyName": name},
            },
        ]
    )


def calm(world: World) -> None:
    """Let new pods get ready again."""
    root = "/apis/admissionregistration.k8s.io/v1"
    for plural in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        world.lab.api("DELETE", f"{root}/{plural}/fussy-{world.namespace}")
