"""The sidecar on real sockets, beside an agent that is a process of its own."""

from __future__ import annotations

import socket
import time

import pytest

from tests.agent.gauge.support import gauge, standin
from tests.agent.support import BASE, eventually
from voicekeys.agent import Limits


def test_it_says_how_many_calls_are_live() -> None:
    with standin(calls=3) as agent, gauge(agent) as pod:
        calls = pod.shows(active=3)
        assert calls["state"] == "serving"
        assert (calls["complete"], calls["activeByKeyVersion"], calls["processes"]) == (True, {"": 3}, 1)
        assert calls["gauge"]["error"] is None
        assert calls["gauge"]["canRefuse"] is False
        assert calls["gauge"]["readTime"].endswith("+00:00")
        assert calls["calls"] == {"started": 3, "completed": 0, "refused": 0, "forced": 0, "aborted": 0}
        agent.calls(1)
        assert pod.shows(active=1)["calls"]["completed"] == 2


def test_calls_are_read_when_somebody_asks() -> None:
    """Between drains the agent is asked seldom; who asks gets a number of now."""
    with standin() as agent, gauge(agent, rest=60.0, fresh=0.3) as pod:
        pod.shows(active=0, complete=True)
        agent.calls(5)
        time.sleep(0.4)
        assert pod.calls()["active"] == 5


def test_a_drain_waits_for_the_last_call_and_sends_no_byte() -> None:
    with standin(calls=2) as agent, gauge(agent) as pod:
        pod.shows(active=2)
        hook = pod.hook()
        pod.shows(state="refusing")
        assert hook.is_silent(0.3)
        agent.calls(1)
        assert hook.is_silent(0.3)
        agent.calls(0)
        assert hook.reply().json == {"contract": 1, "state": "idle", "active": 0, "forced": 0}
        assert pod.calls()["state"] == "idle"


def test_an_idle_agent_is_held_for_the_settle_window_and_the_quiet_one() -> None:
    with standin() as agent, gauge(agent, settle=0.5, quiet=0.3) as pod:
        pod.shows(active=0, complete=True)
        begun = time.monotonic()
        hook = pod.hook()
        pod.shows(state="settling")
        assert hook.reply().status == 200
        assert time.monotonic() - begun >= 0.8


def test_a_call_that_comes_late_is_waited_for() -> None:
    """Nobody can refuse it: also one that comes after the settle window."""
    with standin(calls=1) as agent, gauge(agent) as pod:
        hook = pod.hook()
        pod.shows(state="refusing", active=1)
        agent.calls(4)
        pod.shows(active=4)
        agent.calls(1)
        assert hook.is_silent(0.3)
        agent.calls(0)
        assert hook.reply().status == 200


def test_a_gauge_that_flickers_ends_no_drain() -> None:
    with standin(calls=1) as agent, gauge(agent, quiet=0.6) as pod:
        hook = pod.hook()
        pod.shows(state="refusing", active=1)
        for _ in range(5):
            agent.calls(0)
            assert hook.is_silent(0.2)
            agent.calls(1)
            pod.shows(active=1)
        agent.calls(0)
        assert hook.reply().status == 200


def test_several_hooks_are_one_drain() -> None:
    """One for each ordinary container of the pod."""
    with standin(calls=1) as agent, gauge(agent) as pod:
        hooks = [pod.hook() for _ in range(4)]
        pod.shows(state="refusing", active=1)
        started = pod.calls()["drain"]["startedTime"]
        agent.calls(0)
        assert [hook.reply().status for hook in hooks] == [200] * 4
        assert pod.calls()["drain"]["startedTime"] == started


def test_a_client_that_goes_away_cancels_nothing_and_the_next_one_joins() -> None:
    """K7: a kubelet that restarts drops the connection, and the hook runs again with the full grace."""
    with standin(calls=1) as agent, gauge(agent, grace=60.0) as pod:
        first = pod.hook()
        before = pod.shows(state="refusing", active=1)["drain"]
        first.close()
        time.sleep(0.3)
        assert pod.calls()["state"] == "refusing"
        second = pod.hook()
        after = eventually(lambda: (now := pod.calls()["drain"])["deadlineTime"] != before["deadlineTime"] and now)
        assert after["startedTime"] == before["startedTime"]
        assert after["deadlineTime"] > before["deadlineTime"]
        assert second.is_silent(0.3)
        agent.calls(0)
        assert second.reply().status == 200


def test_a_late_hook_is_answered_by_what_is_true_then() -> None:
    with standin() as agent, gauge(agent) as pod:
        assert pod.hook().reply().status == 200
        agent.calls(1)
        hook = pod.hook()
        assert hook.is_silent(0.4)
        agent.calls(0)
        assert hook.reply().status == 200


