"""What the load writes down: a line of JSON for each call that ended and for each change of an arm's pods."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    DROPPED = "dropped"  # it was live, and the agent's side was gone before the caller hung up
    UNPLACED = "unplaced"  # no pod took it, however often it was tried


@dataclass
class Call:
    """One call, as its caller saw it. Times are Unix times."""

    call: str
    arm: str
    kind: str  # sip | stream
    placed: float
    began: float = 0.0  # 0: never
    ended: float = 0.0
    outcome: Outcome = Outcome.COMPLETED
    why: str = ""
    retries: int = 0
    pod: str = ""
    frames: int = 0
    lost: int = 0
    gap_ms: float = 0.0
    long: bool = False

    def was_live(self, since: float, until: float) -> bool:
        """Whether it was live at some moment of a time."""
        return bool(self.began) and self.began <= until and self.ended >= since


@dataclass(frozen=True)
class Pods:
    """An arm's pods from a moment on."""

    arm: str
    at: float
    pods: int  # of any state but ended; those that drain are still there
    available: int  # ready, and not being deleted


class Book:
    """Where the load writes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: Call | Pods) -> None:
        """Write a line, at once."""
        self._file.write(json.dumps({"is": type(line).__name__, **asdict(line)}) + "\n")
        self._file.flush()


def read(file: Path) -> tuple[list[Call], list[Pods]]:
    """Read what is in the book by now."""
    calls: list[Call] = []
    pods: list[Pods] = []
    for text in file.read_text().splitlines(keepends=True):
        if not text.endswith("\n"):
            break  # it is being written
        line = json.loads(text)
        kind = line.pop("is")
        if kind == "Call":
            calls.append(Call(**line | {"outcome": Outcome(line["outcome"])}))
        else:
            pods.append(Pods(**line))
    return calls, pods
