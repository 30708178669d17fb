"""Finds secrets in text, in every encoding that they may travel in. Shares no code with the redactor that it judges.

Used by the canary test of a whole run: collect logs, events, conditions, annotations, metrics and tracebacks, and ask
`Canary.find` about each. A finding names the secret's label, the encoding and the place, never the value.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MIN_NEEDLE = 6


class Leak(NamedTuple):
    """One secret found in a text.

    Args:
        secret: its label.
        encoding: how it was written.
        position: index of the first character.
    """

    secret: str
    encoding: str
    position: int


class Canary:
    """Knows secrets by label.

    Args:
        secrets: label to value.

    Raises:
        ValueError: a value is too short to be told from ordinary text.
    """

    def __init__(self, secrets: Mapping[str, bytes | str]) -> None:
        self._needles: list[tuple[str, str, str]] = []
        for label, value in secrets.items():
            raw = value.encode() if isinstance(value, str) else value
            if len(raw) < MIN_NEEDLE:
                message = f"the secret {label!r} has fewer than {MIN_NEEDLE} bytes: it would be found everywhere"
                raise ValueError(message)
            self._needles += [(label, name, needle) for name, needle in _encodings(raw) if len(needle) >= MIN_NEEDLE]

    def find(self, text: str | bytes) -> list[Leak]:
        """Give every secret in the text, once for each encoding.

        Args:
            text: anything that was written: a log, a manifest, a scrape.
        """
        haystack = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return [Leak(label, name, haystack.find(needle)) for label, name, needle in self._needles if needle in haystack]

    def __repr__(self) -> str:
        return f"Canary({len({label for label, _, _ in self._needles})} secrets)"


def _encodings(raw: bytes) -> Iterator[tuple[str, str]]:
    plain = raw.decode("utf-8", "surrogateescape")
    if not _has_surrogates(plain):
        yield "plain", plain
    for name, text in (("JSON", json.dumps(plain)), ("JSON, not ASCII", json.dumps(plain, ensure_ascii=False))):
        yield name, text[1:-1]
        yield f"{name}, twice", json.dumps(text)[2:-2].removeprefix("\\").removesuffix("\\")
    yield "repr", repr(plain)[1:-1]
    yield "bytes repr", repr(raw)[2:-1]
    yield "URL", urllib.parse.quote(raw)
    yield "URL, all", urllib.parse.quote(raw, safe="")
    yield "URL, form", urllib.parse.quote_plus(raw)
    yield from _base64(raw)
    if not _has_surrogates(plain):
        yield from ((f"JSON in {name}", text) for name, text in _base64(json.dumps(plain)[1:-1].encode()))


def _base64(raw: bytes) -> Iterator[tuple[str, str]]:
    """What base64 text shows of a value that begins at any byte of a larger text: whole groups of three only."""
    for lead in range(3):
        groups = raw[(3 - lead) % 3 :]
        groups = groups[: len(groups) // 3 * 3]
        standard = base64.b64encode(groups).decode()
        yield f"base64, byte {lead}", standard
        yield f"base64 for URLs, byte {lead}", base64.urlsafe_b64encode(groups).decode()
        yield f"base64 in a URL, byte {lead}", urllib.parse.quote(standard, safe="")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
