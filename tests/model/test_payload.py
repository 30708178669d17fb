"""No way of looking at a payload shows a value."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gen
from voicekeys.model.errors import Terminal
from voicekeys.model.payload import KeyVersion, Payload
from voicekeys.policies.render import render

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = gen.payload(api_key=gen.CANARY, other="x")
KEY = KeyVersion(7, gen.NOW, PAYLOAD)


def _logged(value: object) -> str:
    stream = io.StringIO()
    logger = logging.Logger("canary")  # noqa: LOG001 -- on its own, so that no other handler sees it
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("here is %s and %r", value, value)
    return stream.getvalue()


SHOWN: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": format,
    "f-string": lambda value: f"{value} {value!r} {value!s}",
    "percent": lambda value: "%s %r" % (value, value),  # noqa: UP031
    "str.format": lambda value: "{} {!r}".format(value, value),  # noqa: UP032
    "in a container": lambda value: repr([value, {"k": value}]),
    "in an exception": lambda value: repr(ValueError(value)) + str(ValueError(value)),
    "pprint": pprint.pformat,
    "a log line": _logged,
    "its names": lambda value: repr(list(value.fields if isinstance(value, KeyVersion) else value)),
    "dir": lambda value: repr(dir(value)),
}


@pytest.mark.parametrize("value", [PAYLOAD, KEY], ids=["payload", "key"])
@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_shown_without_values(value: object, show: Callable[[Any], str]) -> None:
    assert not leaks(show(value))


REFUSED: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "copy.copy": lambda value: copy.copy(value.fields if isinstance(value, KeyVersion) else value),
    "copy.deepcopy": copy.deepcopy,
    "vars": vars,
    "json": json.dumps,
    "orjson": lambda value: orjson.dumps(value.fields if isinstance(value, KeyVersion) else value),
    "dataclasses.asdict": lambda value: dataclasses.asdict(value if isinstance(value, KeyVersion) else KEY),
    "getstate": lambda value: (value.fields if isinstance(value, KeyVersion) else value).__getstate__(),
    "hash": hash,
}


@pytest.mark.parametrize("value", [PAYLOAD, KEY], ids=["payload", "key"])
@pytest.mark.parametrize("act", REFUSED.values(), ids=REFUSED)
def test_refused_without_values(value: object, act: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError) as refused:
        act(value)
    assert not leaks(with_locals(refused.value))


def test_a_traceback_with_variables_shows_no_value() -> None:
    with pytest.raises(KeyError) as refused:
        PAYLOAD.reveal("absent")
    assert not leaks(with_locals(refused.value))


FAULTS = {
    "a missing field": (KEY, {"data": {"K": "absent"}}),
    "an empty field beside the key": (gen.key(api_key=gen.CANARY, empty=""), {}),
    "a key that is not base64": (gen.key(api_key=f"%{gen.CANARY}"), {"base64Decode": ["api_key"]}),
    "a name that is no Secret's": (KeyVersion(7, gen.NOW, Payload({"api_key": gen.CANARY.encode(), "a b": b"x"})), {}),
    "too much": (gen.key(api_key=gen.CANARY, more="x" * 2**20), {}),
}


@pytest.mark.parametrize(("key", "target"), FAULTS.values(), ids=FAULTS)
def test_a_failed_rendering_shows_no_value(key: KeyVersion, target: dict[str, object]) -> None:
    with pytest.raises(Terminal) as refused:
        render(gen.target(**target), key, "voice/frejun")
    assert not leaks(with_locals(refused.value))


def with_locals(error: BaseException) -> str:
    """A traceback with the variables of its frames, but for those of tests: they hold the value by intent."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "/tests/" not in frame.f_code.co_filename]
    held = [
        f"{frame.f_code.co_name}: {name} = {_shown(value)}"
        for frame in frames
        for name, value in frame.f_locals.items()
    ]
    return "\n".join([*held, *traceback.format_exception(error)])


def _shown(value: object) -> str:
    try:
        return repr(value)
    except AttributeError:
        return f"a half-made {type(value).__name__}"


def leaks(text: str) -> list[str]:
    """Forms of the canary that a text holds."""
    raw = gen.CANARY.encode()
    forms = {"plain": gen.CANARY, "url": quote(gen.CANARY), "hex": raw.hex(), "reversed": gen.CANARY[::-1]}
    forms |= {f"base64+{shift}": base64.b64encode(b"x" * shift + raw).decode()[4:-4] for shift in range(3)}
    return [form for form, value in forms.items() if value in text]


def test_the_canary_is_caught_where_it_is_shown() -> None:
    """The check itself: a plain dict leaks in each of these ways."""
    assert leaks(repr({"api_key": gen.CANARY.encode()})) == ["plain", "url"]
    assert leaks(base64.b64encode(f"--{gen.CANARY}".encode()).decode()) == ["base64+2"]

    def broken(value: str) -> None:
        raise ValueError(len(value))

    with pytest.raises(ValueError, match="23") as caught:
        broken(gen.CANARY)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "plain" in leaks("".join(report.format()))


def test_repr_gives_the_names() -> None:
    assert repr(PAYLOAD) == str(PAYLOAD) == f"{PAYLOAD}" == "Payload(api_key, other)"
    assert f"{PAYLOAD:>25}" == "  Payload(api_key, other)"


def test_a_payload_is_a_collection_of_names() -> None:
    assert list(PAYLOAD) == ["api_key", "other"]
    assert len(PAYLOAD) == 2
    assert "other" in PAYLOAD
    assert gen.CANARY not in PAYLOAD
    assert PAYLOAD.reveal("api_key") == gen.CANARY.encode()
    assert PAYLOAD.size() == len(gen.CANARY) + 1


def test_a_payload_is_not_changed_through_what_it_was_made_of() -> None:
    values = {"a": b"1"}
    made = Payload(values)
    values["a"] = b"2"
    assert made.reveal("a") == b"1"


_VALUES = st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=3)


@given(one=_VALUES, other=_VALUES)
def test_payloads_are_equal_when_their_values_are(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (Payload(one) == Payload(other)) == (one == other)
    assert Payload(one) == Payload(dict(reversed(one.items())))
    assert Payload(one) != one
