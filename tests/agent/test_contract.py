"""The contract as pure functions: what is understood, what is refused and how, what is told."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicekeys.agent.contract import (
    BASE,
    METHODS,
    Malformed,
    Request,
    Route,
    Standing,
    calls_document,
    has_token,
    parse_head,
    render,
    route,
    wait_of,
)
from voicekeys.agent.drain import Drain, Phase, begun
from voicekeys.agent.ledger import Tally
from voicekeys.agent.pool import Totals

VALID = b"GET /voicekeys/v1/calls?since=3&wait=20 HTTP/1.1\r\nHost: pod\r\n\r\n"


def test_a_head_is_read() -> None:
    request = parse_head(
        b"POST /a/b?x=1&x=2&y= HTTP/1.1\r\nHost: pod:9909\r\nX-A:  one \r\nx-a: two\r\nContent-Length: 3\r\n"
    )
    assert (request.method, request.path, request.query) == ("POST", "/a/b", {"x": "2"})
    assert request.headers == {"host": "pod:9909", "x-a": "one, two", "content-length": "3"}
    assert (request.keep_alive, request.length) == (True, 3)


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (VALID, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\nHost: a\n\n", True),
    ],
)
def test_whether_the_connection_stays(head: bytes, keeps: bool) -> None:  # noqa: FBT001
    assert parse_head(head).keep_alive is keeps


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / FTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    ],
)
def test_what_is_malformed_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Malformed) as caught:
        parse_head(head)
    assert caught.value.status == status


def outcome(head: bytes) -> str:
    try:
        parse_head(head)
    except Malformed as wrong:
        return str(int(wrong.status))
    return "request"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(head: bytes) -> None:
    assert outcome(head) in {"request", "400", "411", "413", "505"}


@given(st.binary(max_size=60), st.integers(0, len(VALID)))
def test_a_valid_head_with_bytes_put_in_is_a_request_or_malformed(noise: bytes, at: int) -> None:
    assert outcome(VALID[:at] + noise + VALID[at:]) in {"request", "400", "411", "413", "505"}


def request_for(path: str, method: str, **headers: str) -> Request:
    return Request(method, path, {}, headers)


@pytest.mark.parametrize("wanted", list(Route))
def test_each_route_has_one_method(wanted: Route) -> None:
    assert route(request_for(BASE + wanted, METHODS[wanted]), None) is wanted
    for method in {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"} - {METHODS[wanted]}:
        with pytest.raises(Malformed) as caught:
            route(request_for(BASE + wanted, method), None)
        assert caught.value.status == 405
        assert caught.value.headers == {"Allow": METHODS[wanted]}


@pytest.mark.parametrize("path", ["/", "/drain", "/voicekeys/v1/", "/voicekeys/v2/drain", "/voicekeys/v1/drain/", "*"])
def test_another_path_is_not_found(path: str) -> None:
    with pytest.raises(Malformed) as caught:
        route(request_for(path, "GET"), "secret")
    assert caught.value.status == 404


@pytest.mark.parametrize("wanted", sorted(set(Route) - {Route.CALLS}))
@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer other"}, {"authorization": "secret"}, {"x-voicekeys-token": "Bearer secret"}],
)
def test_what_changes_an_agent_wants_the_token(wanted: Route, headers: dict[str, str]) -> None:
    with pytest.raises(Malformed) as caught:
        route(Request(METHODS[wanted], BASE + wanted, {}, headers), "secret")
    assert caught.value.status == 401
    assert "Bearer" in caught.value.headers["WWW-Authenticate"]


def test_calls_want_none() -> None:
    assert route(request_for(BASE + "calls", "GET"), "secret") is Route.CALLS


@pytest.mark.parametrize(
    ("headers", "has"),
    [
        ({"authorization": "Bearer secret"}, True),
        ({"authorization": "bearer  secret"}, True),
        ({"x-voicekeys-token": "secret"}, True),
        ({"authorization": "Bearer wrong", "x-voicekeys-token": "secret"}, True),
        ({"authorization": "Basic secret"}, False),
        ({"authorization": "Bearer secret2"}, False),
        ({"authorization": "Bearer sécret"}, False),
        ({"x-voicekeys-token": ""}, False),
    ],
)
def test_how_the_token_is_sent(headers: dict[str, str], has: bool) -> None:  # noqa: FBT001
    assert has_token(headers, "secret") is has


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, (None, 0.0)),
        ({"since": "12"}, (12, 0.0)),
        ({"since": "12", "wait": "20"}, (12, 20.0)),
        ({"wait": "0.5"}, (None, 0.5)),
        ({"wait": "9999"}, (None, 60.0)),
    ],
)
def test_how_long_calls_wait(query: dict[str, str], expected: tuple[int | None, float]) -> None:
    assert wait_of(Request("GET", "/", query)) == expected


@pytest.mark.parametrize(
    "query", [{"since": "x"}, {"since": "-1"}, {"wait": "nan"}, {"wait": "-1"}, {"wait": "1e9"}, {"since": "٣"}]
)
def test_what_is_no_number_is_malformed(query: dict[str, str]) -> None:
    with pytest.raises(Malformed) as caught:
        wait_of(Request("GET", "/", query))
    assert caught.value.status == 400


def test_the_whole_answer_of_calls() -> None:
    drain = begun(Drain(), 90.0, 5.0, 1800.0)
    totals = Totals({"7": 2, "6": 1}, 40.0, 1, Tally(9, 4, 2, 1, 1), 4, complete=True)
    who = Standing("abc", "0.1.0", token=True, key_version="7")
    document = calls_document(who, 5, Phase.SETTLING, drain, totals, now=91.5, wall=1_800_000_000.0)
    assert document == {
        "contract": 1,
        "library": "0.1.0",
        "instance": "abc",
        "revision": 5,
        "state": "settling",
        "cordoned": False,
        "keyVersion": "7",
        "active": 3,
        "activeByKeyVersion": {"7": 2, "6": 1},
        "oldestCallSeconds": 51.5,
        "leaked": 1,
        "processes": 4,
        "complete": True,
        "calls": {"started": 9, "completed": 4, "refused": 2, "forced": 1, "aborted": 1},
        "drain": {
            "startedTime": "2027-01-15T07:59:58.500+00:00",
            "settleEndTime": "2027-01-15T08:00:03.500+00:00",
            "deadlineTime": "2027-01-15T08:29:58.500+00:00",
        },
        "token": True,
    }


def test_an_idle_agent_has_no_times_and_no_oldest_call() -> None:
    totals = Totals({}, None, 0, Tally(), 1, complete=True)
    document = calls_document(Standing("a", "0", token=False), 1, Phase.SERVING, Drain(), totals, now=1.0, wall=2.0)
    assert document["oldestCallSeconds"] is None
    assert document["drain"] == {"startedTime": None, "settleEndTime": None, "deadlineTime": None}
    assert document["token"] is False


def test_an_answer_s_bytes() -> None:
    content = render(HTTPStatus.OK, {"a": 1}, keep_alive=False, headers={"Retry-After": "1"})
    head, _, body = content.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 7\r\n" in head
    assert b"Retry-After: 1\r\n" in head
    assert head.endswith(b"Connection: close")
    assert json.loads(body) == {"a": 1}


def test_an_answer_to_head_tells_a_length_and_sends_none_of_it() -> None:
    content = render(HTTPStatus.METHOD_NOT_ALLOWED, {"a": 1}, keep_alive=False, body=False)
    assert b"Content-Length: 7\r\n" in content
    assert content.endswith(b"\r\n\r\n")
