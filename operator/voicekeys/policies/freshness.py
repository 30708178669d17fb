"""How old a key may become: the date by which it is to be changed, and whether that is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicekeys.model.verdict import Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.api.binding import Rotation

_HOW = "make a new one at the provider, put it into Vault"


def rotate_by(rotation: Rotation, created: datetime) -> datetime | None:
    """When a key must have been changed; None where the user sets no ``maxAge``."""
    return created + rotation.max_age if rotation.max_age else None


def staleness(rotation: Rotation, created: datetime, now: datetime) -> Verdict | None:
    """Say that a key is too old, or soon will be; None while it is fresh."""
    due = rotate_by(rotation, created)
    if due is None:
        return None
    day = f"{due:%Y-%m-%d}"
    if now >= due:
        return Verdict("KeyExpired", f"the key was to be changed by {day}: {_HOW}")
    if rotation.warn_before and now >= due - rotation.warn_before:
        return Verdict("KeyExpiresSoon", f"the key is to be changed by {day}: {_HOW}")
    return None


def next_look(rotation: Rotation, created: datetime, now: datetime) -> float | None:
    """Seconds until the answer of `staleness` changes; None when it will not."""
    due = rotate_by(rotation, created)
    if due is None:
        return None
    moments = [due] + ([due - rotation.warn_before] if rotation.warn_before else [])
    ahead = [(moment - now).total_seconds() for moment in moments if moment > now]
    return min(ahead) + 1 if ahead else None
