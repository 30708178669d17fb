"""The checker itself: it finds what is planted, in every encoding, and nothing else."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.parse

import pytest

from tests.telemetry.canary import Canary

SECRET = "sk_live/4f9a+2c77=d0e1&päß\"'\n"
CANARY = Canary({"frejun": SECRET})

PLANTED = {
    "plain": SECRET,
    "JSON": json.dumps({"key": SECRET}),
    "JSON as UTF-8": json.dumps({"key": SECRET}, ensure_ascii=False),
    "JSON in JSON": json.dumps(json.dumps({"key": SECRET})),
    "repr": repr({"key": SECRET}),
    "repr of bytes": repr(SECRET.encode()),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 one byte in": base64.b64encode(b"x" + SECRET.encode() + b"yy").decode(),
    "base64 two bytes in": base64.b64encode(b"xy" + SECRET.encode() + b"z").decode(),
    "base64url": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "JSON in base64": base64.b64encode(json.dumps({"key": SECRET}).encode()).decode(),
    "URL path": urllib.parse.quote(SECRET),
    "URL query": urllib.parse.urlencode({"key": SECRET}),
}


@pytest.mark.parametrize("channel", PLANTED)
def test_finds_what_is_planted(channel: str) -> None:
    leaks = CANARY.find(f"before {PLANTED[channel]} after")
    assert leaks
    assert {leak.secret for leak in leaks} == {"frejun"}


def test_finds_it_in_bytes() -> None:
    assert CANARY.find(b"\xff" + SECRET.encode())


@pytest.mark.parametrize("seed", range(50))
def test_finds_random_bytes(seed: int) -> None:
    value = secrets.token_bytes(12 + seed)
    canary = Canary({"random": value})
    for lead in (b"", b"x", b"xy"):
        assert canary.find(base64.b64encode(lead + value + b"!"))
        assert canary.find(base64.urlsafe_b64encode(lead + value + b"!"))
    assert canary.find(urllib.parse.quote(value))
    assert canary.find(repr(value))


def test_stays_quiet_without_a_leak() -> None:
    other = base64.b64encode(b"sk_live/other").decode()
    assert (
        CANARY.find(f'{{"event": "applied", "digest": "0123456789abcdef", "note": "sk_live/…", "x": "{other}"}}') == []
    )


def test_findings_and_repr_do_not_show_the_value() -> None:
    assert CANARY.find(repr(CANARY)) == []
    assert CANARY.find(repr(CANARY.find(SECRET))) == []


def test_refuses_secrets_too_short_to_tell() -> None:
    with pytest.raises(ValueError, match="fewer than 6 bytes"):
        Canary({"pin": "1234"})
