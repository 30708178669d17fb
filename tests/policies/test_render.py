"""From a key's fields to a Secret's data, and every way in which that can be wrong."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.model.errors import Terminal
from voicekeys.model.payload import KeyVersion, Payload
from voicekeys.policies.render import MAX_SECRET_BYTES, render

PATH = "voice/production/frejun"


def made(key: KeyVersion, **target: object) -> dict[str, bytes]:
    rendered = render(gen.target(**target), key, PATH)
    return {name: rendered.reveal(name) for name in rendered}


RENDERED = {
    "every field as it is": (gen.key(api_key="a", url="b"), {}, {"api_key": b"a", "url": b"b"}),
    "selected and renamed": (gen.key(api_key="a", url="b"), {"data": {"KEY": "api_key"}}, {"KEY": b"a"}),
    "one field under two names": (gen.key(k="a"), {"data": {"A": "k", "B": "k"}}, {"A": b"a", "B": b"a"}),
    "bytes stay bytes": (gen.key(k=b"\x00\xff"), {}, {"k": b"\x00\xff"}),
    "base64 is decoded by the Secret's name": (
        gen.key(k="AP8=", plain="AP8="),
        {"data": {"K": "k", "P": "plain"}, "base64Decode": ["K"]},
        {"K": b"\x00\xff", "P": b"AP8="},
    ),
    "base64 in lines, as tools print it": (gen.key(k="AP\n8=\n"), {"base64Decode": ["k"]}, {"k": b"\x00\xff"}),
    "a name that starts with one dot": (gen.key(k="a"), {"data": {".env": "k"}}, {".env": b"a"}),
    "a name of 253 characters": (gen.key(k="a"), {"data": {"n" * 253: "k"}}, {"n" * 253: b"a"}),
    "one MiB, names not counted": (gen.key(k=b"x" * MAX_SECRET_BYTES), {}, {"k": b"x" * MAX_SECRET_BYTES}),
}


@pytest.mark.parametrize(("key", "target", "data"), RENDERED.values(), ids=RENDERED)
def test_a_key_makes_data(key: KeyVersion, target: dict[str, object], data: dict[str, bytes]) -> None:
    assert made(key, **target) == data


NAME = "cannot be a Secret's key (letters, digits, '-', '_', '.', but no '..' at the start): rename it with "
BASE64 = "is not base64, as spec.target.base64Decode says of k: encode it in Vault, or take it out of base64Decode"
WHERE = f"version 7 of {PATH}"
REFUSED = {
    "no fields at all": (
        KeyVersion(7, gen.NOW, Payload({})),
        {},
        "KeyEmpty",
        f"{WHERE} has no fields: put the key's fields into it",
    ),
    "a field that is not there": (
        gen.key(api_key="a", url="b"),
        {"data": {"KEY": "apikey", "U": "url", "Z": "also"}},
        "FieldMissing",
        f"{WHERE} has no field also, apikey (it has: api_key, url): add it in Vault, or change spec.target.data",
    ),
    "a field of a key that has none": (
        KeyVersion(7, gen.NOW, Payload({})),
        {"data": {"KEY": "k"}},
        "FieldMissing",
        f"{WHERE} has no field k (it has: none): add it in Vault, or change spec.target.data",
    ),
    "an empty field": (
        gen.key(k=""),
        {},
        "FieldEmpty",
        f"field k in {WHERE} is empty: put the key into it, or leave the field out",
    ),
    "base64 of nothing": (
        gen.key(k=" \n"),
        {"base64Decode": ["k"]},
        "FieldEmpty",
        f"field k in {WHERE} is empty: put the key into it, or leave the field out",
    ),
    "no base64": (gen.key(k="%%"), {"base64Decode": ["k"]}, "InvalidBase64", f"field k in {WHERE} {BASE64}"),
    "base64 cut short": (gen.key(k="AP8"), {"base64Decode": ["k"]}, "InvalidBase64", f"field k in {WHERE} {BASE64}"),
    "base64 that is no text": (
        gen.key(k=b"\xff\xfe"),
        {"base64Decode": ["k"]},
        "InvalidBase64",
        f"field k in {WHERE} {BASE64}",
    ),
    **{
        f"a name that is {what}": (
            KeyVersion(7, gen.NOW, gen.payload(**{name: "a"})),
            {},
            "InvalidSecretKey",
            f"field {name[:64]!r} in {WHERE} {NAME}spec.target.data",
        )
        for what, name in {
            "no Secret key": "api key",
            "in other letters": "clé",
            "a dot": ".",
            "two dots": "..",
            "two dots and more": "..data",
            "a character too long": "n" * 254,
        }.items()
    },
    "a byte over one MiB": (
        gen.key(k=b"x" * MAX_SECRET_BYTES, more="x"),
        {},
        "SecretTooLarge",
        (
            f"{WHERE} makes a Secret of 1048577 bytes, more than the 1048576 that Kubernetes allows: "
            "select fewer fields with spec.target.data"
        ),
    ),
}


@pytest.mark.parametrize(("key", "target", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_a_key_that_cannot_be_used(key: KeyVersion, target: dict[str, object], reason: str, message: str) -> None:
    with pytest.raises(Terminal) as refused:
        made(key, **target)
    assert (refused.value.reason, refused.value.message) == (reason, message)


@given(values=st.dictionaries(st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True), st.binary(min_size=1), min_size=1))
def test_what_is_encoded_in_vault_comes_out_decoded(values: dict[str, bytes]) -> None:
    fields = {name: base64.b64encode(value) for name, value in values.items()}
    encoded = KeyVersion(7, gen.NOW, Payload(fields))
    assert made(encoded, base64Decode=list(values)) == values
