"""Every comparison of a secret takes constant time: `hmac.compare_digest` alone decides, and sees the secret's side.

Where it says no, the genuine one is refused: nothing else lets it in. Where it says yes, the forged one gets in:
nothing else has looked at it before, that may stop at the first byte which differs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from voicekeys.agent import TELER, TWILIO, BadSignature, HmacProfile, Key, verify_webhook
from voicekeys.agent.contract import BASE, Malformed, has_token, parse_head, route

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRETS = ("secret-before", "secret-of-now")
TOKEN = "token-of-the-workload"
BODY = b'{"event":"call.ended"}'
NOW = 1_800_000_000
URL = "https://agent.example/callback"
PARAMS = {"CallSid": "CA1", "From": "+14158675309"}

Pair = tuple[Any, Any]


class Comparisons:
    """Stands in for `hmac.compare_digest`: notes what it is given, and says what it is told to."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.says: bool | None = None
        self._real = hmac.compare_digest

    def __call__(self, left: Any, right: Any) -> bool:
        self.pairs.append((left, right))
        return self._real(left, right) if self.says is None else self.says

    def saw(self, *sides: bytes) -> bool:
        """Whether one comparison was of just these two."""
        return any({left, right} == set(sides) for left, right in self.pairs)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Comparisons:
    """Every comparison in constant time from now on."""
    found = Comparisons()
    monkeypatch.setattr(hmac, "compare_digest", found)
    return found


# ---- the drain token


def is_let_in(token: str, header: str = "X-Voicekeys-Token: ") -> bool:
    head = f"GET {BASE}drain HTTP/1.1\r\nHost: a\r\n{header}{token}\r\n\r\n"
    try:
        route(parse_head(head.encode()), TOKEN)
    except Malformed:
        return False
    return True


@pytest.mark.parametrize("header", ["X-Voicekeys-Token: ", "Authorization: Bearer "])
def test_the_drain_token(compared: Comparisons, header: str) -> None:
    wrong = TOKEN[:-1] + "x"
    assert is_let_in(TOKEN, header)
    assert compared.saw(TOKEN.encode())
    assert not is_let_in(wrong, header)
    assert compared.saw(wrong.encode(), TOKEN.encode())
    compared.says = False
    assert not is_let_in(TOKEN, header)
    compared.says = True
    assert is_let_in(wrong, header)


def test_both_headers_are_compared_whichever_fits(compared: Comparisons) -> None:
    """How long the answer takes does not tell which of them was near."""
    for headers in (
        {"authorization": f"Bearer {TOKEN}", "x-voicekeys-token": "other"},
        {"authorization": "Bearer other", "x-voicekeys-token": TOKEN},
        {},
    ):
        compared.pairs.clear()
        assert has_token(headers, TOKEN) is bool(headers)
        assert [right for _, right in compared.pairs] == [TOKEN.encode()] * 2


# ---- callbacks of providers


class Case(NamedTuple):
    """A callback that its provider signed with the second of `SECRETS`.

    Args:
        profile: how it is verified.
        macs: what each secret gives.
        headers: of the request, for a signature.
        more: for `verify_webhook`.
    """

    profile: Any
    macs: tuple[bytes, ...]
    headers: Callable[[bytes], dict[str, str]]
    more: dict[str, Any]


def macs(message: bytes, digest: str) -> tuple[bytes, ...]:
    return tuple(hmac.new(secret.encode(), message, digest).digest() for secret in SECRETS)


FORM = URL.encode() + b"CallSidCA1From+14158675309"
JSON_URL = f"{URL}?bodySHA256={hashlib.sha256(BODY).hexdigest()}"
GENERIC = HmacProfile("X-Hub-Signature-256", payload="{body}", prefix="sha256=")
CASES = {
    "Teler": Case(
        TELER,
        macs(b"%d." % NOW + BODY, "sha256"),
        lambda mac: {"X-Teler-Signature": mac.hex(), "X-Teler-Timestamp": str(NOW)},
        {"body": BODY},
    ),
    "Twilio, a form": Case(
        TWILIO,
        macs(FORM, "sha1"),
        lambda mac: {"X-Twilio-Signature": base64.b64encode(mac).decode()},
        {"url": URL, "params": PARAMS},
    ),
    "Twilio, JSON": Case(
        TWILIO,
        macs(JSON_URL.encode(), "sha1"),
        lambda mac: {"X-Twilio-Signature": base64.b64encode(mac).decode()},
        {"url": JSON_URL, "body": BODY},
    ),
    "generic, hex": Case(
        GENERIC,
        macs(BODY, "sha256"),
        lambda mac: {"X-Hub-Signature-256": f"sha256={mac.hex()}"},
        {"body": BODY},
    ),
    "generic, base64 and SHA-512": Case(
        replace(GENERIC, encoding="base64", digest="sha512", prefix=""),
        macs(BODY, "sha512"),
        lambda mac: {"X-Hub-Signature-256": base64.b64encode(mac).decode()},
        {"body": BODY},
    ),
}


def is_believed(case: Case, signature: bytes) -> bool:
    try:
        verify_webhook(case.profile, SECRETS, case.headers(signature), now=NOW, **case.more)
    except BadSignature:
        return False
    return True


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_signature_of_a_callback(compared: Comparisons, case: Case) -> None:
    genuine = case.macs[1]
    forged = genuine[:-1] + bytes([genuine[-1] ^ 1])
    assert is_believed(case, genuine)
    assert compared.saw(genuine)
    assert not is_believed(case, forged)
    assert compared.saw(forged, genuine)
    compared.says = False
    assert not is_believed(case, genuine)
    compared.says = True
    assert is_believed(case, forged)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("which", [0, 1])
def test_every_secret_is_compared_whichever_fits(compared: Comparisons, case: Case, which: int) -> None:
    assert is_believed(case, case.macs[which])
    for mac in case.macs:
        assert compared.saw(case.macs[which], mac)


def test_the_hash_of_a_body_that_a_url_vouches_for(compared: Comparisons) -> None:
    assert is_believed(CASES["Twilio, JSON"], CASES["Twilio, JSON"].macs[0])
    assert compared.saw(hashlib.sha256(BODY).hexdigest().encode())


# ---- a key that is read again


def test_whether_a_key_in_a_file_is_another_one(compared: Comparisons, tmp_path: Path) -> None:
    file = tmp_path / "api_key"
    file.write_bytes(b"key-one")
    key = Key(file, check=0.0)
    assert key.value() == "key-one"
    file.write_bytes(b"key-other")
    assert key.value() == "key-other"
    assert compared.saw(b"key-one", b"key-other")
