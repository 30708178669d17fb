"""What a voice agent needs its key for: each turn asks the provider over HTTP, and reconnects now and then."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .media import Meter

TURN_SECONDS = 2.0
RECONNECT_TURNS = 3
TIMEOUT = 10.0


class Talk:
    """The provider's client of a pod, and its line to the witness.

    Args:
        provider, witness: `host:port`.
        key: of the provider; it goes out in the header Authorization, nowhere else.
        arm: whose pod this is.
    """

    def __init__(self, provider: str, witness: str, key: str, arm: str) -> None:
        self._provider = _address(provider)
        self._witness = _address(witness)
        self._authorization = f"Bearer {key}"
        self._arm = arm
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.last_end = 0.0
        """Unix time of the last call's end; 0 before one ended."""

    def tell(self, event: str, **details: Any) -> None:
        """Tell the witness of something that happened now."""
        own = {"pod": os.environ["POD_NAME"], "uid": os.environ["POD_UID"], "container": "agent"}
        report = {**own, "event": event, "at": time.time(), "arm": self._arm, **details}
        self._socket.sendto(json.dumps(report).encode(), self._witness)

    def ended(self, call_id: str, kind: str, why: str, meter: Meter) -> None:
        """A call has ended: what this end heard of it."""
        self.last_end = time.time()
        self.tell("ended", call=call_id, kind=kind, why=why, **meter.told())

    async def converse(self, call_id: str) -> None:
        """Have turns until cancelled; a provider that does not answer is tried again at the next turn."""
        writer: asyncio.StreamWriter | None = None
        try:
            turn = 0
            while True:
                try:
                    if writer is None or turn % RECONNECT_TURNS == 0:
                        if writer is not None:
                            writer.close()
                        reader, writer = await asyncio.open_connection(*self._provider)
                    async with asyncio.timeout(TIMEOUT):
                        await self._ask(reader, writer, call_id)
                except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                    self.tell("unanswered", call=call_id, error=type(error).__name__)
                    writer = None
                turn += 1
                await asyncio.sleep(TURN_SECONDS)
        finally:
            if writer is not None:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call_id: str) -> None:
        head = [
            "POST /turn HTTP/1.1",
            "Host: provider",
            f"Authorization: {self._authorization}",
            f"X-Call: {call_id}",
            f"X-Arm: {self._arm}",
            "Content-Length: 0",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode())
        status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        if status != HTTPStatus.OK:
            self.tell("refused", call=call_id, status=status)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
