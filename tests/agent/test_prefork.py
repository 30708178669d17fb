"""Pools of real processes: one count, one drain, whoever dies."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.agent.support import PROGRAMS, Pod, Program, eventually, free_port, running
from voicekeys.agent import Agent, Settings, Unjoined, peers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKER = PROGRAMS / "worker.py"


class Pool:
    """Workers on one port."""

    def __init__(self, stack: ExitStack, settle: float = 0.0) -> None:
        self.stack = stack
        self.settle = settle
        self.pod = Pod(free_port())

    def start(self, how: str = "serve") -> Program:
        program = self.stack.enter_context(running(WORKER, how, str(self.pod.port), str(self.settle)))
        program.hear("serving" if how == "serve" else "waiting")
        return program

    def do(self, worker: Program, what: str, answer: str) -> str:
        worker.tell(what)
        return worker.hear(answer)

    def begin(self, worker: Program) -> None:
        self.do(worker, "begin", "begun")

    def counts(self, **expected: object) -> None:
        """Wait until ``/calls`` says so."""

        def look() -> bool:
            said = self.pod.calls()
            said = {**said, **said["calls"]}
            return {name: said[name] for name in expected} == expected

        eventually(look, f"{expected} in {self.pod.calls()}")


@pytest.fixture
def pool() -> Iterator[Pool]:
    with ExitStack() as stack:
        yield Pool(stack)


def test_workers_share_one_count_and_one_drain(pool: Pool) -> None:
    workers = [pool.start() for _ in range(3)]
    for worker in workers:
        pool.begin(worker)
    pool.begin(workers[2])
    pool.counts(active=4, processes=3, activeByKeyVersion={"7": 4}, complete=True)
    hook = pool.pod.hook()
    pool.counts(state="refusing")
    for worker in workers:
        assert pool.do(worker, "begin", "refused") == "refusing"
    for worker in (*workers, workers[2]):
        assert hook.is_silent(0.05)
        pool.do(worker, "end", "ended")
    assert hook.reply().json["state"] == "idle"
    pool.counts(started=4, completed=4, refused=3, aborted=0, forced=0)


def test_a_cordon_has_reached_every_worker_when_it_is_answered(pool: Pool) -> None:
    workers = [pool.start() for _ in range(3)]
    for path, answer in [("cordon", "refused"), ("uncordon", "begun")] * 3:
        assert pool.pod.post(path).status == 200
        for worker in workers:
            pool.do(worker, "begin", answer)


def test_a_release_forces_the_calls_of_all(pool: Pool) -> None:
    workers = [pool.start() for _ in range(3)]
    for worker in workers:
        pool.begin(worker)
    hook = pool.pod.hook()
    pool.counts(state="refusing")
    assert pool.pod.post("release").json["forced"] == 3
    assert hook.reply().json["state"] == "released"
    pool.do(workers[1], "end", "ended")
    pool.counts(forced=3, completed=0, active=2)


def test_a_worker_that_starts_during_a_drain_takes_no_calls(pool: Pool) -> None:
    first = pool.start()
    pool.begin(first)
    pool.pod.hook()
    pool.counts(state="refusing")
    assert pool.do(pool.start(), "begin", "refused") == "refusing"


def test_a_call_that_began_before_its_worker_served_is_known_when_it_does(pool: Pool) -> None:
    pool.start()
    second = pool.start("wait")
    pool.begin(second)
    pool.do(second, "serve", "serving")
    assert pool.pod.calls()["active"] == 1


def test_a_killed_worker_s_calls_are_aborted(pool: Pool) -> None:
    leader, worker = pool.start(), pool.start()
    pool.begin(leader)
    pool.begin(worker)
    pool.begin(worker)
    pool.counts(active=3, complete=True)
    hook = pool.pod.hook()
    worker.signal(signal.SIGKILL)
    # Its parent (this test) has not waited for it: a zombie is as dead as any.
    pool.counts(active=1, aborted=2, processes=1, complete=True)
    pool.do(leader, "end", "ended")
    assert hook.reply().json["state"] == "idle"


def test_a_stopped_worker_is_waited_for(pool: Pool) -> None:
    """It cannot say that it takes no more calls: unknown is never zero."""
    pool.start()
    worker = pool.start()
    pool.counts(complete=True, processes=2)
    worker.signal(signal.SIGSTOP)
    hook = pool.pod.hook()
    assert hook.is_silent(0.5)
    assert pool.pod.calls()["state"] == "refusing"
    worker.signal(signal.SIGCONT)
    assert hook.reply().json["state"] == "idle"


def test_a_dead_leader_s_followers_carry_on_with_every_call(pool: Pool) -> None:
    leader, *workers = [pool.start() for _ in range(4)]
    pool.begin(leader)
    for worker in workers:
        pool.begin(worker)
    pool.counts(active=4, processes=4)
    instance = pool.pod.calls()["instance"]
    time.sleep(0.1)  # what the others know of the leader is at most 50 ms old
    leader.signal(signal.SIGKILL)
    eventually(pool.pod.serves)
    pool.counts(active=3, processes=3, complete=True, started=4, aborted=1)
    assert pool.pod.calls()["instance"] != instance
    hook = pool.pod.hook()
    for worker in workers:
        assert hook.is_silent(0.05)
        pool.do(worker, "end", "ended")
    assert hook.reply().json["state"] == "idle"


def test_a_drain_survives_its_leader(pool: Pool) -> None:
    """The hook's connection drops, as in K7; who asks again joins the drain that goes on."""
    leader, worker, other = (pool.start() for _ in range(3))
    pool.begin(worker)
    hook = pool.pod.hook()
    pool.counts(state="refusing")
    started = pool.pod.calls()["drain"]["startedTime"]
    assert pool.do(other, "begin", "refused")
    leader.signal(signal.SIGKILL)
    assert hook.is_closed()
    eventually(pool.pod.serves)
    pool.counts(state="refusing")
    assert pool.pod.calls()["drain"]["startedTime"][:19] == started[:19]
    again = pool.pod.hook()
    assert pool.do(other, "begin", "refused") == "refusing"
    assert again.is_silent(1.2)  # longer than a new leader waits for others
    pool.do(worker, "end", "ended")
    assert again.reply().json["state"] == "idle"


