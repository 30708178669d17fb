"""``POST /notify`` over real sockets: who is heard, who is not, and what each of them learns."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.handlers.serving import BODY, KEY, Operator, serving
from tests.telemetry.states import Rows
from voicekeys.handlers import http
from voicekeys.policies import notify

pytestmark = pytest.mark.asyncio


async def test_a_signed_notification_is_acted_on() -> None:
    async with serving() as served:
        assert await served.notify() == (202, {"bindings": 3})
        assert served.operator.notified == [("vault", "voice/production/frejun")]
        assert 'voicekeys_notify_requests_total{code="202"} 1' in (await served.get("/metrics"))[1]


async def test_a_replay_is_refused_and_a_new_signature_is_not() -> None:
    async with serving() as served:
        header = notify.sign(KEY, int(served.clock.now().timestamp()), BODY)
        assert (await served.notify(header=header))[0] == 202
        assert (await served.notify(header=header))[0] == 409
        served.clock.forward(1)
        assert (await served.notify(header=header))[0] == 409
        assert (await served.notify())[0] == 202
        assert len(served.operator.notified) == 2


async def test_what_a_former_leader_may_have_taken_is_refused() -> None:
    async with serving() as served:
        header = notify.sign(KEY, int(served.clock.now().timestamp()), BODY)
        assert (await served.notify(header=header))[0] == 202
    async with serving() as follower:
        follower.clock.forward(20)
        follower.operator.since = follower.clock.now().timestamp()
        status, body = await follower.notify(header=header)
        assert status == 409
        assert "sign again" in str(body["error"])
        assert follower.operator.notified == []
        assert (await follower.notify())[0] == 202


async def test_a_signature_that_is_too_old_is_refused() -> None:
    async with serving() as served:
        header = notify.sign(KEY, int(served.clock.now().timestamp()), BODY)
        served.clock.forward(301)
        status, body = await served.notify(header=header)
        assert status == 401
        assert "check the clock" in str(body["error"])


@pytest.mark.parametrize("body", [BODY, b'{"store":"none","path":"none"}', b"garbage", b""])
async def test_who_has_no_key_learns_nothing(body: bytes) -> None:
    """The answer is the same for paths that exist, paths that do not, and bodies that cannot be read."""
    async with serving() as served:
        timestamp = int(served.clock.now().timestamp())
        wrong = await served.notify(body, header=notify.sign(b"x" * 32, timestamp, body))
        assert wrong == (401, {"error": notify.BAD_SIGNATURE.message})
        assert await served.notify(body, header="") == (401, {"error": notify.BAD_HEADER.message})
        assert served.operator.notified == []


async def test_who_has_the_key_learns_that_a_path_is_unknown() -> None:
    async with serving() as served:
        assert (await served.notify(b'{"store":"vault","path":"voice/other"}'))[0] == 404
        assert (await served.notify(b'{"store":"other","path":"voice/production/frejun"}'))[0] == 404


async def test_a_signed_body_that_cannot_be_read() -> None:
    async with serving() as served:
        status, body = await served.notify(b'{"store":"vault"}')
        assert status == 400
        assert '"path"' in str(body["error"])


async def test_a_standby_sends_to_the_leader() -> None:
    async with serving(Rows(leads=False)) as served:
        status, body = await served.notify()
        assert status == 503
        assert str(body["error"]).startswith("not the leader")
        assert served.operator.notified == []
        assert (await served.get("/readyz"))[0] == 200


@pytest.mark.parametrize("key", [None, b"", b"short"])
async def test_without_a_key_nobody_is_heard(key: bytes | None) -> None:
    def change(operator: Operator) -> None:
        operator.key = key

    async with serving(change=change) as served:
        forged = notify.sign(key or b"", int(served.clock.now().timestamp()), BODY)
        status, body = await served.notify(header=forged)
        assert status == 503
        assert "notify Secret" in str(body["error"])
        assert served.operator.notified == []


async def test_a_key_that_changes_is_used_at_once() -> None:
    async with serving() as served:
        served.operator.key = b"another-key-of-enough-bytes-0000"
        assert (await served.notify())[0] == 401
        header = notify.sign(served.operator.key, int(served.clock.now().timestamp()), BODY)
        assert (await served.notify(header=header))[0] == 202


@pytest.mark.parametrize("size", [http.MAX_BODY + 1, 10 * http.MAX_BODY])
async def test_a_large_body_is_refused(size: int) -> None:
    async with serving() as served:
        assert (await served.notify(b"a" * size))[0] == 413
        assert (await served.notify())[0] == 202


async def test_a_packed_body_is_not_unpacked() -> None:
    """A few bytes could become gigabytes; what is signed is what was sent."""
    async with serving() as served:
        body = gzip.compress(BODY)
        header = notify.sign(KEY, int(served.clock.now().timestamp()), body)
        headers = {notify.SIGNATURE_HEADER: header, "Content-Encoding": "gzip"}
        async with served.http.post(served.url + "/notify", data=body, headers=headers) as answer:
            assert answer.status == 400


async def test_one_sender_is_slowed_down() -> None:
    async with serving() as served:
        answers = [(await served.notify(header="t=1"))[0] for _ in range(int(notify.SENDER_BURST) + 2)]
        assert set(answers[: int(notify.SENDER_BURST)]) == {401}
        assert answers[-1] == 429
        served.clock.forward(1)
        async with served.http.post(served.url + "/notify") as answer:
            assert answer.status == 401


async def test_the_whole_rate_is_bounded_for_key_holders_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TOTAL_BURST", 2.0)
    async with serving() as served:
        bodies = [b'{"store":"vault","path":"p%d"}' % number for number in range(4)]
        assert [(await served.notify(body))[0] for body in bodies] == [404, 404, 429, 429]
        async with served.http.post(
            served.url + "/notify",
            data=BODY,
            headers={notify.SIGNATURE_HEADER: notify.sign(KEY, int(served.clock.now().timestamp()), BODY)},
        ) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "10")


async def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.1)
    async with serving() as served:
        head = b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"
        answer = await served.raw(head, half_close=False)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"onnection: close" in answer


async def test_many_at_once_are_each_heard_once() -> None:
    async with serving() as served:
        served.operator.paths = {("vault", f"p{number}"): 1 for number in range(50)}
        bodies = [b'{"store":"vault","path":"p%d"}' % number for number in range(50)] * 2
        answers = await asyncio.gather(*(served.notify(body) for body in bodies))
        assert sorted(status for status, _ in answers) == [202] * 50 + [409] * 50
        assert len(served.operator.notified) == 50
