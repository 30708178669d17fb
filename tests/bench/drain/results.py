"""From what was written down to the numbers of an arm; pure."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.bench.drain.records import Call, Outcome, Pods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.drain.rotations import Rotation
    from tests.nodes.witness import Event

RULE_OF_THREE = 3.0
"""Nothing in n: with 95 % certainty the rate is below 3/n."""


def of_calls(calls: Sequence[Call], rotations: Sequence[Rotation]) -> dict[str, Any]:
    """The numbers of an arm's calls. `calls_live_during_rotations` counts a call once, however long it lived."""
    outcomes = Counter(call.outcome for call in calls)
    live = [call for call in calls if any(call.was_live(each.began, each.ended) for each in rotations)]
    dropped = sum(call.outcome is Outcome.DROPPED for call in live)
    bound = round(RULE_OF_THREE / len(live), 6) if live and not dropped else None
    return {
        "calls_started": len(calls),
        "completed": outcomes[Outcome.COMPLETED],
        "dropped": outcomes[Outcome.DROPPED],
        "dropped_because": dict(
            Counter(f"{each.kind}: {each.why}" for each in calls if each.outcome is Outcome.DROPPED)
        ),
        "unplaced": outcomes[Outcome.UNPLACED],
        "refused_then_retried": sum(call.retries > 0 and call.outcome is not Outcome.UNPLACED for call in calls),
        "calls_live_during_rotations": len(live),
        "dropped_of_those": dropped,
        "drop_rate": round(dropped / len(live), 6) if live else None,
        "drop_rate_below_at_95_percent": bound,
        "by_kind": {kind: _of_kind([call for call in calls if call.kind == kind]) for kind in ("sip", "stream")},
    }


def _of_kind(calls: Sequence[Call]) -> dict[str, int]:
    return {
        "started": len(calls),
        "completed": sum(call.outcome is Outcome.COMPLETED for call in calls),
        "dropped": sum(call.outcome is Outcome.DROPPED for call in calls),
    }


def of_audio(calls: Sequence[Call], heard: Sequence[Event]) -> dict[str, Any]:
    """The longest silence, in both directions: as callers heard it, and as agents told at a call's end.

    A call that was cut is silent until its caller hangs up.
    """
    to_caller = [call.gap_ms for call in calls if call.frames]
    to_agent = [each.details["gap_ms"] for each in heard if each.details["frames"]]
    return {
        "max_audio_gap_ms": max([*to_caller, *to_agent], default=None),
        "audio_gap_ms": {"to_caller": percentiles(to_caller), "to_agent": percentiles(to_agent)},
        "frames": sum(call.frames for call in calls),
        "frames_lost": sum(call.lost for call in calls),
    }


def of_pods(pods: Sequence[Pods], rotations: Sequence[Rotation], replicas: int) -> dict[str, Any]:
    """The fewest available and the most that were there at once, during rotations, as shares of `replicas`."""
    seen = [each for rotation in rotations for each in _during(pods, rotation)]
    return {
        "min_available_ratio": round(min(each.available for each in seen) / replicas, 3) if seen else None,
        "peak_pods_ratio": round(max(each.pods for each in seen) / replicas, 3) if seen else None,
    }


def _during(pods: Sequence[Pods], rotation: Rotation) -> list[Pods]:
    """What was so at some moment of a rotation: the last change before it, and those within it."""
    before = [each for each in pods if each.at < rotation.began]
    return [*before[-1:], *(each for each in pods if rotation.began <= each.at <= rotation.ended)]


def of_drains(ends: Sequence[Event]) -> dict[str, Any]:
    """SIGTERM less max(last call's end, end of the settle window), of pods that drained; design §7."""
    drained = [each.details for each in ends if "settle_ended" in each.details]
    late = [1000 * (one["sigterm"] - max(one["last_end"], one["settle_ended"])) for one in drained]
    return {
        "drain_latency_ms": percentiles(late),
        "sigterm_with_live_calls": sum(bool(each.details["live"]) for each in ends),
        "pods_ended": len(ends),
    }


def of_rotations(rotations: Sequence[Rotation]) -> dict[str, Any]:
    """How many, and how long each took."""
    return {"rotations": len(rotations), "rotation_seconds": percentiles([each.seconds for each in rotations])}


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """Median, 99th percentile and largest; of few values the 99th percentile is the largest."""
    if not values:
        return {"p50": None, "p99": None, "max": None, "samples": 0}
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    shown = {"p50": statistics.median(ordered), "p99": p99, "max": ordered[-1]}
    return {**{name: round(value, 1) for name, value in shown.items()}, "samples": len(ordered)}
