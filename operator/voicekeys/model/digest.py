"""Keyed digests: equal keys can be compared, none can be guessed (HMAC-SHA256, RFC 2104)."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicekeys.model.payload import Payload

UNKNOWN_DIGEST = "0" * 32
"""Stands for data that differs from the wanted one and that no digest was ever made of."""

DIGEST_LENGTH = 32  # hex digits, 128 bits: enough to never collide by chance, short enough for a printed column


class Digester:
    """Makes digests with the operator's own key.

    Args:
        key: at least 32 random bytes; whoever has it can test guesses, so it lives in a Secret of the operator.
    """

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = hmac.new(key, b"id\0", hashlib.sha256).hexdigest()[:8]
        """Eight hex digits that name the key: digests of different keys cannot be compared."""

    def is_foreign(self, key_id: str | None) -> bool:
        """Whether digests are of another key (by its name), as after this one was lost; None: there are none yet."""
        return key_id not in {None, self.key_id}

    def of_payload(self, payload: Payload) -> str:
        """Digest names and values; the order of names does not matter, their boundaries do."""
        mac = hmac.new(self._key, b"data\0", hashlib.sha256)
        for name in sorted(payload):
            for part in (name.encode(), payload.reveal(name)):
                mac.update(len(part).to_bytes(8, "big") + part)
        return mac.hexdigest()[:DIGEST_LENGTH]

    def of_key(self, payload: Payload) -> str:
        """Digest the values whatever they are called: the same key under other names has the same fingerprint."""
        mac = hmac.new(self._key, b"key\0", hashlib.sha256)
        for value in sorted(self.of_values(payload).values()):
            mac.update(value.encode())
        return mac.hexdigest()[:DIGEST_LENGTH]

    def of_values(self, payload: Payload) -> dict[str, str]:
        """Digest each value on its own, by name."""
        return {name: self.of_value(payload.reveal(name)) for name in payload}

    def of_value(self, value: bytes) -> str:
        """Digest one value on its own: the same key under two names gives the same fingerprint."""
        return hmac.new(self._key, b"value\0" + value, hashlib.sha256).hexdigest()[:DIGEST_LENGTH]

    def __repr__(self) -> str:
        return "Digester()"
