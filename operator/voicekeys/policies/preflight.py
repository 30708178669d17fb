"""Before a workload is restarted: what must hold, what a user should know. Guards the workload, never the Secret."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any

from voicekeys.model.verdict import Verdict
from voicekeys.policies.quantity import scaled
from voicekeys.policies.quota import shortage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from voicekeys.model.payload import Payload
    from voicekeys.model.workload import Workload

_KEY_SHAPES = re.compile(
    r"SK[0-9a-f]{32}"  # Twilio API key
    r"|API[A-Za-z0-9]{12,}"  # LiveKit API key
    r"|sk[-_][A-Za-z0-9_-]{20,}"  # OpenAI, ElevenLabs, Stripe-like
    r"|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}"  # Twilio auth token, Deepgram, hex keys in general
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"  # a JWT
)
_SECRET_NAME = re.compile(r"(API_?KEY|SECRET|TOKEN|AUTH|PASSWORD|CREDENTIAL)", re.IGNORECASE)
_MIN_LITERAL = 8  # a shorter key value would match by chance


def block(
    workload: Workload,
    secret: str,
    quotas: Sequence[Mapping[str, Any]] | None,
    extra: int = 0,
    *,
    drains: bool = False,
) -> Verdict | None:
    """Say why a workload must not be restarted now; None when nothing stands in the way.

    Args:
        workload: the agents' workload.
        secret: the Secret's name.
        quotas: the ResourceQuotas of the namespace; None where they are no question, as on the way back: the pods of
            before are there, and those of the refused key make room.
        extra: pods that an unfinished restart has made already, and whose room the next ones take.
        drains: its pods finish their calls before they end.
    """
    amiss = secret_not_used(workload, secret) or _not_rolling_update(workload)
    return amiss or (_quota_exceeded(workload, quotas, extra, drains=drains) if quotas is not None else None)


def _containers(pod_spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from pod_spec.get("initContainers") or []
    yield from pod_spec.get("containers") or []


def uses_secret(pod_spec: Mapping[str, Any], secret: str) -> bool:
    """Whether a pod reads a Secret: by ``env``, ``envFrom``, a ``secret`` volume or a ``projected`` one."""
    for container in _containers(pod_spec):
        sources = [entry.get("valueFrom", {}).get("secretKeyRef", {}) for entry in container.get("env") or []]
        sources += [entry.get("secretRef", {}) for entry in container.get("envFrom") or []]
        if any(source.get("name") == secret for source in sources):
            return True
    for volume in pod_spec.get("volumes") or []:
        if (volume.get("secret") or {}).get("secretName") == secret:
            return True
        projected = (volume.get("projected") or {}).get("sources") or []
        if any((source.get("secret") or {}).get("name") == secret for source in projected):
            return True
    return False


def secret_not_used(workload: Workload, secret: str) -> Verdict | None:
    """Say that a workload does not read the Secret, so that a restart would change nothing for it."""
    if uses_secret(workload.pod_spec, secret):
        return None
    return Verdict(
        "SecretNotUsed",
        f"{workload.id} does not read Secret {secret} by env, envFrom or a volume, so a restart would bring it no new "
        "key: add a secretKeyRef to its pod template, or take it out of spec.agents",
    )


def _not_rolling_update(workload: Workload) -> Verdict | None:
    if workload.id.kind != "Deployment" or workload.strategy["type"] == "RollingUpdate":
        return None
    return Verdict(
        "NotRollingUpdate",
        f"{workload.id} has strategy {workload.strategy['type']}, which ends every pod before the first new one "
        "starts: set spec.strategy.type to RollingUpdate, with maxUnavailable 0 and maxSurge 1",
    )


def surge(workload: Workload) -> tuple[int, int]:
    """Pods that a rollout may have beyond, and may lack of, the wanted ones: ``(max_surge, max_unavailable)``."""
    kind, strategy = workload.id.kind, workload.strategy
    if kind == "Deployment" and strategy["type"] == "Recreate":
        return 0, workload.replicas
    if kind == "StatefulSet" or strategy["type"] != "RollingUpdate":
        return 0, 1
    defaults = {"Deployment": ("25%", "25%"), "DaemonSet": (0, 1)}[kind]
    more = scaled(strategy.get("maxSurge", defaults[0]), workload.replicas, up=True)
    # A Deployment rounds maxUnavailable down, a DaemonSet up (pkg/controller: deployment and daemon util).
    less = scaled(strategy.get("maxUnavailable", defaults[1]), workload.replicas, up=kind == "DaemonSet")
    return more, less if more or less else 1


def capacity_at_risk(workload: Workload) -> Verdict | None:
    """Say what a restart takes away from those who call meanwhile; the restart goes on all the same."""
    kind = workload.id.kind
    if workload.strategy["type"] == "OnDelete":
        return Verdict(
            "OnDelete",
            f"{workload.id} has updateStrategy OnDelete, so its pods count as on the old key until they were replaced: "
            "delete them one by one after each change of the key, or set updateStrategy to RollingUpdate",
        )
    if kind == "StatefulSet":
        return Verdict(
            "NoSurge",
            f"{workload.id}: a StatefulSet ends a pod before its successor starts, so capacity is short by one pod "
            "for as long as its last call takes: add a replica to spare, or use a Deployment with maxSurge",
        )
    more, less = surge(workload)
    if more >= 1 and less == 0:
        return None
    field = "spec.strategy" if kind == "Deployment" else "spec.updateStrategy"
    return Verdict(
        "UnavailableDuringRollout",
        f"{workload.id} may lack {less} of its {workload.replicas} pods while it restarts: set "
        f"{field}.rollingUpdate to maxUnavailable 0 and maxSurge 1 (or more)",
    )


def grace_too_short(workload: Workload, longest_call: timedelta | None) -> Verdict | None:
    """Say that the kubelet would kill a pod before its longest promised call ends."""
    if longest_call is None or workload.grace_seconds >= longest_call.total_seconds():
        return None
    wanted = int(longest_call.total_seconds()) + 45  # settle and teardown, design §4
    return Verdict(
        "GraceTooShort",
        f"{workload.id} is killed {workload.grace_seconds} s after its end was asked for, but drain.maxCallDuration "
        f"promises calls of {int(longest_call.total_seconds())} s: set terminationGracePeriodSeconds to {wanted}",
    )


def literal_key(workload: Workload, key: Payload | None) -> Verdict | None:
    """Say that a container's ``env`` holds a key as plain text; the value is compared, never shown."""
    values = [key.reveal(name) for name in key] if key else []
    for container in _containers(workload.pod_spec):
        for entry in container.get("env") or []:
            if _is_literal_key(entry.get("name", ""), entry.get("value") or "", values):
                return Verdict(
                    "LiteralKeyInManifest",
                    f"{workload.id}, container {container['name']}: env {entry['name']} holds what is or looks like a "
                    "key as plain text, readable to whoever reads the manifest and out of reach of any rotation: use "
                    "valueFrom.secretKeyRef, and change that key at its provider",
                )
    return None


