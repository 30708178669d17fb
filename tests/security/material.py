"""Keys of every shape that providers use, each made anew for a run, and how they would look if they leaked."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PIECE = 24
"""Bytes of a piece of a long value: one that was cut off still counts as a leak."""


def shapes() -> dict[str, dict[str, Any]]:
    """Return fields as they are put into Vault, by shape."""
    binary = secrets.token_bytes(48)
    body = base64.encodebytes(secrets.token_bytes(1200)).decode()
    return {
        "plain": {"api_key": f"plain{secrets.token_hex(16)}"},
        "known": {"api_key": f"sk_live_{secrets.token_urlsafe(24)}"},
        "quoted": {"api_key": f"\"{secrets.token_hex(8)}\\'\n\t{{}}%s{secrets.token_hex(8)}'\""},
        "unicode": {"api_key": f"schlüssel-ключ-鍵-{secrets.token_hex(6)}-ß\u2028{secrets.token_hex(6)}"},
        "url": {"api_key": f"{secrets.token_hex(6)}/?a=b&c=%41+{secrets.token_hex(6)} #;{secrets.token_hex(4)}="},
        "base64": {"api_key": base64.b64encode(binary).decode()},
        "pem": {"api_key": f"-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n"},
        "json": {"api_key": {"user": f"user{secrets.token_hex(8)}", "password": secrets.token_urlsafe(18)}},
        "two": {"api_key": f"sid{secrets.token_hex(12)}", "api_secret": secrets.token_urlsafe(24)},
    }


def needles(label: str, fields: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what to look for of a key's fields, by label: the values, what they hold, long ones in pieces too."""
    found: dict[str, bytes] = {}
    for name, value in fields.items():
        for part, text in _texts(value).items():
            found |= pieces(f"{label}.{name}{part}", text)
    return found


def pieces(label: str, raw: bytes) -> dict[str, bytes]:
    """Return a value, its hexadecimal forms, and its pieces when it is long."""
    if len(raw) > 8 * PIECE:  # the pieces say it all
        return {f"{label} from {at}": raw[at : at + PIECE] for at in range(0, len(raw), 4 * PIECE)}
    found = {label: raw, f"{label} in hex": raw.hex().encode(), f"{label} in HEX": raw.hex().upper().encode()}
    if len(raw) >= 2 * PIECE:
        starts = range(0, len(raw) - PIECE + 1, PIECE)
        found |= {f"{label} from {at}": raw[at : at + PIECE] for at in starts}
    # The frame of a PEM block is no secret.
    return {name: text for name, text in found.items() if b"PRIVATE KEY" not in text or name == label}


def _texts(value: Any) -> dict[str, bytes]:
    if not isinstance(value, str):
        inner = {f".{name}": text.encode() for name, text in value.items()}
        return {"": json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), **inner}
    texts = {"": value.encode()}
    try:
        decoded = base64.b64decode(value, validate=True)
    except ValueError:
        return texts
    return texts | ({" decoded": decoded} if len(decoded) >= PIECE else {})
