"""What the benchmark must reach, and the table that is printed: the arms side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.bench.report import flat

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "voicekeys"
BASELINES = ("rollout_restart", "sleep_prestop")
ROTATIONS = 30
"""Of each arm, in a run that may say something about the drop rate: calls of one rotation are not independent."""
LIVE_CALLS = 3_000
LATENCY_MS = 250.0
HIDDEN = {"benchmark", "arms", "targets", "invalid"}


def invalid(results: dict[str, Any]) -> str | None:
    """Why a run says nothing: a way of changing keys that must cut calls has cut none. None when it is valid."""
    unhurt = [name for name in BASELINES if not results["arms"][name]["dropped"]] if "arms" in results else []
    if unhurt:
        return f"the load was no test: {' and '.join(unhurt)} dropped no call"
    return None


def judged(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target with the value and whether it is met; those of size only for runs of that size."""
    found: dict[str, dict[str, Any]] = {}

    def judge(name: str, bound: str, value: Any, met: Callable[[Any], bool]) -> None:
        found[name] = {"target": bound, "value": value, "met": value is not None and met(value)}

    if "arms" in results:
        ours = results["arms"][OURS]
        drained = results["replicas"] * results["rotations"]
        judge("dropped", "= 0", ours["dropped"], lambda it: it == 0)
        judge("unplaced", "= 0", ours["unplaced"], lambda it: it == 0)
        judge("auth_failures_on_live_calls", "= 0", ours["auth_failures_on_live_calls"], lambda it: it == 0)
        judge("min_available_ratio", "≥ 1", ours["min_available_ratio"], lambda it: it >= 1)
        judge("drain_latency_ms.p99", f"≤ {LATENCY_MS:g}", ours["drain_latency_ms"]["p99"], lambda it: it <= LATENCY_MS)
        judge("drain_latency_ms.samples", f"= {drained}", ours["drain_latency_ms"]["samples"], lambda it: it == drained)
        judge("rotations", f"= {results['rotations']}", ours["rotations"], lambda it: it == results["rotations"])
        judge("failures", "= 0", len(results["failures"]), lambda it: it == 0)
        if results["rotations"] >= ROTATIONS:
            live = ours["calls_live_during_rotations"]
            judge("calls_live_during_rotations", f"≥ {LIVE_CALLS}", live, lambda it: it >= LIVE_CALLS)
    if "long_drain" in results:
        long = results["long_drain"]
        held = [call for call in long["calls"].values() if call["outcome"] == "completed"]
        judge("long_drain.completed", "= 2", len(held), lambda it: it == 2)
        judge("long_drain.auth_failures_on_live_calls", "= 0", long["auth_failures_on_live_calls"], lambda it: it == 0)
        judge("long_drain.other_calls.dropped", "= 0", long["other_calls"]["dropped"], lambda it: it == 0)
    return found


def table(results: dict[str, Any]) -> str:
    """Write the table: a column for each arm, then what is of the whole run, then the targets."""
    lines = []
    if "arms" in results:
        arms = {name: dict(flat(_without_reasons(arm))) for name, arm in results["arms"].items()}
        lines.append(f"{'':36}" + "".join(f"{name:>18}" for name in arms))
        rows = next(iter(arms.values()))
        lines += [f"{key:36}" + "".join(f"{_shown(arm[key]):>18}" for arm in arms.values()) for key in rows]
        lines.append("")
    for key, value in flat({name: value for name, value in results.items() if name not in HIDDEN}):
        lines.append(f"{key:52}{_shown(value):>12}")
    lines.append("")
    for key, verdict in judged(results).items():
        reached = "reached" if verdict["met"] else "MISSED"
        lines.append(f"{key:44}{_shown(verdict['value']):>10}   {verdict['target']:<10} {reached}")
    if why := invalid(results):
        lines.append(f"\nINVALID: {why}")
    return "\n".join(lines)


def _without_reasons(arm: dict[str, Any]) -> dict[str, Any]:
    """The rows that every arm has."""
    return {name: value for name, value in arm.items() if name != "dropped_because"}


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else f"{value:,}"
