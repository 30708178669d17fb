"""Whether a provider's callback is the provider's: signatures, how old they may be, and whether they were seen before.

Sources: Twilio's is its documented scheme, as its official libraries compute it. Teler's is from third-party code that
cites FreJun's documentation, and sources disagree (one takes base64, one signs method and URL as well): it is a value
that can be changed, `dataclasses.replace(TELER, encoding="base64")`.

Comparisons take constant time, over all secrets, so that nothing tells which of them was near. No error holds a
secret, a signature or a part of the message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

Params = Mapping[str, str | Sequence[str]]


class WebhookError(Exception):
    """The callback is not to be believed: answer 403 and do nothing."""


class MissingSignature(WebhookError):
    """A header that the profile needs is not there, or is no number where it must be one."""


class BadSignature(WebhookError):
    """No secret gives this signature: another secret, another URL behind a proxy, or a changed body."""


class Stale(WebhookError):
    """Signed too long ago, or in the future: a replay, or a clock that is wrong."""


class Replayed(WebhookError):
    """The same signature was seen before."""


class ReplayWindow:
    """Remembers signatures, so that each is believed once. Thread-safe; one process only.

    Only what was verified is remembered, so nobody without a secret can fill it. When it is full the oldest goes.

    Args:
        seconds: for how long; at least twice a profile's tolerance.
        size: of how many at most (about 150 bytes each).
    """

    def __init__(self, seconds: float = 600.0, size: int = 10_000) -> None:
        self._seconds = seconds
        self._size = size
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, signature: bytes, now: float) -> bool:
        """Remember a signature. False when it is known already."""
        mark = hashlib.sha256(signature).digest()
        with self._lock:
            while self._seen and (len(self._seen) > self._size or next(iter(self._seen.values())) <= now):
                self._seen.popitem(last=False)
            if mark in self._seen:
                return False
            self._seen[mark] = now + self._seconds
            if len(self._seen) > self._size:
                self._seen.popitem(last=False)
            return True


@dataclass(frozen=True, slots=True)
class HmacProfile:
    """An HMAC over a text made of timestamp and body.

    Args:
        signature_header: where the signature is.
        timestamp_header: where the seconds since 1970 are; empty: there is no timestamp, and nothing is ever stale.
        payload: what is signed, with ``{timestamp}`` and ``{body}`` in place; anything else stands as it is.
        digest: hash function of the HMAC.
        encoding: of the signature.
        prefix: before the signature, such as ``sha256=``.
        tolerance: seconds that a timestamp may be away from now.
    """

    signature_header: str
    timestamp_header: str = ""
    payload: str = "{timestamp}.{body}"
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    tolerance: float = 300.0


@dataclass(frozen=True, slots=True)
class TwilioProfile:
    """Twilio: base64 of HMAC-SHA1 over the URL and the sorted form parameters; for JSON a ``bodySHA256`` in the URL.

    It carries no time; a retry of Twilio's has the same signature, so a `ReplayWindow` also refuses retries.

    Args:
        signature_header: where the signature is.
    """

    signature_header: str = "X-Twilio-Signature"


Profile = HmacProfile | TwilioProfile

TELER = HmacProfile("X-Teler-Signature", "X-Teler-Timestamp")
TWILIO = TwilioProfile()


def verify_webhook(
    profile: Profile,
    secrets: str | bytes | Iterable[str | bytes],
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    url: str = "",
    params: Params | None = None,
    replay: ReplayWindow | None = None,
    now: float | None = None,
) -> None:
    """Return if the callback is genuine, raise otherwise.

    Args:
        profile: `TELER`, `TWILIO`, or an `HmacProfile` of your own.
        secrets: the signing secret, or several while one takes over from another. Twilio: the account's Auth Token.
        headers: of the request, in any case.
        body: as it was received, byte for byte: not parsed and written again.
        url: Twilio: as Twilio called it, with scheme, host and query (behind a proxy it is not what the agent sees).
        params: Twilio: the form parameters; None for a JSON body.
        replay: remembers signatures; without it only `tolerance` limits replays.
        now: seconds since 1970; default: the clock.

    Raises:
        MissingSignature: a header is missing or malformed.
        BadSignature: no secret fits.
        Stale: the timestamp is too far from now.
        Replayed: seen before.
        ValueError: no secret was given, or an empty one: that would let everybody in.
    """
    keys = _keys(secrets)
    moment = time.time() if now is None else now
    found = {name.lower(): value for name, value in headers.items()}
    given = found.get(profile.signature_header.lower())
    if not given:
        message = f"the header {profile.signature_header} is missing"
        raise MissingSignature(message)
    if isinstance(profile, TwilioProfile):
        signature = _decoded(given, "base64")
        _check_twilio(keys, signature, body, url, params)
    else:
        signature = _decoded(given.removeprefix(profile.prefix), profile.encoding)
        _check_hmac(profile, keys, signature, found, body, moment)
    if replay is not None and not replay.admit(signature, moment):
        raise Replayed("this callback was taken before")


def _keys(secrets: str | bytes | Iterable[str | bytes]) -> list[bytes]:
    several = [secrets] if isinstance(secrets, str | bytes) else list(secrets)
    keys = [secret.encode() if isinstance(secret, str) else secret for secret in several]
    if not keys or not all(keys):
        raise ValueError("a signing secret is missing or empty: nothing could be told from a forgery")
    return keys


def _decoded(text: str, encoding: str) -> bytes:
    """A signature's bytes: one signature has one spelling for the replay window."""
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise BadSignature("the signature is not of the form that the profile says") from None


