"""Whether a ``POST /notify`` may be believed: its signature, its age, whether it was seen before, and what it asks.

The scheme is the one that webhooks commonly use: the sender computes HMAC-SHA256 (RFC 2104) over ``<t>.<body>`` and
sends

    X-Voicekeys-Signature: t=<unix seconds>,v1=<hex>

More than one ``v1`` may be sent, so that the key can be changed without a gap. Called by `voicekeys.handlers.http`;
time comes in as ``now``, the replay window is state that the caller keeps.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import NamedTuple

SIGNATURE_HEADER = "X-Voicekeys-Signature"
TOLERANCE_SECONDS = 300
MIN_KEY_BYTES = 16
MAX_HEADER = 1024  # characters
MAX_SIGNATURES = 4
SENDER_RATE, SENDER_BURST = 20.0, 200.0  # requests a second of one address; a pipeline may change many keys at once
TOTAL_RATE, TOTAL_BURST = 50.0, 500.0  # signed requests a second of all
REMEMBERED = int(TOTAL_RATE * 2 * TOLERANCE_SECONDS + TOTAL_BURST)
MAX_PATH = 512  # as the schema of VoiceKeyBinding has it

_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_MAC = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_STORE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)


class Notice(NamedTuple):
    """What a notifier says: the key at this path of this store has changed."""

    store: str
    path: str


class Signed(NamedTuple):
    """A signature that holds.

    Args:
        nonce: the MAC itself, which is unique to timestamp and body.
        valid_until: Unix seconds after which its timestamp is refused anyway.
    """

    nonce: bytes
    valid_until: int


class Refusal(NamedTuple):
    """Why a request is not believed.

    Args:
        status: HTTP status.
        message: for the sender; says what to change, and nothing about keys, stores or paths.
    """

    status: int
    message: str


BAD_HEADER = Refusal(401, f"{SIGNATURE_HEADER} is missing or not of the form t=<unix seconds>,v1=<hex of HMAC-SHA256>")
BAD_TIME = Refusal(
    401, f"the signature's time is more than {TOLERANCE_SECONDS} s from now: sign again, check the clock"
)
BAD_SIGNATURE = Refusal(401, "the signature does not match: check the key, and sign '<t>.<body>' byte for byte")
REPLAYED = Refusal(409, "this signature was used before: sign again with the present time")
BEFORE_LEADING = Refusal(
    409, "signed before this operator began to lead, so it may have been used before: sign again with the present time"
)
REMEMBERED_TOO_MANY = Refusal(429, "too many notifications in the last minutes: try again later")
BAD_BODY = Refusal(400, 'the body is not {"store": <name>, "path": <path below the mount, without data/>}')


def sign(key: bytes, timestamp: int, body: bytes) -> str:
    """Give the header's value for a body; what a sender does.

    Args:
        key: the shared key.
        timestamp: Unix seconds.
        body: the exact bytes that are sent.
    """
    return f"t={timestamp},v1={_mac(key, str(timestamp), body).hex()}"


def check_signature(header: str | None, body: bytes, key: bytes, now: float) -> Signed | Refusal:
    """Decide whether the sender holds the key and signed just now. Constant time in the key and the signature.

    Args:
        header: value of `SIGNATURE_HEADER`, None without one.
        body: the exact bytes received.
        key: the shared key, at least `MIN_KEY_BYTES` long (the caller sees to that).
        now: Unix seconds.
    """
    parsed = _parse(header)
    if parsed is None:
        return BAD_HEADER
    timestamp, macs = parsed
    expected = _mac(key, timestamp, body)
    matches = [hmac.compare_digest(expected, mac) for mac in macs]
    if not any(matches):
        return BAD_SIGNATURE
    # Only who holds the key learns that the time was the fault.
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return BAD_TIME
    return Signed(expected, int(timestamp) + TOLERANCE_SECONDS)


def parse_notice(body: bytes) -> Notice | Refusal:
    """Read the body of a signed request.

    Args:
        body: JSON text.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return BAD_BODY
    if not isinstance(data, dict) or data.keys() != {"store", "path"}:
        return BAD_BODY
    store, path = data["store"], data["path"]
    if not isinstance(store, str) or not _STORE.fullmatch(store):
        return BAD_BODY
    if not isinstance(path, str) or not is_path(path):
        return BAD_BODY
    return Notice(store, path)


def is_path(path: str) -> bool:
    """Whether a text can be a KV v2 path: no empty, ``.`` or ``..`` segment, at most `MAX_PATH` characters."""
    return len(path) <= MAX_PATH and not any(segment in {"", ".", ".."} for segment in path.split("/"))


class ReplayWindow:
    """Remembers the signatures that were used, for as long as their timestamps would be accepted.

    Only signatures that hold are remembered, so that nobody without the key can fill it. When it is full, new ones
    are refused: forgetting one early would let it be used again.

    Args:
        capacity: how many are remembered: `TOTAL_RATE` over the ten minutes in which a signature may be valid.
    """

    __slots__ = ("_capacity", "_seen")

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._capacity = capacity
        self._seen: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, signed: Signed, now: float, since: float = 0.0) -> Refusal | None:
        """Remember a signature; refuse one that is remembered already, or that a former leader may have taken.

        Args:
            signed: as `check_signature` gave it.
            now: Unix seconds.
            since: Unix seconds of when this process began to lead. What another one took before was signed earlier,
                by a sender whose clock is not ahead.
        """
        if signed.valid_until - TOLERANCE_SECONDS < int(since):
            return BEFORE_LEADING
        if signed.nonce in self._seen:
            return REPLAYED
        if len(self._seen) >= self._capacity:
            self._seen = {nonce: until for nonce, until in self._seen.items() if until >= now}
        if len(self._seen) >= self._capacity:
            return REMEMBERED_TOO_MANY
        self._seen[signed.nonce] = signed.valid_until
        return None


class RateLimit:
    """Token buckets, one for each sender, of which the least recently seen are forgotten.

    Args:
        rate: requests a second in the long run.
        burst: requests at once.
        senders: how many are remembered.
    """

    __slots__ = ("_buckets", "_burst", "_rate", "_senders")

    def __init__(self, rate: float, burst: float, senders: int = 1024) -> None:
        self._rate = rate
        self._burst = burst
        self._senders = senders
        self._buckets: dict[str, tuple[float, float]] = {}  # sender: (tokens, when they were counted)

    def admit(self, sender: str, now: float) -> bool:
        """Take one token of the sender's bucket; False when it is empty.

        Args:
            sender: address, or any name.
            now: monotonic seconds.
        """
        tokens, then = self._buckets.pop(sender, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        admitted = tokens >= 1
        self._buckets[sender] = (tokens - admitted, now)
        if len(self._buckets) > self._senders:
            del self._buckets[next(iter(self._buckets))]
        return admitted


def _mac(key: bytes, timestamp: str, body: bytes) -> bytes:
    return hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).digest()


def _parse(header: str | None) -> tuple[str, list[bytes]] | None:
    """Split the header; None unless it has one ``t`` and one to `MAX_SIGNATURES` ``v1``. Other names are for later."""
    if header is None or len(header) > MAX_HEADER:
        return None
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    macs = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not _TIMESTAMP.fullmatch(times[0]):
        return None
    if not 1 <= len(macs) <= MAX_SIGNATURES or not all(_MAC.fullmatch(mac) for mac in macs):
        return None
    return times[0], [bytes.fromhex(mac) for mac in macs]
