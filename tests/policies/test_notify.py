"""Who may say that a key has changed: signatures, clocks, replays, bodies, rates."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from voicekeys.policies import notify
from voicekeys.policies.notify import Notice, RateLimit, Refusal, ReplayWindow, Signed

KEY = b"0123456789abcdef0123456789abcdef"
NOW = 1_750_000_000
BODY = b'{"store":"vault","path":"voice/production/frejun"}'
GOOD = notify.sign(KEY, NOW, BODY)
MAC = GOOD.partition("v1=")[2]


def check(header: str | None, body: bytes = BODY, now: float = NOW) -> Signed | Refusal:
    return notify.check_signature(header, body, KEY, now)


def test_the_scheme_is_the_documented_one() -> None:
    """Any language can sign: HMAC-SHA256 over '<t>.<body>', in hex."""
    mac = hmac.new(KEY, f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert f"t={NOW},v1={mac}" == GOOD


GOOD_HEADERS = {
    "as signed": GOOD,
    "upper-case hex": f"t={NOW},v1={MAC.upper()}",
    "spaces and the other order": f"v1={MAC} , t={NOW}",
    "two keys during a change": f"t={NOW},v1={'0' * 64},v1={MAC}",
    "a later scheme beside it": f"t={NOW},v1={MAC},v2=abc",
}


@pytest.mark.parametrize("header", GOOD_HEADERS.values(), ids=GOOD_HEADERS)
def test_a_good_signature_holds(header: str) -> None:
    assert check(header) == Signed(bytes.fromhex(MAC), NOW + 300)


BAD_HEADERS = {
    "none": None,
    "empty": "",
    "no time": f"v1={MAC}",
    "no signature": f"t={NOW}",
    "two times": f"t={NOW},t={NOW},v1={MAC}",
    "time not a number": f"t=now,v1={MAC}",
    "time with a sign": f"t=+{NOW},v1={MAC}",
    "time with a leading zero": f"t=0{NOW},v1={MAC}",
    "time in other digits": f"t={chr(0x0661)}{NOW},v1={MAC}",
    "time too long": f"t={'9' * 400},v1={MAC}",
    "signature too short": f"t={NOW},v1={MAC[:-2]}",
    "signature not hex": f"t={NOW},v1={'g' * 64}",
    "one bad of two": f"t={NOW},v1={MAC},v1=zz",
    "too many": f"t={NOW}" + f",v1={MAC}" * 5,
    "too long": GOOD + "," * 2000,
}


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_malformed_header_is_refused(header: str | None) -> None:
    assert check(header) == notify.BAD_HEADER


def test_another_key_body_or_time_is_refused() -> None:
    assert check(notify.sign(KEY[::-1], NOW, BODY)) == notify.BAD_SIGNATURE
    assert check(GOOD, BODY + b" ") == notify.BAD_SIGNATURE
    assert check(f"t={NOW + 1},v1={MAC}") == notify.BAD_SIGNATURE


@pytest.mark.parametrize(("late", "holds"), [(-301, False), (-300, True), (0, True), (300, True), (300.5, False)])
def test_time_may_differ_by_five_minutes(late: float, holds: bool) -> None:  # noqa: FBT001
    assert isinstance(check(GOOD, now=NOW + late), Signed) == holds


def test_who_has_no_key_does_not_learn_that_the_time_is_wrong() -> None:
    assert check(notify.sign(b"x" * 32, NOW - 4000, BODY)) == notify.BAD_SIGNATURE
    assert check(notify.sign(KEY, NOW - 4000, BODY)) == notify.BAD_TIME


def test_a_notice_is_read() -> None:
    assert notify.parse_notice(BODY) == Notice("vault", "voice/production/frejun")


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"store":"\xff"}',
    "deeply nested": b"[" * 100_000,
    "a list": b"[]",
    "no path": b'{"store":"vault"}',
    "a field too many": b'{"store":"vault","path":"a","key":"b"}',
    "store not a text": b'{"store":1,"path":"a"}',
    "store no name": b'{"store":"Vault!","path":"a"}',
    "store empty": b'{"store":"","path":"a"}',
    "path not a text": b'{"store":"vault","path":["a"]}',
    "path empty": b'{"store":"vault","path":""}',
    "path absolute": b'{"store":"vault","path":"/a"}',
    "path with dots": b'{"store":"vault","path":"a/../b"}',
    "path too long": json.dumps({"store": "vault", "path": "a" * 513}).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_refused(body: bytes) -> None:
    assert notify.parse_notice(body) == notify.BAD_BODY


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("a", True),
        ("a/b-c.d/e_f", True),
        ("a" * 512, True),
        ("a/", False),
        ("a//b", False),
        (".", False),
        ("a/./b", False),
    ],
)
def test_paths(path: str, good: bool) -> None:  # noqa: FBT001
    assert notify.is_path(path) == good


def test_a_signature_is_admitted_once() -> None:
    window = ReplayWindow()
    signed = check(GOOD)
    assert isinstance(signed, Signed)
    assert window.admit(signed, NOW) is None
    assert window.admit(signed, NOW + 299) == notify.REPLAYED


@pytest.mark.parametrize(("late", "refused"), [(-60, False), (0, False), (0.9, False), (1, True), (299, True)])
def test_what_was_signed_before_this_process_led_is_refused(late: float, refused: bool) -> None:  # noqa: FBT001
    signed = check(GOOD)
    assert isinstance(signed, Signed)
    outcome = ReplayWindow().admit(signed, NOW + 299, since=NOW + late)
    assert outcome == (notify.BEFORE_LEADING if refused else None)


def test_the_spelling_of_a_signature_does_not_make_it_new() -> None:
    window = ReplayWindow()
    first, *others = [check(header) for header in GOOD_HEADERS.values()]
    assert isinstance(first, Signed)
    assert window.admit(first, NOW) is None
    for other in others:
        assert isinstance(other, Signed)
        assert window.admit(other, NOW) == notify.REPLAYED


def test_a_full_window_refuses_rather_than_forgets() -> None:
    """A signature is forgotten only when its time is refused anyway, else it could be used again."""
    window = ReplayWindow(capacity=2)
    signed = [Signed(bytes([number]), NOW + number) for number in range(4)]
    assert [window.admit(one, NOW) for one in signed[:3]] == [None, None, notify.REMEMBERED_TOO_MANY]
    assert window.admit(signed[2], NOW + 1) is None
    assert window.admit(signed[1], NOW + 1) == notify.REPLAYED
    assert len(window) == 2


def test_memory_suffices_for_the_agreed_rate() -> None:
    """Within ten minutes no more signatures are admitted than are remembered."""
    assert notify.TOTAL_RATE * 2 * notify.TOLERANCE_SECONDS + notify.TOTAL_BURST <= notify.REMEMBERED


def test_a_burst_then_a_rate() -> None:
    limit = RateLimit(rate=2, burst=3)
    assert [limit.admit("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.admit("a", 0.5) for _ in range(2)] == [True, False]
    assert [limit.admit("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_senders_do_not_share_a_bucket() -> None:
    limit = RateLimit(rate=1, burst=1)
    assert limit.admit("a", 0.0)
    assert not limit.admit("a", 0.0)
    assert limit.admit("b", 0.0)


def test_the_sender_seen_longest_ago_is_forgotten() -> None:
    limit = RateLimit(rate=0, burst=1, senders=2)
    for sender in "ab":
        assert limit.admit(sender, 0.0)
    assert not limit.admit("a", 0.0)
    assert limit.admit("c", 0.0)
    assert not limit.admit("a", 0.0)
    assert limit.admit("b", 0.0)


def test_messages_say_what_to_do_and_name_no_store() -> None:
    for refusal in (value for value in vars(notify).values() if isinstance(value, Refusal)):
        assert refusal.status in {400, 401, 409, 429}
        assert len(refusal.message) > 20
        assert "vault" not in refusal.message.lower()
