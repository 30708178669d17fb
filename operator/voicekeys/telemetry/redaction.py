"""Takes live key material out of text, whatever encoding it hides in.

Whoever brings a secret into memory registers it (`Redactor.register`); `voicekeys.telemetry.logging` passes every
finished log line through `Redactor.redact`.

How a thousand values are found in one line within microseconds: each *form* of a value (plain, base64 at the three
byte alignments, URL-encoded, JSON- and Python-escaped) holds at least one *anchor*, six characters kept in a dict.
A line is looked at in windows of six; only where a window is an anchor are the forms worked out again and compared,
outwards in both directions, so that a cut-off piece of a value is found as well. One common line costs about 25 µs::

    form      sk_live_4f[9a2c77]d0e1…          the anchor is a run of letters and digits that no other value uses
    line   …key=sk_live_4f[9a2c77]d0e1 cannot   compared to the left and to the right: all that agrees is masked

What it does not find: values under `MIN_LENGTH` bytes (they would mask ordinary words), pieces of a value that are
shorter than `MIN_PIECE` or do not hold an anchor, and other encodings (hex, gzip). It is the last defence, not the
first: `voicekeys.model.payload.Payload` is.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from voicekeys.telemetry import patterns

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = patterns.MASK
MIN_LENGTH = 6  # bytes of a value
MIN_PIECE = 12  # characters of a form that, agreeing, count as a piece of it
MAX_VALUES = 32_768
MAX_BYTES = 16 * 1024 * 1024  # of all values together

_WINDOW = 6
_ALNUM = re.compile(r"[A-Za-z0-9]{6}")
_ALNUM_WINDOWS = re.compile(r"(?=([A-Za-z0-9]{6}))")  # overlapping, found without a step of Python
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
_EDGE = 3  # base64 characters at either end that also carry bits of the neighbouring bytes, or pad


class Redactor:
    """Masks registered values, and what looks like a credential, in text.

    Safe to use from several threads. Memory: about 0.4 KiB a value of 40 bytes, beside the value itself, which is
    kept by reference.

    Args:
        max_values: how many values are known at once; the one registered longest ago goes first. Pollers register at
            every read, so a live value is never the oldest.
        max_bytes: bound of the values' own bytes together.
    """

    def __init__(self, *, max_values: int = MAX_VALUES, max_bytes: int = MAX_BYTES) -> None:
        self._max_values = max_values
        self._max_bytes = max_bytes
        self._values: dict[bytes, None] = {}  # oldest registration first
        self._bytes = 0
        self._pending: dict[bytes, None] = {}  # registered, anchors not worked out yet
        self._anchors: dict[str, bytes | tuple[bytes, ...]] = {}
        self._odd = 0  # anchors with other characters than letters and digits: values such as "pass-wo-rd"
        self._lock = threading.RLock()  # re-entrant: a finalizer may log while a value is being learnt
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Redactor({len(self)} values)"

    def __reduce__(self) -> str:
        message = "a Redactor holds key material and is never pickled or copied"
        raise TypeError(message)

    def register(self, *values: bytes | str) -> None:
        """Learn values; known ones only become the newest again, which costs under a microsecond.

        Args:
            values: secrets as they are (not encoded). Those under `MIN_LENGTH` bytes are left out.
        """
        with self._lock:
            for value in values:
                self._add(value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value))

    def redact(self, text: str) -> str:
        """Give the text with every known value, and every credential-like pattern, replaced by the mask.

        Args:
            text: one log line, or any text.
        """
        if self._pending:
            self._learn()
        if self._anchors:
            hits = self._hits(text)
            if hits:
                text = self._mask(text, hits)
        return patterns.clean(text)

    def _hits(self, text: str) -> list[int]:
        """Where anchors stand in the text. Nearly all anchors are letters and digits: those cost C speed only."""
        anchors = self._anchors
        if not self._odd and anchors.keys().isdisjoint(_ALNUM_WINDOWS.findall(text)):
            return []
        return [at for at in range(len(text) - _WINDOW + 1) if text[at : at + _WINDOW] in anchors]

    def _add(self, value: bytes) -> None:
        if len(value) < MIN_LENGTH:
            return
        if value in self._values:
            del self._values[value]
            self._values[value] = None
            return
        self._values[value] = None
        self._pending[value] = None
        self._bytes += len(value)
        while len(self._values) > self._max_values or (self._bytes > self._max_bytes and len(self._values) > 1):
            self._forget(next(iter(self._values)))

    def _forget(self, value: bytes) -> None:
        del self._values[value]
        self._bytes -= len(value)
        self.dropped += 1
        if value in self._pending:
            del self._pending[value]
            return
        for form in forms(value):
            for at in range(len(form) - _WINDOW + 1):
                self._unhook(form[at : at + _WINDOW], value)

    def _unhook(self, anchor: str, value: bytes) -> None:
        owners = _owners(self._anchors.get(anchor, ()))
        if value not in owners:
            return
        left = tuple(owner for owner in owners if owner != value)
        if left:
            self._anchors[anchor] = left if len(left) > 1 else left[0]
        else:
            del self._anchors[anchor]
            self._odd -= not _ALNUM.fullmatch(anchor)

    def _learn(self) -> None:
        with self._lock:
            while self._pending:
                value = next(iter(self._pending))
                self._hook(value)
                self._pending.pop(value, None)  # only now: another thread that finds none pending must find it known

    def _hook(self, value: bytes) -> None:
        """Give the value one anchor in each of its forms; a form that holds an earlier form's anchor needs none."""
        chosen: list[str] = []
        for form in forms(value):
            if len(form) < _WINDOW or any(anchor in form for anchor in chosen):
                continue
            anchor = self._choose(form)
            chosen.append(anchor)
            owners = _owners(self._anchors.get(anchor, ()))
            self._odd += not owners and not _ALNUM.fullmatch(anchor)
            self._anchors[anchor] = (*owners, value) if owners else value

    def _choose(self, form: str) -> str:
        """Pick the window that fewest values use: providers' common prefixes (``sk_live_``) would all fall together."""
        windows: list[str] = _ALNUM.findall(form[-256:])
        windows.reverse()
        if not windows:
            middle = (len(form) - _WINDOW) // 2
            windows = [form[middle : middle + _WINDOW]]
        return min(windows, key=lambda window: len(_owners(self._anchors.get(window, ()))))

    def _mask(self, text: str, hits: list[int]) -> str:
        """Replace the longest stretch that agrees with a form around each hit."""
        parts: list[str] = []
        done = 0
        for at in hits:
            if at < done:
                continue
            owners = _owners(self._anchors.get(text[at : at + _WINDOW], ()))
            start, end = max((stretch(text, at, value) for value in owners), key=_extent, default=(at, at))
            if end > start:
                parts += (text[done : max(start, done)], MASK)
                done = end
        parts.append(text[done:])
        return "".join(parts)