def test_leaders_may_die_one_after_the_other(pool: Pool) -> None:
    workers = [pool.start() for _ in range(4)]
    pool.begin(workers[-1])
    for dying in workers[:-1]:
        dying.signal(signal.SIGKILL)
        eventually(pool.pod.serves)
        pool.counts(active=1)
    pool.counts(processes=1, complete=True)
    hook = pool.pod.hook()
    assert hook.is_silent(0.1)
    pool.do(workers[-1], "end", "ended")
    assert hook.reply().status == 200


def test_a_leader_that_leaves_politely_takes_nothing_along(pool: Pool) -> None:
    leader, worker = pool.start(), pool.start()
    pool.begin(worker)
    pool.counts(active=1, processes=2)
    leader.tell("exit")
    leader.end()
    eventually(pool.pod.serves)
    pool.counts(active=1, processes=1, complete=True, aborted=0)


def test_many_workers_that_start_at_once_become_one_pool(pool: Pool) -> None:
    arguments = ("serve", str(pool.pod.port), "0")
    workers = [pool.stack.enter_context(running(WORKER, *arguments)) for _ in range(6)]
    for worker in workers:
        worker.hear("serving")
    pool.counts(processes=6, complete=True)


# ---- fork


def test_a_forked_child_joins_with_its_first_call(pool: Pool) -> None:
    parent = pool.start()
    pool.begin(parent)
    child = int(pool.do(parent, "fork", "child"))
    pool.counts(active=2, processes=2, started=2)
    hook = pool.pod.hook()
    pool.counts(state="refusing")
    pool.do(parent, "end", "ended")
    assert hook.is_silent(0.2)
    os.kill(child, signal.SIGUSR1)
    assert hook.reply().json["state"] == "idle"


def test_a_forked_child_survives_its_parent_and_leads(pool: Pool) -> None:
    """It inherited every descriptor of its parent: a copy that stayed open would keep the port of the dead."""
    parent = pool.start()
    child = int(pool.do(parent, "fork", "child"))
    pool.counts(active=1, processes=2)
    parent.signal(signal.SIGKILL)
    eventually(pool.pod.serves)
    pool.counts(active=1, processes=1, complete=True)
    hook = pool.pod.hook()
    assert hook.is_silent(0.1)
    os.kill(child, signal.SIGUSR1)
    assert hook.reply().status == 200


