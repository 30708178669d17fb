"""Every name that voicekeys writes into a cluster: group, kinds, labels, annotations, field managers.

One place, so that a reader of ``kubectl get -o yaml`` can find what a name means, and RBAC and admission policies can
be checked against it.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "voicekeys.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

BINDING_KIND: Final = "VoiceKeyBinding"
BINDING_PLURAL: Final = "voicekeybindings"
STORE_KIND: Final = "VoiceKeyStore"
STORE_PLURAL: Final = "voicekeystores"

FIELD_MANAGER: Final = "voicekeys"
"""Owner, by server-side apply, of our Secrets and statuses."""

# Labels of the Secrets that we make. The second one's value is the binding's name.
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "voicekeys"
BINDING_LABEL: Final = f"{GROUP}/binding"

# Annotations of the Secrets that we make: Vault's version and created time of the key, the keyed digest of the data.
KEY_VERSION_ANNOTATION: Final = f"{GROUP}/key-version"
KEY_CREATED_ANNOTATION: Final = f"{GROUP}/key-created"
DIGEST_ANNOTATION: Final = f"{GROUP}/digest"

ADOPT_LABEL: Final = f"{GROUP}/adopt"
"""Label by which the owner of a foreign Secret lets the named binding adopt it."""

# Annotations of a binding, each new value of which is acted on once: read Vault at once; restart pods without a drain
# hook, whatever calls they have; let one pod go, whatever calls it has; go on after a call was forced; the key in use
# has leaked, so that the next one goes out whatever calls that cuts.
SYNC_NOW_ANNOTATION: Final = f"{GROUP}/sync-now"
ARM_ANNOTATION: Final = f"{GROUP}/arm"
RELEASE_ANNOTATION: Final = f"{GROUP}/release"
APPROVE_ANNOTATION: Final = f"{GROUP}/approve"
LEAKED_ANNOTATION: Final = f"{GROUP}/leaked"
ORDER_ANNOTATIONS: Final = (
    SYNC_NOW_ANNOTATION,
    ARM_ANNOTATION,
    RELEASE_ANNOTATION,
    APPROVE_ANNOTATION,
    LEAKED_ANNOTATION,
)

DELETION_COST_ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' own: a ReplicaSet that shrinks deletes pods with a lower number first (facts K11)."""

# Annotations of armed pods: the drain mode; the binding whose hook it is; the grace period to reckon with.
ARMED_ANNOTATION: Final = f"{GROUP}/armed"
ARMED_BY_ANNOTATION: Final = f"{GROUP}/armed-by"
GRACE_ANNOTATION: Final = f"{GROUP}/grace-seconds"

# Annotations that keep the cluster autoscaler and Karpenter from evicting a pod that has calls (facts K20).
DO_NOT_EVICT: Final = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}

ARMING_POLICY: Final = f"{FIELD_MANAGER}-arm"
"""The MutatingAdmissionPolicy of deploy/components/arming."""

GAUGE_CONTAINER: Final = "voicekeys-gauge"
"""The sidecar of drain mode Gauge."""

# In the operator's own namespace.
LEADER_LABEL: Final = f"{GROUP}/leader"
FINGERPRINT_SECRET: Final = "voicekeys-fingerprint-key"
NOTIFY_SECRET: Final = "voicekeys-notify-key"

TRIGGER_PREFIX: Final = f"{GROUP}/key."
"""Start of the pod template annotations that carry a binding's digest."""

MAX_BINDING_NAME: Final = 59
"""Characters in a binding's name: with ``key.`` it fills the 63 that the name part of an annotation may have."""


def trigger_annotation(binding: str) -> str:
    """Return the pod template annotation whose change restarts the agents of ``binding`` (its metadata.name)."""
    return TRIGGER_PREFIX + binding


def trigger_field_manager(binding: str) -> str:
    """Return the field manager of ``binding`` on workloads.

    One per binding: two bindings of one workload that shared a manager would each drop the other's annotation at
    server-side apply.
    """
    return f"{FIELD_MANAGER}.{binding}"
