"""How many workers each namespace has, and whether it may have one more: one tenant's slow webhook is not everyone's.

A namespace has at most `SHARE` workers while keys of a namespace that has fewer wait. When none does, it may have all
of them, so that a rush is worked off as fast as it can be; but not if its keys take long in a cluster of several
namespaces: whoever came next would wait until one of them ended (10 s by default for an admission webhook that hangs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicekeys.model.identity import Name

SHARE = 4
"""Workers of one namespace: a quarter, so that three that hang leave as many again for all others."""
SLOW_SECONDS = 2.0
"""A reconcile is some calls of tens of milliseconds; what takes longer waits for somebody."""
SLOW_FOR_SECONDS = 60.0
"""So long a namespace counts as slow after its last slow key: the longest backoff of the engine."""


class Shares:
    """Counts. Stores have no namespace and no share: there are few of them, and all wait for them."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Name, float]] = {}
        self._slow_until: dict[str, float] = {}
        self._first = ""
        self._several = False

    def saw(self, key: Name) -> None:
        """Take note of a key that is asked for, whether or not anyone works on it yet."""
        if not self._several and key.namespace:
            self._first = self._first or key.namespace
            self._several = key.namespace != self._first

    def take(self, key: Name, now: float) -> bool:
        """Count a worker that takes a key at ``now`` (monotonic seconds); True if that makes its share full."""
        held = self._held.setdefault(key.namespace, {})
        held[key] = now
        return bool(key.namespace) and len(held) == SHARE

    def give_back(self, key: Name, now: float) -> bool:
        """Count a worker that is done with a key; True if its namespace's share was full and is no longer."""
        held = self._held.get(key.namespace, {})
        since = held.pop(key, now)
        if now - since > SLOW_SECONDS:
            self._slow_until[key.namespace] = now + SLOW_FOR_SECONDS
        elif self._slow_until.get(key.namespace, now) < now:
            del self._slow_until[key.namespace]
        if not held:
            self._held.pop(key.namespace, None)
        return bool(key.namespace) and len(held) == SHARE - 1

    def is_full(self, namespace: str) -> bool:
        """Whether a namespace has its share."""
        return bool(namespace) and len(self._held.get(namespace, ())) >= SHARE

    def full(self, now: float) -> list[str]:
        """The namespaces that have their share and may have more, as long as nobody waits who has less.

        Whoever has least comes first. There are never more than workers / `SHARE` of them.
        """
        full = [one for one, held in self._held.items() if one and len(held) >= SHARE]
        if self._several:
            full = [one for one in full if not self._is_slow(one, now)]
        return sorted(full, key=lambda one: len(self._held[one]))

    def _is_slow(self, namespace: str, now: float) -> bool:
        oldest = next(iter(self._held[namespace].values()))
        return now - oldest > SLOW_SECONDS or self._slow_until.get(namespace, now) > now
