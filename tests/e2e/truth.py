"""What should be: told by those who act, asked at the end. It knows nothing of the operator's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FIELD = "api_key"


@dataclass
class Key:
    """One path in Vault: every value that was ever good there, and what a reader finds there now."""

    versions: list[dict[str, Any]] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)

    @property
    def good(self) -> list[str]:
        """Values that may ever have reached a Secret."""
        return [one[FIELD] for one in self.versions if is_good(one)]

    @property
    def now(self) -> str | None:
        """The value that must be in the Secret in the end; None where Vault has none that can be used."""
        latest = len(self.versions)
        if not latest or latest in self.deleted or not is_good(self.versions[-1]):
            return None
        value: str = self.versions[-1][FIELD]
        return value


def is_good(fields: dict[str, Any]) -> bool:
    """Whether a Secret can be made of it by a binding that wants the field `FIELD`."""
    return isinstance(fields.get(FIELD), str) and bool(fields[FIELD])


@dataclass
class Bound:
    """One binding as its owner wants it: which key, which Secret, which workloads. Without `alive` it was deleted."""

    name: str
    path: str
    agents: tuple[tuple[str, str], ...]
    alive: bool = False
    suspended: bool = False
    had: set[str] = field(default_factory=set)  # values that its Secret was seen with
    edited: set[str] = field(default_factory=set)  # values that somebody wrote into it by hand


@dataclass
class Workload:
    """One workload: what may make a new template of it, counted."""

    kind: str
    name: str
    bindings: tuple[str, ...]
    causes: int = 1
    paused: bool = False


@dataclass
class Truth:
    """All of one tenant."""

    keys: dict[str, Key] = field(default_factory=dict)
    bindings: dict[str, Bound] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    secrets_away: set[str] = field(default_factory=set)  # deleted by hand, and not seen since

    def changed(self, path: str) -> None:
        """A key's content is another one: each workload that reads it may restart once for it."""
        for bound in self.bindings.values():
            if bound.path == path:
                self.touched(bound.name)

    def touched(self, binding: str) -> None:
        """What a binding wants of its workloads is another thing."""
        for workload in self.workloads.values():
            if binding in workload.bindings:
                workload.causes += 1