# ---- unknown is never zero


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("garbage", "malformed"),
        ("empty", "malformed"),
        ("error", "status-500"),
        ("forbidden", "unauthorized"),
        ("elsewhere", "status-302"),
        ("cut", "cut"),
        ("hang", "timeout"),
    ],
)
def test_what_cannot_be_read_holds_the_drain(fault: str, word: str) -> None:
    with standin(calls=2) as agent, gauge(agent) as pod:
        pod.shows(active=2)
        agent.fault(fault)
        hook = pod.hook()
        calls = pod.shows(complete=False, error=word)
        assert (calls["active"], calls["processes"]) == (2, 0)
        agent.calls(0)
        assert hook.is_silent(0.6)
        assert pod.calls()["state"] == "refusing"
        agent.fault("none")
        assert hook.reply().status == 200


@pytest.mark.parametrize("system", ["go-promhttp", "asterisk"])
def test_no_metrics_at_all_hold_the_drain(system: str) -> None:
    """An exporter that has just started may have no series yet."""
    with standin(system) as agent, gauge(agent) as pod:
        agent.fault("empty")
        hook = pod.hook()
        pod.shows(complete=False, error="absent")
        assert hook.is_silent(0.5)
        agent.fault("none")
        assert hook.reply().status == 200


def test_an_agent_that_never_answered_is_not_idle() -> None:
    with standin("freeswitch") as agent, gauge(agent) as pod:
        agent.die()
        hook = pod.hook()
        calls = pod.shows(complete=False, error="refused")
        assert calls["active"] == 0
        assert hook.is_silent(0.5)


def test_an_agent_that_hangs_does_not_keep_calls_from_being_told() -> None:
    with standin(calls=1) as agent, gauge(agent, fresh=0.2, rest=0.3) as pod:
        pod.shows(active=1)
        agent.fault("hang")
        begun = time.monotonic()
        while pod.calls()["complete"]:
            assert time.monotonic() - begun < 10
        begun = time.monotonic()
        assert not pod.calls()["complete"]
        assert time.monotonic() - begun < 1


def test_a_refused_connection_alone_is_no_proof_that_calls_are_over() -> None:
    """The agent may have closed its status port and still talk."""
    with standin(calls=2) as agent, gauge(agent, lambda: True) as pod:
        pod.shows(active=2)
        hook = pod.hook()
        agent.die()
        calls = pod.shows(complete=False, error="refused", state="refusing")
        assert calls["active"] == 2
        assert hook.is_silent(0.6)


def test_an_agent_that_has_died_does_not_hold_its_pod() -> None:
    """No process has a socket: nobody talks. Its calls were aborted."""
    with standin(calls=2) as agent, gauge(agent, lambda: False) as pod:
        pod.shows(active=2)
        hook = pod.hook()
        pod.shows(state="refusing")
        agent.die()
        assert hook.reply().json == {"contract": 1, "state": "idle", "active": 0, "forced": 0}
        calls = pod.calls()
        assert calls["gauge"]["error"] == "gone"
        assert calls["calls"] == {"started": 2, "completed": 0, "refused": 0, "forced": 0, "aborted": 2}


def test_without_a_drain_a_closed_port_is_only_unknown() -> None:
    """An agent that has not started yet, or restarts."""
    with standin(calls=2) as agent, gauge(agent, lambda: False) as pod:
        pod.shows(active=2)
        agent.die()
        pod.shows(complete=False, error="refused", state="serving")


def test_an_agent_that_restarts_at_zero_ends_the_drain_and_its_calls_are_aborted() -> None:
    with standin(calls=3) as agent, gauge(agent) as pod:
        pod.shows(active=3)
        hook = pod.hook()
        pod.shows(state="refusing")
        agent.die()
        pod.shows(error="refused")
        with standin(port=agent.port):
            assert hook.reply().status == 200
            tally = pod.calls()["calls"]
            assert (tally["completed"], tally["aborted"]) == (0, 3)


# ---- the container goes on, the sidecar too


def test_a_drain_is_over_when_the_restarted_container_has_calls_again() -> None:
    """K13: a failed liveness probe runs the hook and restarts the container in the same pod."""
    with standin() as agent, gauge(agent, anew=0.3) as pod:
        assert pod.hook().reply().status == 200
        assert pod.calls()["state"] == "idle"
        agent.calls(2)
        calls = pod.shows(state="serving", active=2)
        assert calls["drain"] == {"startedTime": None, "settleEndTime": None, "deadlineTime": None}


