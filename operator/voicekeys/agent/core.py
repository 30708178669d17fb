"""What one process of a pool is made of, for those who work on its loop: `leader.py`, `follower.py`, `runtime.py`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from voicekeys.agent.server import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.agent.ledger import Ledger

logger = logging.getLogger("voicekeys.agent")
"""The library's log: counts and names of errors, never a value and never a call's id."""


class VersionedKey(Protocol):
    """What the server needs of a `Key`."""

    @property
    def version(self) -> str:
        """Which version new calls take."""

    def reload(self) -> bool:
        """Read again; whether the key is another one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a process serves the contract.

    Args:
        port: of the drain server; 0 takes any free one, which no other process can find.
        host: address to listen on; empty for all.
        token: the workload's token; None lets everybody start a drain, which ``/calls`` tells.
        settle: seconds of a drain in which late calls are still taken.
        grace: seconds from a drain's start until the kubelet kills; None when not known.
        key: the key that calls use, for ``/calls`` and ``/reload``.
        on_reload: called on ``/reload``, after the key was read again, in a thread of its own.
        join: seconds to become a leader or a follower in.
        gather: seconds that a new leader waits for others before it takes a count as known.
        limits: of the server.
    """

    port: int = 9909
    host: str = ""
    token: str | None = field(default=None, repr=False)
    settle: float = 5.0
    grace: float | None = None
    key: VersionedKey | None = field(default=None, repr=False)
    on_reload: Callable[[], object] | None = None
    join: float = 5.0
    gather: float = 2.0
    limits: Limits = field(default_factory=Limits)

    @property
    def can_reload(self) -> bool:
        """Whether there is anything that ``/reload`` would do."""
        return self.key is not None or self.on_reload is not None

    def reload(self) -> None:
        """Do it. Raises what `on_reload` raises, OSError for a key that cannot be read."""
        if self.key is not None:
            self.key.reload()
        if self.on_reload is not None:
            self.on_reload()


@dataclass(frozen=True, slots=True)
class Core:
    """One process.

    Args:
        name: its name in the pool, a new one for each process.
        ledger: its calls.
        settings: how it serves.
        now: the monotonic clock.
        step: looks at everything again, soon; may be called from any thread and from signal handlers.
    """

    name: str
    ledger: Ledger
    settings: Settings
    now: Callable[[], float]
    step: Callable[[], None]