def _is_literal_key(name: str, value: str, keys: Sequence[bytes]) -> bool:
    raw = value.encode()
    if any(len(key) >= _MIN_LITERAL and hmac.compare_digest(raw, key) for key in keys):
        return True
    return bool(_SECRET_NAME.search(name) and _KEY_SHAPES.fullmatch(value))


def most_extra(workload: Workload, *, drains: bool) -> int:
    """How many pods a restart may have beside those that are there when it begins.

    A controller does not count pods that are being deleted against its surge. So where they finish calls, all new pods
    may run while every old one is still there, and its room is taken (facts K10); unless a new pod waits for the
    old one's end, as a StatefulSet's does (K23), and a DaemonSet's without a surge.
    """
    more, _ = surge(workload)
    return workload.replicas if drains and (more or workload.id.kind == "Deployment") else more


def _quota_exceeded(
    workload: Workload, quotas: Sequence[Mapping[str, Any]], there: int, *, drains: bool
) -> Verdict | None:
    """A rollout whose extra pods no quota admits would hang until its timeout: better not to begin."""
    extra = max(0, most_extra(workload, drains=drains) - there)
    short = shortage(workload.pod_spec, extra, quotas) if extra else None
    if short is None:
        return None
    why = ", for every old pod may still have a call when all new ones run" if drains else ""
    otherwise = "let calls end, or ask for fewer replicas" if drains else "lower maxSurge"
    need, free, hard, enough = (
        f"{amount.normalize():f}" for amount in (short.need, short.free, short.hard, short.enough)
    )
    return Verdict(
        "QuotaExceeded",
        f"{workload.id} needs room for {extra} more pod(s) while it restarts{why}: that is {need} of {short.resource}, "
        f"but ResourceQuota {short.quota} has only {free} of {hard} left: raise it to {enough}, or {otherwise}",
    )
