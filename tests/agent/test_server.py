"""The server on real sockets: what holds, what is cut, what never blocks the hook."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.agent.support import BASE, TOKEN, Pod, eventually
from voicekeys.agent import Limits

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_held_drain_sends_no_byte(pod: Pod) -> None:
    """K1 to K3: one byte of body, or a status, would end the hook."""
    with pod.agent.call():
        hook = pod.hook()
        eventually(lambda: pod.calls()["state"] == "refusing")
        assert hook.is_silent(0.3)
    assert hook.reply().status == 200


def test_a_connection_serves_several_requests(pod: Pod) -> None:
    client = pod.open()
    for _ in range(3):
        assert client.ask(BASE + "calls").reply().headers["connection"] == "keep-alive"


def test_requests_that_come_at_once_are_answered_in_order(pod: Pod) -> None:
    client = pod.open()
    client.ask(BASE + "calls").ask(BASE + "nowhere")
    assert [client.reply().status, client.reply().status] == [200, 404]
    assert client.is_closed()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_clients_and_those_that_say_so_are_closed(pod: Pod, version: str) -> None:
    client = pod.open().send(f"GET {BASE}calls HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    reply = client.reply()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert client.is_closed()


def test_a_request_in_single_bytes_is_one_request(pod: Pod) -> None:
    client = pod.open()
    for byte in f"\r\n\nGET {BASE}calls HTTP/1.1\r\nHost: a\r\n\r\n".encode():
        client.send(bytes([byte]))
    assert client.reply().status == 200


def test_a_body_is_read_and_dropped(pod: Pod) -> None:
    client = pod.open()
    head = f"POST {BASE}cordon HTTP/1.1\r\nHost: a\r\nX-Voicekeys-Token: {TOKEN}\r\nContent-Length: 40000\r\n\r\n"
    client.send(head.encode() + b"x" * 40_000).ask(BASE + "calls")
    assert client.reply().json["state"] == "cordoned"
    assert client.reply().json["cordoned"]


def test_head_is_not_allowed_and_gets_no_body(pod: Pod) -> None:
    client = pod.open().ask(BASE + "drain", "HEAD")
    reply = client.reply(head_only=True)
    assert (reply.status, reply.headers["allow"]) == (405, "GET")
    assert client.is_closed()
    assert pod.calls()["state"] == "serving"


def test_a_wrong_token_does_nothing(pod: Pod) -> None:
    for token in (None, "", "wrong"):
        assert pod.ask("drain", token=token).status == 401
        for path in ("cordon", "uncordon", "release", "reload"):
            assert pod.ask(path, "POST", token=token).status == 401
    assert pod.calls()["state"] == "serving"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/3\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 100_000, 431),
    ],
)
def test_what_is_malformed_is_answered_and_closed(pod: Pod, content: bytes, status: int) -> None:
    client = pod.open().send(content)
    assert client.reply().status == status
    assert client.is_closed()


def test_a_head_that_never_ends_is_cut(make_pod: Callable[..., Pod]) -> None:
    """Slow loris: a byte now and then does not buy time."""
    pod = make_pod(limits=Limits(head_seconds=0.2))
    client = pod.open().send(b"GET / HT")
    client.send(b"TP")
    assert client.reply().status == 408
    assert client.is_closed()


def test_a_connection_that_says_nothing_is_cut(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(limits=Limits(head_seconds=0.1, idle_seconds=0.2))
    assert pod.open().is_closed()
    client = pod.open().ask(BASE + "calls")
    assert client.reply().status == 200
    assert client.is_closed()


def test_a_body_that_never_comes_is_cut(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(limits=Limits(head_seconds=0.1))
    head = f"POST {BASE}cordon HTTP/1.1\r\nHost: a\r\nX-Voicekeys-Token: {TOKEN}\r\nContent-Length: 5\r\n\r\n"
    assert pod.open().send(head.encode()).is_closed()
    assert pod.calls()["state"] == "serving"


def test_a_hook_finds_room_whoever_sits_there(make_pod: Callable[..., Pod]) -> None:
    """Connections that say nothing, and pollers: the oldest goes, the hook and what it holds stay."""
    pod = make_pod(limits=Limits(connections=5, head_seconds=600))
    with pod.agent.call():
        first = pod.hook()
        eventually(lambda: pod.calls()["state"] == "refusing")
        revision = pod.calls()["revision"]
        loiterers = [pod.open() for _ in range(20)]
        pollers = [pod.open().ask(f"{BASE}calls?since={revision}&wait=30") for _ in range(20)]
        second = pod.hook()
        assert all(one.is_closed() for one in loiterers)
        assert first.is_silent(0.1)
        assert second.is_silent(0.1)
    assert first.reply().status == 200
    assert second.reply().status == 200
    for client in (*loiterers, *pollers):
        client.close()


def test_drains_that_are_held_have_a_bound_too(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(limits=Limits(holders=2))
    with pod.agent.call():
        held = [pod.hook() for _ in range(2)]
        eventually(lambda: pod.calls()["state"] == "refusing")
        assert pod.hook().reply().status == 503
        held[0].close()
        eventually(lambda: pod.hook().is_silent(0.2), "room again")
    assert held[1].reply().status == 200


def test_a_client_that_does_not_read_is_cut(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(limits=Limits(write_seconds=0.2))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.connect(("127.0.0.1", pod.port))
    sock.settimeout(20)
    request = f"GET {BASE}calls HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def push() -> bool:
        try:
            sock.sendall(request * 500)
        except OSError:
            return True
        return False

    assert eventually(push, "cut")
    assert pod.calls()["state"] == "serving"


def test_ipv6_is_served_as_well(pod: Pod) -> None:
    try:
        sock = socket.create_connection(("::1", pod.port), timeout=5)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with sock:
        sock.sendall(f"GET {BASE}calls HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
