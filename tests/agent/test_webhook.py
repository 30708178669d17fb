"""Signatures of callbacks: published examples, every way to be wrong, nothing told to a forger."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicekeys.agent import (
    TELER,
    TWILIO,
    BadSignature,
    HmacProfile,
    MissingSignature,
    Replayed,
    ReplayWindow,
    Stale,
    WebhookError,
    verify_webhook,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET = "whsec_of-this-test"
BODY = b'{"event":"call.ended","\xc3\xa4":1}'
NOW = 1_800_000_000.0


def teler(body: bytes = BODY, *, at: float = NOW, secret: str = SECRET) -> dict[str, str]:
    stamp = str(int(at))
    signature = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Teler-Signature": signature, "X-Teler-Timestamp": stamp}


def check(headers: dict[str, str], body: bytes = BODY, **more: Any) -> None:
    verify_webhook(more.pop("profile", TELER), more.pop("secrets", SECRET), headers, body, now=NOW, **more)


def test_a_genuine_callback_passes() -> None:
    check(teler())
    check({name.lower(): value for name, value in teler().items()})
    check({name.upper(): value for name, value in teler().items()})
    check({**teler(), "X-Teler-Signature": teler()["X-Teler-Signature"].upper()})


@pytest.mark.parametrize(
    "secrets", [SECRET, SECRET.encode(), [SECRET], ["old", SECRET], (SECRET, b"new"), iter([SECRET])]
)
def test_any_of_several_secrets_is_enough_while_one_takes_over(secrets: Any) -> None:
    check(teler(), secrets=secrets)


@pytest.mark.parametrize("secrets", ["", [], [SECRET, ""], b"", iter([])])
def test_an_empty_secret_is_a_mistake_of_ours_and_lets_nobody_in(secrets: Any) -> None:
    with pytest.raises(ValueError, match="missing or empty"):
        check(teler(secret=""), secrets=secrets)


@pytest.mark.parametrize("away", [-300, 0, 300])
def test_within_the_tolerance_it_is_fresh(away: float) -> None:
    check(teler(at=NOW + away))


@pytest.mark.parametrize("away", [-301, 301, -1e9])
def test_beyond_it_is_stale(away: float) -> None:
    with pytest.raises(Stale):
        check(teler(at=NOW + away))


def test_a_forger_is_not_told_that_he_is_late() -> None:
    with pytest.raises(BadSignature):
        check(teler(at=NOW - 9999, secret="guess"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"X-Teler-Signature": None}, MissingSignature),
        ({"X-Teler-Signature": ""}, MissingSignature),
        ({"X-Teler-Timestamp": None}, MissingSignature),
        ({"X-Teler-Timestamp": "soon"}, MissingSignature),
        ({"X-Teler-Timestamp": "-5"}, MissingSignature),
        ({"X-Teler-Timestamp": "1e9"}, MissingSignature),
        ({"X-Teler-Timestamp": "٣"}, MissingSignature),
        ({"X-Teler-Timestamp": "9" * 400}, MissingSignature),
        ({"X-Teler-Timestamp": str(int(NOW) + 1)}, BadSignature),
        ({"X-Teler-Signature": "00"}, BadSignature),
        ({"X-Teler-Signature": "no hex"}, BadSignature),
        ({"X-Teler-Signature": "é" * 64}, BadSignature),
    ],
)
def test_what_is_wrong_with_a_header(changes: dict[str, str | None], error: type[WebhookError]) -> None:
    headers = {name: value for name, value in {**teler(), **changes}.items() if value is not None}
    with pytest.raises(error):
        check(headers)


@given(st.binary(max_size=50), st.integers(0, 1000), st.integers(1, 255))
def test_a_single_changed_bit_is_seen(body: bytes, at: int, change: int) -> None:
    content = BODY + body
    headers = teler(content)
    check(headers, content)
    changed = bytearray(content)
    changed[at % len(content)] ^= change
    with pytest.raises(BadSignature):
        check(headers, bytes(changed))


@given(st.dictionaries(st.sampled_from(["X-Teler-Signature", "X-Teler-Timestamp", "X"]), st.text(max_size=80)))
def test_headers_of_any_kind_are_refused_and_break_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(WebhookError):
        check(headers)


def test_a_body_may_look_like_a_template() -> None:
    body = b"{body}{timestamp}.{body}"
    check(teler(body), body)


@pytest.mark.parametrize(
    ("profile", "text", "digest"),
    [
        (replace(TELER, encoding="base64"), b"%d.%b", hashlib.sha256),
        (
            replace(TELER, payload="{timestamp}|POST|https://agent.example/cb|{body}"),
            b"%d|POST|https://agent.example/cb|%b",
            hashlib.sha256,
        ),
        (replace(TELER, digest="sha512"), b"%d.%b", hashlib.sha512),
        (replace(TELER, prefix="v1="), b"%d.%b", hashlib.sha256),
    ],
)
def test_the_profile_can_be_changed_for_sources_disagree(profile: HmacProfile, text: bytes, digest: Any) -> None:
    raw = hmac.new(SECRET.encode(), text % (int(NOW), BODY), digest).digest()
    signature = base64.b64encode(raw).decode() if profile.encoding == "base64" else raw.hex()
    headers = {"X-Teler-Signature": profile.prefix + signature, "X-Teler-Timestamp": str(int(NOW))}
    check(headers, profile=profile)
    with pytest.raises(BadSignature):
        check(headers, BODY + b" ", profile=profile)


def test_a_generic_signature_without_a_timestamp() -> None:
    """GitHub's published example: https://docs.github.com/webhooks, "Testing the webhook payload validation"."""
    profile = HmacProfile("X-Hub-Signature-256", payload="{body}", prefix="sha256=")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    verify_webhook(profile, "It's a Secret to Everybody", {"X-Hub-Signature-256": signature}, b"Hello, World!")


