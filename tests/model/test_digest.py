"""Keyed digests: equal data can be compared, nothing can be guessed, no boundary can be moved."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.model.digest import DIGEST_LENGTH, Digester
from voicekeys.model.payload import Payload

OTHER = Digester(b"another fingerprint key, 32 bytes")
_VALUES = st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=3)


@given(one=_VALUES, other=_VALUES)
def test_digests_of_data_are_equal_when_the_data_is(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    first, second = gen.DIGESTER.of_payload(Payload(one)), gen.DIGESTER.of_payload(Payload(other))
    assert (first == second) == (one == other)
    assert first == gen.DIGESTER.of_payload(Payload(dict(reversed(one.items()))))


@given(one=_VALUES, other=_VALUES)
def test_fingerprints_are_equal_when_the_values_are_whatever_they_are_called(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    same = sorted(one.values()) == sorted(other.values())
    assert (gen.DIGESTER.of_key(Payload(one)) == gen.DIGESTER.of_key(Payload(other))) == same


def test_boundaries_between_names_and_values_count() -> None:
    pairs = [{"a": b"bc"}, {"ab": b"c"}, {"a": b"b", "c": b""}, {"a": b"", "bc": b""}]
    assert len({gen.DIGESTER.of_payload(Payload(values)) for values in pairs}) == len(pairs)


def test_the_kinds_of_digest_never_meet() -> None:
    """The same bytes as data, as a key and as a value: three digests, so that one kind says nothing of another."""
    data = gen.payload(a="1")
    digests = {gen.DIGESTER.of_payload(data), gen.DIGESTER.of_key(data), gen.DIGESTER.of_value(b"1")}
    assert len(digests) == 3


def test_values_one_by_one() -> None:
    assert gen.DIGESTER.of_values(gen.payload(a="1", b="1")) == dict.fromkeys("ab", gen.DIGESTER.of_value(b"1"))


def test_another_fingerprint_key_gives_other_digests() -> None:
    data = gen.payload(a="1")
    assert gen.DIGESTER.of_payload(data) != OTHER.of_payload(data)
    assert gen.DIGESTER.of_key(data) != OTHER.of_key(data)
    assert gen.DIGESTER.of_value(b"1") != OTHER.of_value(b"1")
    assert gen.DIGESTER.key_id != OTHER.key_id


def test_the_form_of_a_digest() -> None:
    made = gen.DIGESTER.of_payload(gen.payload(a="1"))
    assert len(made) == DIGEST_LENGTH == 32
    assert set(made) <= set(string.hexdigits.lower())
    assert len(gen.DIGESTER.key_id) == 8


def test_digests_stay_the_same_over_releases() -> None:
    """A change here would restart every agent of every user at the next upgrade."""
    data = gen.payload(API_KEY="frejun", URL="https://api.example.com")
    assert gen.DIGESTER.key_id == "d3b145c4"
    assert gen.DIGESTER.of_payload(data) == "2d047bd494ede80847924fbc9b56ad7e"
    assert gen.DIGESTER.of_key(data) == "6e80f3e168a8c6377954751846d1c55d"
    assert gen.DIGESTER.of_value(b"frejun") == "671b3410bff0ab9cb327f20f364a24f5"


def test_a_digester_shows_nothing_of_its_key() -> None:
    assert repr(gen.DIGESTER) == "Digester()"


def test_digests_of_another_key_are_foreign_and_none_are_not() -> None:
    assert gen.DIGESTER.is_foreign(OTHER.key_id)
    assert not gen.DIGESTER.is_foreign(gen.DIGESTER.key_id)
    assert not gen.DIGESTER.is_foreign(None)
