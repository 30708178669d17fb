"""How far an old pod has come: at which points it is worth a look whether its hook has failed."""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.model.workload import Pod

SOON = timedelta(seconds=3)
"""So long after a pod's deletion a hook that cannot run has failed, and its event been written."""


class Point(IntEnum):
    """In the order in which a pod comes to them; at each but the first it is looked at once."""

    SERVES = 0
    DRAINS = 1
    ENDED = 2


class At(NamedTuple):
    """Where a pod is.

    Args:
        point: how far it has come.
        next_in: when it comes to the next point by time alone; None where something has to happen to it.
    """

    point: Point
    next_in: timedelta | None = None


def at(pod: Pod | None, now: datetime) -> At:
    """Say how far a pod has come.

    Args:
        pod: as it is; None for one that is gone, seen to end or not.
        now: wall time. It may be another than the API server's: nobody is told to wait longer than `SOON`.
    """
    if pod is None or pod.ended:
        return At(Point.ENDED)
    if pod.deadline is None:
        return At(Point.SERVES)
    deleted = pod.deadline - timedelta(seconds=pod.grace_seconds)
    left = SOON - (now - deleted)
    return At(Point.SERVES, min(left, SOON)) if left > timedelta() else At(Point.DRAINS)
