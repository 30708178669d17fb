"""From an agent's answer to its number of live calls: pure.

A number is a JSON number, a string that holds one, or an array, whose length counts (Asterisk lists its channels). From
Prometheus text it is the sum of the series that match. Fractions count as whole calls. Anything else is not known: no
default, no nearest match, because a drain ends at zero.

Some agents leave the number out when it is zero: proto3's JSON (LiveKit agents), gauges with labels before their first
use. That is only told from a wrong path or an error page by something else in the same answer, a *witness*, which is
there whatever the number is.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from voicekeys.agent.gauge.errors import ABSENT, MALFORMED, NOT_A_NUMBER, Unread

MOST = 1_000_000_000
"""Calls. More is no number of calls."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\\n]|\\[\\"n])*)"\s*(,?)\s*')
_INDEX = re.compile(r"0|[1-9][0-9]*")
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Where(Protocol):
    """Where in an answer the number is."""

    def find(self, body: bytes, witness: Where | None) -> int:
        """The number. Raises Unread.

        Args:
            body: the answer.
            witness: if this is there, an absent number is zero; None where absent is unknown.
        """

    def is_in(self, body: bytes) -> bool:
        """Whether something is there, whatever it is. Raises Unread for a body that cannot be understood."""


def calls(value: object) -> int:
    """A value as a number of calls. Raises Unread."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise Unread(NOT_A_NUMBER)
    return math.ceil(value)


# ---- JSON


class _Nothing:
    """What is not there, as JSON's null is something."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A JSON pointer (RFC 6901); without tokens the whole document.

    Args:
        tokens: the names on the way, unescaped.
    """

    tokens: tuple[str, ...]

    def find(self, body: bytes, witness: Where | None) -> int:
        """See `Where`. Only the last name may be missing: the object that it would be in has to be there."""
        document = _document(body)
        found = _walk(document, self.tokens)
        if found is not _Nothing:
            return calls(found)
        if witness is None or not isinstance(_walk(document, self.tokens[:-1]), dict) or not witness.is_in(body):
            raise Unread(ABSENT)
        return 0

    def is_in(self, body: bytes) -> bool:
        """See `Where`."""
        return _walk(_document(body), self.tokens) is not _Nothing


def _walk(value: Any, tokens: tuple[str, ...]) -> Any:
    for token in tokens:
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return _Nothing
    return value


def parse_pointer(text: str) -> Pointer:
    """Read a JSON pointer. Raises ValueError, with a message for people."""
    if text and not text.startswith("/"):
        raise ValueError("a JSON pointer is empty or begins with a slash, like /sessions/active")
    if re.search(r"~(?![01])", text):
        raise ValueError("in a JSON pointer ~ is written ~0 and / inside a name ~1")
    return Pointer(tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]))


def _document(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unread(MALFORMED) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


# ---- Prometheus text


@dataclass(frozen=True, slots=True)
class Metric:
    """Prometheus series of one name, with the labels that must match.

    Args:
        name: of the metric.
        labels: that a series must have, with these values; it may have others.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def find(self, body: bytes, witness: Where | None) -> int:
        """See `Where`."""
        found = self._values(body)
        if not found:
            if witness is not None and witness.is_in(body):
                return 0
            raise Unread(ABSENT)
        return sum(calls(value) for value in found)

    def is_in(self, body: bytes) -> bool:
        """See `Where`."""
        return bool(self._values(body))

    def _values(self, body: bytes) -> list[str]:
        text = body.decode("utf-8", "replace")
        # The format asks for it, and an answer that was cut is noticed by it: a sum of what is left would be too small.
        if text and not text.endswith("\n"):
            raise Unread(MALFORMED)
        # Line by line, not all lines at once: the sidecar has little memory.
        lines = re.finditer(rf"^{re.escape(self.name)}(?=[{{ \t])(.*)$", text, re.MULTILINE)
        return [value for line in lines if (value := self._value(line[1])) is not None]

    def _value(self, rest: str) -> str | None:
        """The value of a series from what follows its name; None if its labels do not match. Raises Unread."""
        labels: dict[str, str] = {}
        try:
            if rest.startswith("{"):
                labels, rest = _labels(rest)
        except ValueError as error:
            raise Unread(MALFORMED) from error
        words = rest.split()
        if not words:
            raise Unread(MALFORMED)
        return words[0] if all(labels.get(name) == value for name, value in self.labels) else None


def parse_metric(text: str) -> Metric:
    """Read ``name`` or ``name{label="value",…}``. Raises ValueError, with a message for people."""
    name = _NAME.match(text.strip())
    if name is None:
        raise ValueError('a metric is written as name or as name{label="value"}')
    rest = text.strip()[name.end() :].lstrip()
    if not rest:
        return Metric(name.group())
    if not rest.startswith("{"):
        raise ValueError('after a metric\'s name only labels may follow, like {state="open"}')
    labels, rest = _labels(rest)
    if rest.strip():
        raise ValueError("after a metric's labels nothing may follow")
    return Metric(name.group(), tuple(sorted(labels.items())))


def _labels(text: str) -> tuple[dict[str, str], str]:
    """Read labels in braces; returns them and what follows. Raises ValueError."""
    labels: dict[str, str] = {}
    at, more = len(text) - len(text[1:].lstrip()), True
    while not text.startswith("}", at):
        label = _LABEL.match(text, at)
        if label is None or not more:
            raise ValueError('labels are written as {name="value",other="value"}; no other comparison is understood')
        labels[label[1]] = re.sub(r'\\[\\"n]', lambda escape: _ESCAPES[escape.group()], label[2])
        at, more = label.end(), bool(label[3])
    return labels, text[at + 1 :]
