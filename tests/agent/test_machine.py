"""Processes, their streams and a drain, in every order: a drain never answers while a call is live anywhere.

The model holds what really is (calls, processes that live); the real ledgers, the real book and the real decisions run
on messages that take as long as hypothesis likes. In production `leader.py` and `follower.py` move the messages.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.agent.test_ledger import Clock, Entry
from voicekeys.agent.drain import Drain, begun, closed, cordoned, from_wire, may_answer, released
from voicekeys.agent.errors import Refused
from voicekeys.agent.ledger import Ledger, report_from_wire
from voicekeys.agent.pool import Pool, View

SETTLE = 5.0
indexes = st.integers(0, 3)


@dataclass
class Process:
    """One process; `inbox` holds the leader's messages to it, `outbox` its reports."""

    name: str
    pid: int
    ledger: Ledger
    inbox: deque[dict[str, object]] = field(default_factory=deque)
    outbox: deque[dict[str, object]] = field(default_factory=deque)
    calls: list[tuple[Entry, int]] = field(default_factory=list)
    is_alive: bool = True
    is_joined: bool = False

    def report(self) -> None:
        self.outbox.append(self.ledger.report().to_wire())


class Drains(RuleBasedStateMachine):
    """A leader, which is process 0, and up to three others; a leader that dies is followed by the next process."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.processes: list[Process] = []
        self.answered = False
        for _ in range(3):
            self.add()
        self.lead(self.processes[0], View())

    def add(self) -> Process:
        number = len(self.processes) + 1
        self.processes.append(Process(f"p{number}", number, Ledger(self.clock)))
        return self.processes[-1]

    def lead(self, process: Process, view: View) -> None:
        self.leader = process
        process.is_joined = True
        self.gather_end = self.clock.now + 2.0
        others = View({name: member for name, member in view.members.items() if name != process.name}, view.past)
        self.pool = Pool(others, self.gather_end, lambda pid: self.processes[pid - 1].is_alive)
        self.step()

    def step(self) -> None:
        """What the leader does each time."""
        now = self.clock.now
        if self.leader.ledger.pool.is_due_to_close(now):
            self.decide("closed")
        self.pool.report(self.leader.name, self.leader.pid, self.leader.ledger.report())
        self.pool.reap()

    def decide(self, what: str) -> None:
        now = self.clock.now
        changes = {
            "begun": lambda drain: begun(drain, now, SETTLE, None),
            "closed": lambda drain: closed(drain, now),
            "released": lambda drain: released(drain, now),
            "cordoned": lambda drain: cordoned(drain, now, wanted=True),
            "uncordoned": lambda drain: cordoned(drain, now, wanted=False),
        }
        self.tell(self.leader.ledger.decide(changes[what]))

    def tell(self, drain: Drain) -> None:
        for process in self.others():
            if process.is_joined:
                process.inbox.append(drain.to_wire())

    def others(self) -> list[Process]:
        return [process for process in self.processes if process.is_alive and process is not self.leader]

    def living(self, index: int) -> Process:
        alive = [process for process in self.processes if process.is_alive]
        return alive[index % len(alive)]

    @rule(index=indexes)
    def a_call_begins(self, index: int) -> None:
        process = self.living(index)
        if process.is_joined:  # serve() has not returned before
            entry = Entry()
            with suppress(Refused):
                process.calls.append((entry, process.ledger.enter(entry)))
                process.report()

    @rule(index=indexes)
    def a_call_ends(self, index: int) -> None:
        process = self.living(index)
        if process.calls:
            process.ledger.leave(*process.calls.pop())
            process.report()

    @rule(index=indexes)
    def a_process_joins(self, index: int) -> None:
        process = self.living(index)
        if not process.is_joined:
            self.pool.report(process.name, process.pid, process.ledger.report())
            self.leader.ledger.learn(process.ledger.pool)
            process.ledger.learn(self.leader.ledger.pool)
            process.is_joined = True
            self.tell(self.leader.ledger.pool)

    @rule(index=indexes)
    def the_leader_is_heard(self, index: int) -> None:
        process = self.living(index)
        if process.inbox:
            process.ledger.learn(from_wire(process.inbox.popleft()))
            process.report()

    @rule(index=indexes)
    def a_report_arrives(self, index: int) -> None:
        process = self.living(index)
        if process.outbox and process is not self.leader:
            self.pool.report(process.name, process.pid, report_from_wire(process.outbox.popleft()))
        self.step()

    @rule(seconds=st.sampled_from([0.1, 2.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(what=st.sampled_from(["begun", "begun", "begun", "cordoned", "uncordoned"]))
    def it_is_decided(self, what: str) -> None:
        if what != "uncordoned" or self.leader.ledger.pool.started is None:
            self.decide(what)

    @precondition(lambda self: self.leader.ledger.pool.started is not None)
    @rule(sure=st.integers(0, 9))
    def it_is_released(self, sure: int) -> None:
        if sure == 0:
            self.decide("released")

    @precondition(lambda self: len(self.processes) < 5)
    @rule()
    def a_worker_starts(self) -> None:
        self.add()

    @precondition(lambda self: len(self.others()) > 0)
    @rule(index=indexes)
    def a_worker_dies(self, index: int) -> None:
        process = self.others()[index % len(self.others())]
        process.is_alive = False
        self.pool.lose(process.name)

    @precondition(lambda self: any(process.is_joined for process in self.others()))
    @rule()
    def the_leader_dies(self) -> None:
        """A worker that follows it takes over; the others find it within the time that it waits for them."""
        view = self.pool.view()
        self.leader.is_alive = False
        heir = next(process for process in self.others() if process.is_joined)
        joined = [process for process in self.others() if process.is_joined]
        for process in joined:
            process.inbox.clear()
            process.outbox.clear()
            process.is_joined = False
        self.lead(heir, view)

    @invariant()
    def a_drain_answers_only_when_no_call_is_live(self) -> None:
        drain = self.leader.ledger.pool
        totals = self.pool.totals(self.clock.now)
        known = totals.complete and self.pool.agrees(drain.epoch)
        if may_answer(drain, live=totals.total, known=known) and not drain.released:
            self.answered = True
            assert [process.name for process in self.processes if process.is_alive and process.calls] == []

    @invariant()
    def every_call_is_counted_as_one_thing(self) -> None:
        for process in self.processes:
            tally = process.ledger.report().tally
            assert tally.started >= tally.completed + tally.forced
            if not process.ledger.pool.released:
                assert tally.started == tally.completed + len(process.calls)

    @invariant()
    def all_that_began_is_accounted_for(self) -> None:
        """Of what has been reported: nothing is lost when processes die."""
        totals = self.pool.totals(self.clock.now)
        tally = totals.tally
        unforced = totals.total - (tally.started - tally.completed - tally.forced - tally.aborted)
        assert unforced >= 0
        if tally.forced == 0:
            assert tally.started == tally.completed + tally.aborted + totals.total


Drains.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDrains = Drains.TestCase


def test_the_machine_sees_answers_at_all() -> None:
    """The invariant above would hold of a drain that never answers."""
    machine = Drains()
    machine.a_process_joins(1)
    machine.a_process_joins(2)
    machine.a_call_begins(1)
    machine.decide("begun")
    for _ in range(2):
        machine.time_passes(5.0)
        machine.step()
        for index in (1, 2):
            machine.the_leader_is_heard(index)
            machine.the_leader_is_heard(index)
            for _ in range(4):
                machine.a_report_arrives(index)
        machine.a_drain_answers_only_when_no_call_is_live()
        assert not machine.answered
    machine.a_call_ends(1)
    machine.a_report_arrives(1)
    machine.a_drain_answers_only_when_no_call_is_live()
    assert machine.answered


def test_without_the_barrier_a_call_on_its_way_would_be_missed() -> None:
    """A call begins in the window, its report is under way, the window closes: the last *count* was zero."""
    machine = Drains()
    machine.a_process_joins(1)
    machine.a_process_joins(2)
    machine.decide("begun")
    machine.time_passes(4.9)
    machine.a_call_begins(1)
    machine.time_passes(5.0)
    machine.step()
    totals = machine.pool.totals(machine.clock.now)
    assert totals.total == 0
    assert totals.complete
    assert not machine.pool.agrees(machine.leader.ledger.pool.epoch)
    machine.a_drain_answers_only_when_no_call_is_live()
