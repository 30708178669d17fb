"""What one more pod takes from a ResourceQuota, and whether it is left: the arithmetic of schedulers and quotas."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from voicekeys.policies.quantity import parse_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Amounts = Mapping[str, Decimal]

_NONE = Decimal(0)


class Shortage(NamedTuple):
    """A quota that has no room: its name, the resource, what is left of it, what is needed, what there is in all."""

    quota: str
    resource: str
    free: Decimal
    need: Decimal
    hard: Decimal

    @property
    def enough(self) -> Decimal:
        """What the quota would have to be."""
        return self.hard - self.free + self.need


def shortage(pod_spec: Mapping[str, Any], pods: int, quotas: Sequence[Mapping[str, Any]]) -> Shortage | None:
    """Say which quota has no room for some more pods; None when all have.

    Args:
        pod_spec: of each of them.
        pods: how many.
        quotas: the ResourceQuotas of the namespace.
    """
    needs = {resource: amount * pods for resource, amount in pod_needs(pod_spec).items()}
    for quota in quotas:
        # A scoped quota counts only some pods; whether ours are among them is for the quota controller to say.
        if quota.get("spec", {}).get("scopes") or quota.get("spec", {}).get("scopeSelector"):
            continue
        used = quota.get("status", {}).get("used", {})
        for resource, hard in quota.get("status", {}).get("hard", {}).items():
            whole = parse_quantity(hard)
            free = whole - parse_quantity(used.get(resource, 0))
            # As at admission: a quota that is overdrawn already, on what a pod does not need, refuses no pod.
            need = needs.get(resource, _NONE)
            if need and need > free:
                return Shortage(quota["metadata"]["name"], resource, free, need, whole)
    return None


def pod_needs(pod_spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """What one pod counts against each resource that a quota may name."""
    needs = {"pods": Decimal(1), "count/pods": Decimal(1)}
    # A request that is not written is the limit.
    for name, amount in _pod_total(pod_spec, "limits", "requests").items():
        needs[f"requests.{name}"] = needs[name] = amount
    return needs | {f"limits.{name}": amount for name, amount in _pod_total(pod_spec, "limits").items()}


def _pod_total(pod_spec: Mapping[str, Any], *fields: str) -> Amounts:
    """One pod's sum (k8s.io/component-helpers ``resource.PodRequests`` and ``PodLimits``).

    Containers and native sidecars add up. An init container runs before them, beside the sidecars that started
    earlier: the larger of the two sums counts. The pod's overhead comes on top.
    """
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in pod_spec.get("initContainers") or []:
        amounts = _sum(sidecars, _of(container, fields))
        if container.get("restartPolicy") == "Always":
            sidecars = amounts
        starting = _largest(starting, amounts)
    running = _sum(sidecars, *(_of(container, fields) for container in pod_spec.get("containers") or []))
    return _sum(_largest(running, starting), _parsed(pod_spec.get("overhead") or {}))


def _of(container: Mapping[str, Any], fields: Sequence[str]) -> Amounts:
    """One container's amounts; a later field wins over an earlier one."""
    resources = container.get("resources") or {}
    return _parsed({name: amount for field in fields for name, amount in (resources.get(field) or {}).items()})


def _parsed(amounts: Mapping[str, Any]) -> Amounts:
    return {name: parse_quantity(amount) for name, amount in amounts.items()}


def _sum(*many: Amounts) -> Amounts:
    return {name: sum((one.get(name, _NONE) for one in many), _NONE) for one in many for name in one}


def _largest(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, _NONE), other.get(name, _NONE)) for name in (*one, *other)}