# ---- Twilio

TOKEN = "12345"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
PARAMS = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
PUBLISHED = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
"""Of exactly these: the example of Twilio's own libraries and documentation."""


def twilio(url: str, params: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    text = url + "".join(name + value for name, value in params)
    return {"X-Twilio-Signature": base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), "sha1")).decode()}


def check_twilio(headers: dict[str, str], url: str = URL, **more: Any) -> None:
    verify_webhook(TWILIO, more.pop("secrets", TOKEN), headers, more.pop("body", b""), url=url, **more)


def test_twilio_s_published_example_passes() -> None:
    check_twilio({"X-Twilio-Signature": PUBLISHED}, params=PARAMS)
    check_twilio({"x-twilio-signature": PUBLISHED}, params=PARAMS, secrets=["other", TOKEN])


@pytest.mark.parametrize(
    "change",
    [
        {"params": {**PARAMS, "Digits": "12345"}},
        {"params": {**PARAMS, "More": ""}},
        {"params": None},
        {"params": PARAMS, "url": URL + "&x=1"},
        {"params": PARAMS, "url": "http://mycompany.com/myapp.php?foo=1&bar=2"},
        {"params": PARAMS, "secrets": "54321"},
    ],
)
def test_twilio_s_with_anything_changed_does_not(change: dict[str, Any]) -> None:
    with pytest.raises(BadSignature):
        check_twilio({"X-Twilio-Signature": PUBLISHED}, change.pop("url", URL), **change)


@pytest.mark.parametrize(
    ("signed", "seen"),
    [
        ("https://a.example/x", "https://a.example:443/x"),
        ("https://a.example:443/x", "https://a.example/x"),
        ("http://a.example:80/x", "http://a.example/x"),
        ("https://a.example:8443/x", "https://a.example:8443/x"),
        ("https://a.example/x", "https://a.example:8443/x"),
        ("https://user:pass@a.example/x", "https://user:pass@a.example:443/x"),
        ("https://[::1]/x", "https://[::1]:443/x"),
    ],
)
def test_a_port_that_goes_without_saying_may_be_said(signed: str, seen: str) -> None:
    check_twilio(twilio(signed), seen)


def test_repeated_parameters_are_taken_once_each_and_sorted() -> None:
    headers = twilio(URL, [("A", "1"), ("A", "2"), ("B", "x")])
    check_twilio(headers, params={"B": "x", "A": ["2", "1", "2"]})


def test_a_json_body_is_vouched_for_by_its_hash_in_the_url() -> None:
    url = f"{URL}&bodySHA256={hashlib.sha256(BODY).hexdigest()}"
    check_twilio(twilio(url), url, body=BODY)
    with pytest.raises(BadSignature, match="body"):
        check_twilio(twilio(url), url, body=BODY + b" ")
    with pytest.raises(BadSignature, match="body"):
        check_twilio(twilio(URL), URL, body=BODY)


@pytest.mark.parametrize("headers", [{}, {"X-Twilio-Signature": ""}])
def test_twilio_without_a_signature(headers: dict[str, str]) -> None:
    with pytest.raises(MissingSignature):
        check_twilio(headers, params=PARAMS)


@pytest.mark.parametrize("url", ["https://a:99999/", "https://a:x/", "https://[::1/", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadSignature):
        check_twilio(twilio(url), url or "nothing")


@given(st.text(max_size=60))
def test_any_url_is_refused_and_breaks_nothing(url: str) -> None:
    with pytest.raises(WebhookError):
        check_twilio({"X-Twilio-Signature": PUBLISHED}, url, params=PARAMS)


# ---- replays


def test_what_was_taken_once_is_not_taken_again() -> None:
    window = ReplayWindow()
    check(teler(), replay=window)
    for again in (teler(), {**teler(), "X-Teler-Signature": teler()["X-Teler-Signature"].upper()}):
        with pytest.raises(Replayed):
            check(again, replay=window)
    check(teler(at=NOW + 1), replay=window)


def test_what_was_refused_is_not_remembered() -> None:
    window = ReplayWindow()
    with pytest.raises(BadSignature):
        check(teler(secret="guess"), replay=window)
    assert len(window) == 0


def test_a_window_forgets_after_its_time_and_is_bounded() -> None:
    window = ReplayWindow(seconds=10.0, size=3)
    assert window.admit(b"a", 0.0)
    assert not window.admit(b"a", 9.9)
    assert window.admit(b"a", 10.0)
    for number in range(100):
        assert window.admit(b"%d" % number, 11.0)
    assert len(window) == 3


def test_of_many_threads_with_one_callback_one_gets_in() -> None:
    window = ReplayWindow()
    taken: list[int] = []
    start = threading.Barrier(8)

    def take(number: int) -> None:
        start.wait()
        if window.admit(b"one", NOW):
            taken.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_no_error_tells_a_secret_or_a_signature() -> None:
    right = teler()["X-Teler-Signature"]
    wrong = {**teler(), "X-Teler-Signature": "ab" * 32}
    for headers, body in [(wrong, BODY), (teler(), b"other"), ({}, BODY), (teler(at=NOW - 999), BODY)]:
        with pytest.raises(WebhookError) as caught:
            check(headers, body)
        told = repr(caught.value) + str(caught.value)
        assert SECRET not in told
        assert right not in told
        assert "ab" * 32 not in told
        assert caught.value.__cause__ is None
