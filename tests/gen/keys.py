"""Keys: payloads and versions, with a value that no output may ever show."""

from __future__ import annotations

from tests.gen.base import NOW
from voicekeys.model.digest import Digester
from voicekeys.model.payload import KeyVersion, Payload

CANARY = "canary-3c9e71d0f5b24a68"
DIGESTER = Digester(b"a fingerprint key, 32 bytes long")


def payload(**values: str | bytes) -> Payload:
    """A payload; text is encoded."""
    return Payload({name: value.encode() if isinstance(value, str) else value for name, value in values.items()})


def key(version: int = 7, **fields: str | bytes) -> KeyVersion:
    """A key as Vault gave it; without fields, one named ``api_key``."""
    return KeyVersion(version, NOW, payload(**(fields or {"api_key": CANARY})))