def forms(value: bytes) -> Iterator[str]:
    """Every text in which a value is looked for; equal ones may repeat.

    Args:
        value: the secret's bytes.
    """
    try:
        plain = value.decode()
    except UnicodeDecodeError:
        # Binary: its plain bytes cannot stand in a line, their escapes can.
        plain = ""
    else:
        yield plain
        yield from _escaped(plain)
    yield from base64_cores(value)
    escaped = json.dumps(plain)[1:-1]
    if escaped != plain:
        yield from base64_cores(escaped.encode())  # a JSON document as a Secret's data
    if plain.isascii() and plain.isalnum():
        return  # the forms below are the plain one
    standard = base64.b64encode(value).decode()
    yield quote(standard, safe="")
    yield quote(value, safe="")
    yield quote(value)
    yield quote_plus(value)
    if not plain.isascii() or not plain:
        yield from _escaped(repr(value)[2:-1])


def _escaped(text: str) -> Iterator[str]:
    """Text inside JSON (non-ASCII escaped or not), inside JSON inside JSON, and inside a Python ``repr``."""
    if text.isalnum() and text.isascii():
        return
    for inner in (text, repr(text)[1:-1]):
        yield inner
        for ascii_only in (False, True):
            once = json.dumps(inner, ensure_ascii=ascii_only)[1:-1]
            yield once
            yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]


def base64_cores(value: bytes) -> Iterator[str]:
    """Give the base64 characters that depend on the value alone, for the three places it may start at (RFC 4648).

    A value inside a larger encoded text begins at byte 0, 1 or 2 of a group of three; the characters at its edges mix
    in bits of its neighbours and are left out. Standard and URL-safe alphabets both.
    """
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + value).decode().rstrip("=")
        first = -(-shift * 8 // 6)
        last = (shift + len(value)) * 8 // 6
        core = text[first:last]
        yield core
        if "+" in core or "/" in core:
            yield core.replace("+", "-").replace("/", "_")


def stretch(text: str, at: int, value: bytes) -> tuple[int, int]:
    """Where, around an anchor found at ``at``, the text agrees with a form of the value.

    Returns:
        Start and end in the text; both ``at`` when what agrees is neither a whole form nor `MIN_PIECE` long.
    """
    anchor = text[at : at + _WINDOW]
    best = (at, at)
    cores = set(base64_cores(value))
    for form in dict.fromkeys(forms(value)):
        offset = form.find(anchor)
        while offset >= 0:
            start, end = _agreement(text, at, form, offset)
            if end - start >= min(len(form), MIN_PIECE) and end - start > best[1] - best[0]:
                best = _widened(text, start, end) if form in cores else (start, end)
            offset = form.find(anchor, offset + 1)
    return best


def _agreement(text: str, at: int, form: str, offset: int) -> tuple[int, int]:
    start = at - offset
    if start >= 0 and text.startswith(form, start):
        return start, start + len(form)
    left, right = at, at + _WINDOW
    while left > 0 and left - at + offset > 0 and text[left - 1] == form[left - at + offset - 1]:
        left -= 1
    while right < len(text) and right - at + offset < len(form) and text[right] == form[right - at + offset]:
        right += 1
    return left, right


def _widened(text: str, start: int, end: int) -> tuple[int, int]:
    """Take in the base64 characters at the edges, which hold the value's outermost bits, and the padding."""
    low, high = max(0, start - _EDGE), min(len(text), end + _EDGE)
    while start > low and text[start - 1] in _BASE64:
        start -= 1
    while end < high and text[end] in _BASE64:
        end += 1
    return start, end


def _owners(entry: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (entry,) if isinstance(entry, bytes) else entry


def _extent(span: tuple[int, int]) -> int:
    return span[1] - span[0]
