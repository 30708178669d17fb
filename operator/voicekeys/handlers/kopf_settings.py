"""How kopf is set: little memory for each object, no write of its own, no end after faults (facts §2)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

import kopf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random


def kopf_settings(random: Random) -> kopf.OperatorSettings:
    """Settings measured in facts §2: little memory per object, no write of kopf's own, no end after API faults."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.queueing.idle_timeout = 0.01  # for so long an object that was taken in stays in memory
    settings.watching.chunk_size = 100  # a page of a list is in memory several times over while it is taken in
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 320
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = Backoffs(random)
    settings.process.ultimate_exiting_timeout = None  # kopf may end without the process, which has a limit of its own
    return settings


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing of an object: kopf copies each one whole to find changes, which only its other handlers ask."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        """Give an empty essence."""
        del body, extra_fields
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Give None: nothing was stored."""
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing: an annotation would be a write for each object."""


class Backoffs:
    """Endless jittered pauses, from half a second to half a minute: kopf ends the process when its list runs out.

    Args:
        random: jitter.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def __iter__(self) -> Iterator[float]:
        for attempt in itertools.count():
            yield min(30.0, 0.5 * 2.0 ** min(attempt, 10)) * self._random.uniform(0.5, 1)
