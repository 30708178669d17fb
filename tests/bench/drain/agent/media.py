"""Numbered frames of 20 ms, and what the one who receives them can say: both ends of a call use this file."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FRAME_SECONDS = 0.02
SAMPLES = 160
"""Of a frame: 8,000 a second, one byte each (PCMU)."""
SILENCE = b"\xff" * SAMPLES
RTP = struct.Struct("!BBHII")  # RFC 3550: version, payload type, sequence number, timestamp, source
NUMBER = struct.Struct("!I")


class Meter:
    """What arrived of one call in one direction."""

    def __init__(self) -> None:
        self.frames = 0
        self.gap = 0.0
        """The longest time without a frame so far, seconds, from one frame to the next."""
        self.last = 0.0
        """When the last frame came, by the monotonic clock; 0 before the first."""
        self._first_number = self._last_number = 0

    def take(self, number: int) -> None:
        """Count a frame that has just arrived."""
        now = time.monotonic()
        if self.frames:
            self.gap = max(self.gap, now - self.last)
            self._last_number = max(self._last_number, number)
        else:
            self._first_number = self._last_number = number
        self.frames += 1
        self.last = now

    def end(self) -> None:
        """The call ends now: silence up to its end is a gap too."""
        if self.frames:
            self.gap = max(self.gap, time.monotonic() - self.last)

    @property
    def lost(self) -> int:
        """Frames that did not arrive, by their numbers; those that came twice make up for lost ones."""
        return max(0, self._last_number - self._first_number + 1 - self.frames) if self.frames else 0

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {"frames": self.frames, "lost": self.lost, "gap_ms": round(1000 * self.gap, 1)}


async def pace() -> AsyncIterator[int]:
    """Give the numbers of frames when they are due; late ones at once, so that none is left out."""
    begun, number = time.monotonic(), 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(max(0.0, begun + number * FRAME_SECONDS - time.monotonic()))


def rtp(number: int, source: int) -> bytes:
    """Return frame `number` as RTP; its number is in the timestamp, which does not wrap within a day."""
    return RTP.pack(0x80, 0, number & 0xFFFF, (number * SAMPLES) & 0xFFFFFFFF, source) + SILENCE


def rtp_number(packet: bytes) -> int:
    """Return the number that `rtp` gave a frame."""
    return int(RTP.unpack_from(packet)[3]) // SAMPLES


def stream_frame(number: int) -> bytes:
    """Return frame `number` of a WebSocket stream."""
    return NUMBER.pack(number) + SILENCE


def stream_number(frame: bytes) -> int:
    """Return the number that `stream_frame` gave a frame."""
    return int(NUMBER.unpack_from(frame)[0])