def _check_hmac(
    profile: HmacProfile, keys: list[bytes], signature: bytes, headers: Mapping[str, str], body: bytes, now: float
) -> None:
    stamp = headers.get(profile.timestamp_header.lower(), "") if profile.timestamp_header else ""
    if profile.timestamp_header and not (stamp.isascii() and stamp.isdigit() and len(stamp) < 15):  # noqa: PLR2004 - year 3 million
        message = f"the header {profile.timestamp_header} is missing or no number of seconds"
        raise MissingSignature(message)
    before, _, after = profile.payload.replace("{timestamp}", stamp).encode().partition(b"{body}")
    if not _fits(keys, before + body + after, signature, profile.digest):
        raise BadSignature("no secret gives this signature")
    # After the signature: a stranger learns nothing about our clock.
    if stamp and abs(now - int(stamp)) > profile.tolerance:
        message = f"signed more than {profile.tolerance:g} s from now"
        raise Stale(message)


def _check_twilio(keys: list[bytes], signature: bytes, body: bytes, url: str, params: Params | None) -> None:
    fits = [_fits(keys, form.encode() + _joined(params), signature, "sha1") for form in _forms(url)]
    if not any(fits):
        raise BadSignature("no secret gives this signature for this URL")
    if params is None and body:
        said = parse_qs(urlsplit(url).query).get("bodySHA256", [""])[0]
        if not hmac.compare_digest(said.lower().encode(), hashlib.sha256(body).hexdigest().encode()):
            raise BadSignature("the body is not the one that was signed")


def _joined(params: Params | None) -> bytes:
    """Names and values, sorted by name; of a repeated name each value once, sorted."""
    parts: list[str] = []
    for name in sorted(params or {}):
        value = (params or {})[name]
        for one in [value] if isinstance(value, str) else sorted(set(value)):
            parts += [name, one]
    return "".join(parts).encode()


def _forms(url: str) -> list[str]:
    """The URL as it is, with its scheme's port, and without a port: Twilio's own clients differ in that."""
    try:
        parts = urlsplit(url)
        given = parts.port
    except ValueError:  # no URL, or no port: Twilio has signed none like it
        raise BadSignature("this is no URL that Twilio could have called") from None
    if not parts.hostname:
        return [url]
    user = f"{parts.username}:{parts.password}@" if parts.username else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.netloc.rpartition("@")[2].partition(":")[0]
    port = given or (443 if parts.scheme == "https" else 80)
    bare = urlunsplit(parts._replace(netloc=f"{user}{host}"))
    full = urlunsplit(parts._replace(netloc=f"{user}{host}:{port}"))
    return list(dict.fromkeys([url, bare, full]))


def _fits(keys: list[bytes], message: bytes, signature: bytes, digest: str) -> bool:
    same = [hmac.compare_digest(hmac.digest(key, message, digest), signature) for key in keys]
    return any(same)