def test_a_fork_of_a_follower_does_not_hide_its_death(pool: Pool) -> None:
    pool.start()
    follower = pool.start()
    pool.begin(follower)
    child = int(pool.do(follower, "fork", "child"))
    pool.counts(active=2, processes=3)
    follower.signal(signal.SIGKILL)
    pool.counts(active=1, processes=2, aborted=1, complete=True)
    os.kill(child, signal.SIGKILL)
    pool.counts(active=0, processes=1, aborted=2, complete=True)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_of_multiprocessing_are_one_pool(how: str) -> None:
    pod = Pod(free_port())
    with running(PROGRAMS / "spawner.py", how, str(pod.port), "3") as program:
        pids = [int(program.hear("call")) for _ in range(3)]
        hook = pod.hook()
        eventually(lambda: pod.calls()["active"] == 3 and pod.calls()["state"] == "refusing")
        for pid in pids:
            assert hook.is_silent(0.05)
            os.kill(pid, signal.SIGUSR1)
        assert hook.reply().json["state"] == "idle"


def test_a_fork_while_other_threads_begin_calls_leaves_no_lock_closed() -> None:
    """Children are made at random moments; each must be able to take its own lock."""
    code = """
import os, threading
from voicekeys import agent
from voicekeys.agent.shared import AGENT
AGENT.serve(settings=agent.Settings(port=0, token="t"))
stop = False
def busy():
    while not stop:
        with agent.call():
            pass
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        agent.active(), agent.is_taking_calls(), AGENT._ledger.report(), AGENT._starting.acquire()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
stop = True
for thread in threads: thread.join()
print("survived", AGENT._ledger.report().total)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "survived 0", done.stderr


# ---- strangers


def test_an_agent_on_another_port_is_another_pool(make_pod: Callable[..., Pod]) -> None:
    one, other = make_pod(port=free_port()), make_pod(port=free_port())
    with one.agent.call():
        assert (one.calls()["active"], other.calls()["active"]) == (1, 0)


def test_a_stranger_at_the_meeting_place_is_not_listened_to(pool: Pool) -> None:
    worker = pool.start()
    pool.begin(worker)
    pool.counts(complete=True)
    for content in (
        b"nonsense\n",
        b"[]\n",
        b'{"hello": "x"}\n',
        b'{"report": 1}\n',
        b'{"hello":"x","drain":{"y":1}}\n',
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(peers.address(pool.pod.port))
            sock.sendall(content)
            sock.settimeout(20)
            assert sock.recv(100) == b""
    assert pool.pod.calls()["active"] == 1
    hook = pool.pod.hook()
    pool.do(worker, "end", "ended")
    assert hook.reply().status == 200


def test_both_ends_are_asked_whose_they_are() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peers.identify(one) == os.getpid()
        raw = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        assert struct.unpack("3i", raw)[1] == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_not_let_in() -> None:
    port = free_port()
    with peers.listen(port) as meeting:
        meeting.setblocking(True)
        code = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
            "s.connect(eval(sys.argv[1])); s.recv(1)"
        )
        stranger = subprocess.Popen([sys.executable, "-c", code, repr(peers.address(port))])
        try:
            accepted, _ = meeting.accept()
            with accepted:
                assert peers.identify(accepted) is None
        finally:
            stranger.kill()
            stranger.wait()


def test_a_leader_that_does_not_answer_is_named() -> None:
    """A stopped leader: the port is there, and nobody behind it."""
    port = free_port()
    with running(WORKER, "serve", str(port), "0") as leader:
        leader.hear("serving")
        leader.signal(signal.SIGSTOP)
        agent = Agent()
        try:
            with pytest.raises(Unjoined, match="did not take this one in"):
                agent.serve(settings=Settings(port=port, token="t", join=0.3))
        finally:
            agent.close()


@pytest.mark.parametrize(
    ("pid", "alive"),
    [(0, False), (-1, False), (os.getpid(), True), (1, True), (2**22 - 3, False)],
    ids=["none", "a group", "itself", "the first", "nobody"],
)
def test_who_lives(pid: int, alive: bool) -> None:  # noqa: FBT001
    assert peers.is_alive(pid) is alive


def test_a_process_that_ended_and_was_not_waited_for_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    eventually(lambda: not peers.is_alive(child.pid))
    child.wait()
