"""Kubernetes quantities (``500m``, ``1Gi``) and int-or-percent fields, as numbers."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation

_SUFFIXES = (
    {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}
    | {suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("kMGTPE", start=1)}
    | {f"{suffix}i": Decimal(2) ** (10 * power) for power, suffix in enumerate("KMGTPE", start=1)}
)


def parse_quantity(text: str | float) -> Decimal:
    """Parse a quantity (k8s.io/apimachinery ``resource.Quantity``); what cannot be parsed counts as 0.

    The API server has validated every quantity that it stores, so 0 is only for what a newer one may add.
    """
    written = str(text)
    for cut in (2, 1, 0):
        suffix = written[len(written) - cut :] if cut else ""
        if suffix in _SUFFIXES:
            try:
                number = Decimal(written[: len(written) - cut])
            except InvalidOperation:
                continue
            return number * _SUFFIXES[suffix] if number.is_finite() else Decimal(0)
    return Decimal(0)


def scaled(value: int | str, total: int, *, up: bool) -> int:
    """Resolve an int-or-percent field as the workload controllers do (``intstr.GetScaledValueFromIntOrPercent``).

    Args:
        value: ``1`` or ``"25%"``.
        total: what 100 % is.
        up: round up (maxSurge) or down (maxUnavailable).
    """
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * total / 100
    return math.ceil(exact) if up else math.floor(exact)
