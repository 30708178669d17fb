"""One polled key: what is known of it, and how much its failures say about the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicekeys.model.errors import SourceError
    from voicekeys.model.identity import Name, SourceId
    from voicekeys.model.payload import KeyVersion


class Worth(IntEnum):
    """What a read of a source can tell of the store as a whole; lower is more."""

    GOOD = 0  # it gave its key before
    HEARD = 1  # Vault answered before, if only that there is no key
    NEW = 2  # nothing is known of it
    ALONE = 3  # it failed as if the store were down while others were answered: the fault is its own
    UNASKED = 4  # Vault was not even asked, for want of a credential


@dataclass(slots=True)
class Source:
    """One polled key: the last good version and, if the last read failed, why."""

    id: SourceId
    key: KeyVersion | None = None
    error: SourceError | None = None
    read_at: float = 0.0  # wall time, seconds since 1970, of the last successful read; 0: none yet
    due: float = 0.0  # monotonic seconds
    failures: int = 0
    alone: int = 0  # times in a row that it failed as if the whole store were down, while others were answered
    heard: bool = False  # Vault has answered a read of it
    unasked: bool = False  # its last read did not get as far as Vault
    reading: bool = False
    at_once: bool = False  # its next read was asked for by somebody, and does not wait for a turn
    urgent: bool = False  # its last read was one `at_once`
    has_turn: bool = False  # `due` is a turn that the read budget has given
    asked: int = 0  # when it last was a probe or witness: a number that grows
    subscribers: dict[Name, str] = field(default_factory=dict)  # binding to its environment

    @property
    def pending(self) -> bool:
        """No read has ended yet."""
        return self.key is None and self.error is None

    @property
    def namespace(self) -> str:
        """Whose it is; where the store lends its own login, that of the binding that asked first."""
        return self.id.identity.namespace or next((name.namespace for name in self.subscribers), "")

    @property
    def worth(self) -> Worth:
        """What its next read can tell of the store."""
        if self.unasked:
            return Worth.UNASKED
        if self.alone:
            return Worth.ALONE
        if not self.heard:
            return Worth.NEW
        return Worth.HEARD if self.key is None else Worth.GOOD