def test_a_hook_that_comes_much_later_has_a_settle_window_of_its_own() -> None:
    with standin() as agent, gauge(agent, anew=0.3, settle=0.3) as pod:
        assert pod.hook().reply().status == 200
        time.sleep(0.5)
        hook = pod.hook()
        pod.shows(state="settling")
        assert hook.reply().status == 200


# ---- the deadline, release, and what cannot be done


def test_what_is_live_when_the_grace_ends_is_forced_once_and_the_hook_stays_held() -> None:
    with standin(calls=2) as agent, gauge(agent, grace=1.3) as pod:
        pod.shows(active=2)
        hook = pod.hook()
        calls = pod.shows(state="refusing")
        eventually(lambda: pod.calls()["calls"]["forced"] == 2)
        assert hook.is_silent(1.0)
        assert calls["drain"]["deadlineTime"] is not None
        agent.calls(0)
        assert hook.reply().json["forced"] == 2
        assert pod.calls()["calls"] == {"started": 2, "completed": 0, "refused": 0, "forced": 2, "aborted": 0}


def test_release_lets_go_and_counts_what_it_cuts() -> None:
    with standin(calls=2) as agent, gauge(agent) as pod:
        pod.shows(active=2)
        assert pod.post("release").status == 409
        hook = pod.hook()
        pod.shows(state="refusing")
        assert pod.post("release").json == {"contract": 1, "state": "released", "active": 2, "forced": 2}
        assert hook.reply().json["state"] == "released"
        assert pod.post("release").json["forced"] == 2


def test_release_lets_go_although_nothing_is_known() -> None:
    with standin(calls=2) as agent, gauge(agent) as pod:
        pod.shows(active=2)
        agent.fault("hang")
        hook = pod.hook()
        pod.shows(state="refusing", complete=False)
        assert pod.post("release").json["forced"] == 2
        assert hook.reply().json["state"] == "released"


@pytest.mark.parametrize("path", ["cordon", "uncordon", "reload"])
def test_what_the_agent_would_have_to_do_itself_is_not_implemented(path: str) -> None:
    with standin() as agent, gauge(agent) as pod:
        answer = pod.post(path)
        assert answer.status == 501
        assert answer.json["error"]
        assert pod.calls()["state"] == "serving"
        assert not pod.calls()["cordoned"]


# ---- the server


def test_the_token_is_asked_for_as_in_the_library() -> None:
    with standin(calls=1) as agent, gauge(agent) as pod:
        for token in (None, "", "wrong"):
            assert pod.ask("drain", token=token).status == 401
            assert pod.ask("release", "POST", token=token).status == 401
        calls = pod.calls()
        assert (calls["state"], calls["token"]) == ("serving", True)


def test_a_long_poll_is_answered_when_the_number_changes() -> None:
    with standin() as agent, gauge(agent) as pod:
        revision = pod.shows(active=0, complete=True)["revision"]
        waiting = pod.open().ask(f"{BASE}calls?since={revision}&wait=30")
        assert waiting.is_silent(0.5)
        agent.calls(1)
        answer = waiting.reply().json
        assert answer["active"] == 1
        assert answer["revision"] > revision


def test_a_long_poll_ends_after_its_time() -> None:
    with standin() as agent, gauge(agent) as pod:
        revision = pod.shows(active=0, complete=True)["revision"]
        begun = time.monotonic()
        assert pod.calls(f"?since={revision}&wait=0.4")["revision"] == revision
        assert time.monotonic() - begun >= 0.4


def test_nothing_new_is_no_new_revision() -> None:
    with standin(calls=2) as agent, gauge(agent, rest=0.02) as pod:
        revision = pod.shows(active=2)["revision"]
        time.sleep(0.5)
        assert pod.calls()["revision"] == revision


def test_a_hook_finds_room_whoever_sits_there() -> None:
    with standin(calls=1) as agent, gauge(agent, limits=Limits(connections=5, head_seconds=600)) as pod:
        loiterers = [pod.open() for _ in range(20)]
        hook = pod.hook()
        pod.shows(state="refusing", active=1)
        assert hook.is_silent(0.1)
        agent.calls(0)
        assert hook.reply().status == 200
        for loiterer in loiterers:
            loiterer.close()


def test_an_agent_is_not_asked_more_often_than_it_can_answer() -> None:
    """An answer that takes 0.3 s is followed by a pause of four times that."""
    asked: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with standin() as agent:
            agent.port = port
            with gauge(agent, busy=0.01, rest=60.0) as pod:
                hook = pod.hook()
                for _ in range(3):
                    connection, _ = server.accept()
                    asked.append(time.monotonic())
                    connection.recv(65536)
                    time.sleep(0.3)
                    body = agent.shape.body(1).encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    connection.close()
                hook.close()
    assert asked[2] - asked[1] >= 1.4
