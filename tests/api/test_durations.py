"""Durations: what people write is read exactly, and written back in its shortest form."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crds.schemas import BINDINGS, STORES, part
from voicekeys.api.durations import format_duration, parse_duration


def _crd_form() -> str:
    """Return the form of a duration that both CRDs have, which is everywhere the same."""
    texts = {
        found
        for plural in (BINDINGS, STORES)
        for node in part(plural, "spec")
        for rule in node.schema.get("x-kubernetes-validations", ())
        for found in re.findall(r"self\.matches\('\^(\(\[0-9\][^']*)\$'\)", rule["rule"])
    }
    (form,) = texts
    return str(form)


_FORM = _crd_form()
_COUNTS = st.tuples(*[st.none() | st.integers(0, 999_999)] * 4)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90d", 90 * 86_400),
        ("36h", 36 * 3_600),
        ("30m", 1_800),
        ("45s", 45),
        ("1h30m", 5_400),
        ("1d1h1m1s", 90_061),
        ("0s", 0),
        ("090m", 5_400),
        ("999999d", 999_999 * 86_400),
    ],
)
def test_durations_that_people_write(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "90", "d", "1.5h", "-1h", "1h 30m", "30m1h", "1h1h", "1w", "1H", "PT1H", "1234567s", "1h\n", "\u0661s", " 1h"],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text)) + r" is not a duration: .* like 90d or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(hours=36), "1d12h"),
        (timedelta(days=90), "90d"),
        (timedelta(seconds=86_399), "23h59m59s"),
    ],
)
def test_the_shortest_form(length: timedelta, text: str) -> None:
    assert format_duration(length) == text


@pytest.mark.parametrize("length", [timedelta(seconds=-1), timedelta(milliseconds=1), timedelta(days=1_000_000)])
def test_what_the_form_cannot_say_is_refused(length: timedelta) -> None:
    with pytest.raises(ValueError, match="whole seconds from 0s to 999999d"):
        format_duration(length)


@given(st.timedeltas(timedelta(), timedelta(days=999_999)).map(lambda length: timedelta(length.days, length.seconds)))
def test_every_length_survives_its_text(length: timedelta) -> None:
    assert parse_duration(format_duration(length)) == length


@given(_COUNTS)
def test_every_sum_is_read_as_its_parts_say(counts: tuple[int | None, ...]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in zip(counts, "dhms", strict=True) if count is not None)
    days, hours, minutes, seconds = (count or 0 for count in counts)
    if text:
        expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        assert parse_duration(text) == expected


@given(st.from_regex(r"\A([0-9]{0,8}[dhmsw]?){0,5}\Z") | st.text(max_size=12))
def test_the_crds_and_the_parser_agree_on_what_a_duration_is(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError:
        assert not (text and re.fullmatch(_FORM, text, re.ASCII))
    else:
        assert re.fullmatch(_FORM, text, re.ASCII)
