"""The key change as a table of transitions; its diagram is generated from here."""

from __future__ import annotations

from enum import StrEnum

from voicekeys.api.status import Phase


class Event(StrEnum):
    """What moves a key change on."""

    KEY_CHANGED = "the key in Vault changed"
    PATCHED = "every workload's template carries the new key"
    AVAILABLE = "new pods serve everywhere"
    ENDED = "every pod on the old key has ended"
    REFUSED = "new pods did not start in time"
    RESTORED = "the previous key is back everywhere"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.IDLE, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.STAGED, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.STAGED, Event.PATCHED): Phase.ROLLING,
    (Phase.STAGED, Event.REFUSED): Phase.ROLLING_BACK,
    (Phase.STAGED, Event.RESTORED): Phase.IDLE,
    (Phase.ROLLING, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.ROLLING, Event.AVAILABLE): Phase.DRAINING,
    (Phase.ROLLING, Event.REFUSED): Phase.ROLLING_BACK,
    (Phase.DRAINING, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.DRAINING, Event.ENDED): Phase.IDLE,
    (Phase.ROLLING_BACK, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.ROLLING_BACK, Event.RESTORED): Phase.IDLE,
}


def next_phase(phase: Phase, event: Event) -> Phase:
    """The phase after an event; an event that means nothing in a phase leaves it as it is."""
    return TRANSITIONS.get((phase, event), phase)
