"""The leader's book: what every process of the pod has reported. Pure; `leader.py` feeds it.

Unknown is never zero. A count is *known* only when

- the first moments of a new leader are over, in which workers find it and report again (`gather`),
- every process that the last leader knew has reported again or is seen to be dead,
- no stream is lost whose process still lives,
- and, for the end of a drain, every report was made after its process had stopped taking calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from voicekeys.agent.ledger import Report, Tally, report_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the pool.

    Args:
        pid: its process id, 0 where that is not known.
        report: the last that it said.
    """

    pid: int
    report: Report


@dataclass(frozen=True, slots=True)
class View:
    """What the leader tells the others, so that one of them can lead after it.

    Args:
        members: the processes, by id.
        past: what processes that ended had counted.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    past: Tally = field(default_factory=Tally)

    def to_wire(self) -> dict[str, object]:
        """As JSON."""
        members = {name: [member.pid, member.report.to_wire()] for name, member in self.members.items()}
        return {"members": members, "past": Report(tally=self.past).to_wire()}


def view_from_wire(value: Mapping[str, object]) -> View:
    """Read what `View.to_wire` wrote. Raises TypeError for what it did not write."""
    members, past = value["members"], value["past"]
    if not isinstance(members, Mapping) or not isinstance(past, Mapping):
        raise TypeError("a view has members and a past")
    known = {name: Member(pid, report_from_wire(report)) for name, (pid, report) in members.items()}
    return View(known, report_from_wire(past).tally)


@dataclass(frozen=True, slots=True)
class Totals:
    """All processes together.

    Args:
        live: live calls by key version.
        oldest: when the oldest began (monotonic).
        leaked: live calls older than their cap.
        tally: counted since the pool started.
        processes: how many report.
        complete: whether every process is known.
    """

    live: Mapping[str, int]
    oldest: float | None
    leaked: int
    tally: Tally
    processes: int
    complete: bool

    @property
    def total(self) -> int:
        """Live calls."""
        return sum(self.live.values())


class Pool:
    """The processes of a pod, as their leader sees them.

    Args:
        view: what the last leader told; empty for the first one.
        gather_end: until when processes of an earlier leader may come (monotonic).
        is_alive: whether a process of that id still runs.
    """

    def __init__(self, view: View, gather_end: float, is_alive: Callable[[int], bool]) -> None:
        self._members: dict[str, Member] = {}
        self._lost = dict(view.members)
        self._past = view.past
        self._gather_end = gather_end
        self._is_alive = is_alive

    def report(self, name: str, pid: int, report: Report) -> None:
        """Take a report. A process that is lost and speaks again under its name was never gone."""
        self._lost.pop(name, None)
        self._members[name] = Member(pid, report)
        for other, member in list(self._lost.items()):
            if pid and member.pid == pid:
                # The process has another name now: it has replaced its program. What it was before is over.
                self._bury(other)

    def lose(self, name: str) -> None:
        """A stream broke. Its calls stay until its process is seen to be dead."""
        member = self._members.pop(name, None)
        if member is not None:
            self._lost[name] = member
            self.reap()

    def dismiss(self, name: str) -> None:
        """A process said goodbye."""
        member = self._members.pop(name, None)
        if member is not None:
            self._lost[name] = member
            self._bury(name)

    def reap(self) -> bool:
        """Bury the lost that are dead. Returns whether there still are any that are not."""
        for name, member in list(self._lost.items()):
            if not self._is_alive(member.pid):
                self._bury(name)
        return bool(self._lost)

    def _bury(self, name: str) -> None:
        report = self._lost.pop(name).report
        tally = report.tally
        unfinished = tally.started - tally.completed - tally.forced - tally.aborted
        self._past += replace(tally, aborted=tally.aborted + unfinished)

    def is_complete(self, now: float) -> bool:
        """Whether every process has told what it does."""
        return now >= self._gather_end and not self._lost

    def agrees(self, epoch: int) -> bool:
        """Whether every process has reported after it took over the decision of that epoch."""
        return all(member.report.epoch >= epoch for member in self._members.values())

    def totals(self, now: float) -> Totals:
        """Add up. The calls of lost processes count: they may be live."""
        everyone = [member.report for member in (*self._members.values(), *self._lost.values())]
        live: Counter[str] = Counter()
        tally = self._past
        for report in everyone:
            live.update(report.live)
            tally += report.tally
        begun = [report.oldest for report in everyone if report.oldest is not None]
        leaked = sum(report.leaked for report in everyone)
        return Totals(dict(live), min(begun, default=None), leaked, tally, len(self._members), self.is_complete(now))

    def view(self) -> View:
        """What the next leader must know."""
        return View({**self._lost, **self._members}, self._past)

    def __len__(self) -> int:
        return len(self._members)
