"""Whether single failures mean that the store is down: nobody speaks for it who may be at fault alone.

A path can fail as if Vault were down while Vault is well: a proxy's rule, a quota of one namespace, a path that Vault
chokes on. Whoever may write bindings can make many such. So the store is down only

- when a source that Vault has answered before fails, after one of another namespace did and nothing was answered in
  between (of the same namespace, where no other has such a source); the second one is asked for this at once;
- or when there is no such source that has not failed: after a start in an outage, or with one source.

While it is down, sources that were good are asked first, and namespaces take turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicekeys.reconcilers.source import Worth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicekeys.model.identity import SourceId
    from voicekeys.reconcilers.source import Source


class Witnesses:
    """Of one store.

    Args:
        sources: the store's, as they are at any time.
    """

    def __init__(self, sources: Mapping[SourceId, Source]) -> None:
        self._sources = sources
        self._failed: dict[SourceId, Source] = {}
        self._called: Source | None = None
        self._asked: dict[str, int] = {}
        self._count = 0
        self.since = 0.0

    def answered(self, by: Source) -> None:
        """Take an answer of Vault: whoever else failed since the one before it did so alone."""
        for source in self._failed.values():
            if source is not by:
                source.alone += 1
        by.heard, by.unasked, by.alone = True, False, 0
        self._failed.clear()
        self._called = None

    def says_down(self, source: Source, now: float) -> bool:
        """Take a read that failed as if the store were down; whether that settles it. See `witness` where not.

        Args:
            source: whose read it was.
            now: monotonic seconds.
        """
        if not self._failed:
            self.since = now
        before = {one.namespace for one in self._failed.values() if one is not source}
        source.unasked = False
        believed = source.worth <= Worth.HEARD
        self._failed[source.id] = source
        self._note(source)  # others come before it as probes
        if self._called is source:
            self._called = None
        other = self._best_left()
        if other is None:
            return True
        if not (before and believed):
            return False
        nobody_elsewhere = other.namespace in {*before, source.namespace}
        return nobody_elsewhere or bool(before - {source.namespace})

    def witness(self) -> Source | None:
        """The source to read at once because another failed; None while one that was named before is being read."""
        called = self._called
        if called is not None and called.id in self._sources and (called.reading or called.at_once):
            return None
        self._called = self._best_left()
        self._note(self._called)
        return self._called

    def _best_left(self) -> Source | None:
        """The most telling source that has not failed since the last answer, of another namespace if there is one."""
        failed = {one.namespace for one in self._failed.values()}
        left = (one for one in self._sources.values() if one.id not in self._failed and one.worth <= Worth.HEARD)
        return min(left, key=lambda one: (one.namespace in failed, *self._order(one)), default=None)

    def probe(self, now: float) -> Source | None:
        """The source to try while the store is down; None where none can be tried now."""
        free = (one for one in self._sources.values() if not one.reading and not (one.unasked and one.due > now))
        found = min(free, key=self._order, default=None)
        self._note(found)
        return found

    def _order(self, source: Source) -> tuple[int, int, int]:
        return source.worth, self._asked.get(source.namespace, 0), source.asked

    def confirmed(self) -> None:
        """Take a probe that failed: the store is down indeed, and none of those who said so was wrong."""
        self._failed.clear()

    def _note(self, source: Source | None) -> None:
        if source is not None:
            self._count += 1
            if len(self._asked) > len(self._sources):  # some are of namespaces that are gone
                self._asked.clear()
            source.asked = self._asked[source.namespace] = self._count
