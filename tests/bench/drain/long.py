"""One drain with a call of many minutes: the hook of a real kubelet held far longer than any default waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.bench.drain import results
from tests.bench.drain.records import read
from tests.bench.drain.rotations import rotate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.drain.arms import Arm
    from tests.bench.drain.load import LoadProcess
    from tests.bench.drain.records import Call
    from tests.bench.drain.world import World

BEGIN_SECONDS = 10.0


def long_drain(world: World, load: LoadProcess, arm: Arm, minutes: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Change the key while a SIP call and a stream of so many minutes are live, among the usual load."""
    say(f"one drain of {minutes:g} min")
    load.place_on(arm.app)
    load.place_long(60 * minutes)
    time.sleep(BEGIN_SECONDS)
    before, refused = len(world.journal.all(arm.name, "sigterm")), _refused(world, arm)
    rotation = rotate(world, arm, 60 * minutes)
    say("waiting for the last calls …")
    own = load.stop()
    calls, _ = read(load.settings.book)
    ended = world.journal.all(arm.name, "sigterm")[before:]
    usual = results.of_calls([call for call in calls if not call.long], [rotation])
    return {
        "minutes": minutes,
        "rotation_seconds": round(rotation.seconds, 1),
        "calls": _told([call for call in calls if call.long], rotation.began),
        "other_calls": {name: usual[name] for name in ("calls_started", "completed", "dropped", "unplaced")},
        "auth_failures_on_live_calls": _refused(world, arm) - refused,
        "drain_seconds": results.percentiles([one.details["sigterm"] - one.details["drain_began"] for one in ended]),
        **results.of_drains(ended),
        **own,
    }


def _told(calls: Sequence[Call], changed: float) -> dict[str, dict[str, Any]]:
    return {
        call.kind: {
            "outcome": call.outcome,
            "why": call.why,
            "seconds": round(call.ended - call.began, 1),
            "seconds_after_key_change": round(call.ended - changed, 1),
            "frames_to_caller": call.frames,
            "frames_lost": call.lost,
            "max_audio_gap_ms": call.gap_ms,
        }
        for call in calls
    }


def _refused(world: World, arm: Arm) -> int:
    return int(world.provider.counts().get(arm.name, {}).get("refused", 0))
