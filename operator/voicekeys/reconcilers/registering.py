"""Whoever brings a key into memory tells the redactor of the logs: here, for every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicekeys.model.identity import Identity
    from voicekeys.model.payload import KeyVersion
    from voicekeys.reconcilers.ports import KeySource
    from voicekeys.telemetry.redaction import Redactor


class RegisteringSource:
    """A store's client that tells the redactor each value before anyone else sees it.

    Args:
        source: the client.
        redactor: of the logs.
    """

    def __init__(self, source: KeySource, redactor: Redactor) -> None:
        self._source = source
        self._redactor = redactor

    async def read(self, identity: Identity, path: str, version: int = 0) -> KeyVersion:
        """See ``KeySource.read``."""
        key = await self._source.read(identity, path, version)
        self._redactor.register(*(key.fields.reveal(name) for name in key.fields))
        return key

    async def close(self) -> None:
        """See ``KeySource.close``."""
        await self._source.close()
