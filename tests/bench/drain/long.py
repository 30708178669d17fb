"""One drain with a call of many minutes: the hook of a real kubelet held far longer than any default waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.bench.drain import results
from tests.bench.drain.records import read
from tests.bench.drain.rotations import rotate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.drain.arms import Arm
    from tests.bench.drain.load import LoadProcess
    from tests.bench.drain.world import World

BEGIN_SECONDS = 10.0


def long_drain(world: World, load: LoadProcess, arm: Arm, minutes: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Change the key while a SIP call and a stream of so many minutes are live, among the usual load."""
    say(f"one drain of {minutes:g} min")
    load.place_on(arm.app)
    load.place_long(60 * minutes)
    time.sleep(BEGIN_SECONDS)
    before = len(world.journal.all(arm.name, "sigterm"))
    refused = _refused(world, arm)
    rotation = rotate(world, arm, 60 * minutes)
    time.sleep(BEGIN_SECONDS)
    calls = [call for call in read(load.settings.book)[0] if call.long]
    ended = world.journal.all(arm.name, "sigterm")[before:]
    return {
        "minutes": minutes,
        "rotation_seconds": round(rotation.seconds, 1),
        "calls": [
            {
                "kind": call.kind,
                "outcome": call.outcome,
                "seconds": round(call.ended - call.began, 1),
                "seconds_after_key_change": round(call.ended - rotation.began, 1),
                "frames_to_caller": call.frames,
                "frames_lost": call.lost,
                "max_audio_gap_ms": call.gap_ms,
            }
            for call in calls
        ],
        "auth_failures_on_live_calls": _refused(world, arm) - refused,
        "longest_drain_seconds": max(round(each.details["sigterm"] - each.details["drain_began"], 1) for each in ended),
        **results.of_drains(ended),
    }


def _refused(world: World, arm: Arm) -> int:
    return int(world.provider.counts().get(arm.name, {}).get("refused", 0))
