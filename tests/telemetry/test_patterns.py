"""What looks like a credential goes without being registered; what only resembles one stays."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from voicekeys.telemetry.patterns import MASK, RULES, clean

if TYPE_CHECKING:
    from collections.abc import Callable

A32, A40 = "aB3" * 11, "aB3-" * 10
JWT = f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.{A40}"

# rule: (line, what must be gone)
CREDENTIALS = {
    "vault token": (f"token hvs.{A32} used", f"hvs.{A32}"),
    "old vault token": ("token s.aB3aB3aB3aB3aB3aB3aB3aB3 used", "s.aB3aB3aB3aB3aB3aB3aB3aB3"),
    "jwt": (f"login with {JWT} failed", JWT),
    "authorization header": ("headers {'Authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
    "bearer token": ("sent Bearer abcdefghijklmnop0123", "abcdefghijklmnop0123"),
    "named field": ('{"auth": {"client_token": "abc-def"}}', "abc-def"),
    "password in a URL": ("GET https://bob:hunter22@vault:8200/v1", "hunter22"),
    "private key block": ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "MIIabc"),
    "sk key": ("using sk_live_4f9a2c77d0e1b83c55aa now", "4f9a2c77d0e1b83c55aa"),
    "twilio api key": ("using SK0123456789abcdef0123456789abcdef", "SK0123456789abcdef0123456789abcdef"),
    "google api key": (f"using AIza{'x1Y-_' * 7}", "x1Y-_x1Y"),
    "aws access key": ("using AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
    "github token": ("using ghp_aB3aB3aB3aB3aB3aB3aB3aB3", "ghp_aB3"),
    "slack token": ("using xoxb-123456789012-abc", "xoxb-123456789012"),
}

MORE = (
    ("Authorization: Bearer abc.def", "abc.def"),
    ('{"headers": {"authorization": "Token 123abc"}}', "123abc"),
    (json.dumps({"event": json.dumps({"Authorization": "Bearer abcdef"})}), "abcdef"),
    ("X-Vault-Token='abcdef'", "abcdef"),
    (json.dumps({"event": repr({"secret_id": "0f-1e-2d"})}), "0f-1e-2d"),
    ("POST /login?api_key=abc123&x=1", "abc123"),
    (f'"hvb.{A32}"', A32),
    ("-----BEGIN PRIVATE KEY-----\\nMIIcut", "MIIcut"),
)

HARMLESS = (
    "a key of version 7 was read, its token is renewed at 2/3 of the lease",
    "digest 0123456789abcdef0123456789abcdef, fingerprint fedcba9876543210fedcba9876543210",
    "uid 3f0c6f1e-7a53-4c53-8d0b-3e6c1f6d2a11 in pods.voice.svc.cluster.local",
    '{"secret": "frejun-api-key", "namespace": "voice-prod", "key": {"version": 7}}',
    "https://vault.example:8200/v1/secret/data/voice and voicekeys.dev/key.frejun@sha256",
    "task-force risk_of_something_long_in_words sk_",
    "authorization: ",
)


@pytest.mark.parametrize("rule", CREDENTIALS)
def test_a_credential_goes(rule: str) -> None:
    line, value = CREDENTIALS[rule]
    assert value in line
    cleaned = clean(line)
    assert value not in cleaned
    assert MASK in cleaned


@pytest.mark.parametrize(("line", "value"), MORE)
def test_it_goes_in_other_spellings(line: str, value: str) -> None:
    assert value in line
    assert value not in clean(line)


@pytest.mark.parametrize("line", HARMLESS)
def test_ordinary_text_stays(line: str) -> None:
    assert clean(line) == line


def test_every_rule_has_a_case_of_its_own() -> None:
    """Each rule alone catches its case: none is covered by another one only."""
    assert {rule.name for rule in RULES} == set(CREDENTIALS)
    for rule in RULES:
        line, value = CREDENTIALS[rule.name]
        assert any(trigger in (line.lower() if rule.insensitive else line) for trigger in rule.triggers)
        assert value not in rule.clean(line), rule.name


def test_the_name_in_front_stays_readable() -> None:
    assert clean('{"client_token": "abc-def", "lease": 60}') == f'{{"client_token": "{MASK}", "lease": 60}}'
    assert clean("Authorization: Bearer abc.def next") == f"Authorization: {MASK} next"
    assert clean("https://bob:hunter22@vault/v1") == f"https://bob:{MASK}@vault/v1"


HARD = (
    *("a", "://", "authorization ", "authorization:", "eyJ", "sk-", "sk_", "password='", "\\", "s."),
    "-----BEGIN PRIVATE KEY-----",
)


@pytest.mark.parametrize("piece", HARD)
def test_no_line_takes_long(piece: str) -> None:
    """Nobody can stop the event loop with a line that makes an expression go back and forth."""
    line = (piece * 16_384)[:16_384]
    start = time.process_time()
    clean(line)
    clean("password " + line)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("wrap", [json.dumps, lambda text: json.dumps(json.dumps(text))])
def test_json_stays_json(wrap: Callable[[str], str]) -> None:
    for line, _ in (*CREDENTIALS.values(), *MORE):
        json.loads(clean(wrap(line)))
