"""Which keys are used in two environments: a leak in staging is then a leak in production."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.model.digest import Digester
    from voicekeys.model.identity import Name, SourceId
    from voicekeys.model.payload import Payload
    from voicekeys.reconcilers.source import Source

MIN_KEY_LENGTH = 16  # bytes; shorter values ("true", a region) are equal by chance
_SECRET_FIELD = re.compile(r"key|secret|token|auth|pass|cred", re.IGNORECASE)


class SharedKeys:
    """Finds values that several sources have in common, by keyed digest.

    Args:
        digester: makes the digests.
        find: a source by its id, None if it is gone.
    """

    def __init__(self, digester: Digester, find: Callable[[SourceId], Source | None]) -> None:
        self._digester = digester
        self._find = find
        self._by_value: dict[str, set[SourceId]] = {}
        self._of_source: dict[SourceId, tuple[str, ...]] = {}

    def update(self, source: Source) -> set[SourceId]:
        """Take in a source's key.

        Returns:
            The other sources that share a value with it now or did before.
        """
        touched = self._drop(source.id)
        if source.key is not None and source.subscribers:
            values = tuple(self._digester.of_value(value) for value in _key_values(source.key.fields))
            self._of_source[source.id] = values
            for value in values:
                holders = self._by_value.setdefault(value, set())
                touched |= holders
                holders.add(source.id)
        return touched - {source.id}

    def _drop(self, source_id: SourceId) -> set[SourceId]:
        touched: set[SourceId] = set()
        for value in self._of_source.pop(source_id, ()):
            holders = self._by_value.get(value, set())
            holders.discard(source_id)
            touched |= holders
            if not holders:
                self._by_value.pop(value, None)
        return touched

    def other(self, source_id: SourceId, environment: str) -> tuple[Name, str] | None:
        """A binding of another environment that uses the same key, with that environment; None if there is none."""
        holders = {source_id}
        for value in self._of_source.get(source_id, ()):
            holders |= self._by_value.get(value, set())
        found = []
        for holder in holders:
            source = self._find(holder)
            if source is not None and any(used != environment for used in set(source.subscribers.values())):
                found += [(name, used) for name, used in source.subscribers.items() if used != environment]
        return min(found) if found else None


def _key_values(fields: Payload) -> list[bytes]:
    """The values that are keys rather than settings: an account's number may well be the same everywhere."""
    values = [fields.reveal(name) for name in fields if len(fields) == 1 or _SECRET_FIELD.search(name)]
    return [value for value in values if len(value) >= MIN_KEY_LENGTH]
