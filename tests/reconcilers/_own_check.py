"""The invariants of a binding's status, each with its number; stands in until `check.py` has them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_binding(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with the status of a binding, as sentences; empty when nothing is."""
    status, generation = raw.get("status", {}), raw["metadata"]["generation"]
    found = {one["type"]: one for one in status.get("conditions") or []}
    held = {kind: one["status"] for kind, one in found.items()}
    wrong = []
    if status.get("observedGeneration", -1) == -1:
        return ["1: a binding that nobody has seen has conditions"] if found else []
    if "Ready" not in found:
        wrong.append("2: Ready is missing")
    if held.get("Ready") == "True" and held.get("Stalled") == "True":
        wrong.append("3: Ready and Stalled are both True")
    if held.get("Ready") == "True" and held.get("Reconciling") == "True":
        wrong.append("4: Ready and Reconciling are both True")
    if held.get("Stalled") == "True" and held.get("Reconciling") == "True":
        wrong.append("5: Stalled and Reconciling are both True")
    if held.get("Ready") != "True" and "True" not in {held.get("Stalled"), held.get("Reconciling")}:
        wrong.append("6: not Ready, and nothing says why")
    if status["observedGeneration"] > generation:
        wrong.append("7: observedGeneration is ahead of generation")
    for one in found.values():
        if one.get("observedGeneration", 0) > status["observedGeneration"]:
            wrong.append(f"8: {one['type']} has seen more than the status")
        if not one["message"]:
            wrong.append(f"9: {one['type']} has no message")
    suspended = held.get("Suspended") == "True"
    if held.get("Ready") == "True" and not suspended:
        for kind in ("SecretSynced", "AgentsCurrent"):
            if held.get(kind, "True") != "True":
                wrong.append(f"10: Ready although {kind} is {held[kind]}")
    old = [pod for one in status.get("agents") or [] for pod in one.get("oldPods") or []]
    if old and held.get("CallsDrained") == "True":
        wrong.append("11: CallsDrained although pods on the old key are listed")
    return wrong
