"""The audio of one SIP call, as a media proxy carries it: one port, each side's frames to the other.

What passes is measured on the caller's side, so that it is known of a call whose agent was killed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from tests.bench.drain.agent.media import Meter, rtp_number

if TYPE_CHECKING:
    from tests.bench.drain.agent.sip import Address


class Relay:
    """One call's port. `caller` and `agent` are where the two want their audio; the latter is not known at first."""

    def __init__(self, caller: Address) -> None:
        self.caller = caller
        self.agent: Address | None = None
        self.meter = Meter()
        """Of what the agent says."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("0.0.0.0", 0))
        self.port = int(self._socket.getsockname()[1])
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def _receive(self) -> None:
        # A port that is closed shows as an error of the next call.
        with contextlib.suppress(OSError):
            packet, sender = self._socket.recvfrom(2048)
            if sender == self.caller:
                if self.agent is not None:
                    self._socket.sendto(packet, self.agent)
            elif self.agent is None or sender == self.agent:
                self.meter.take(rtp_number(packet))
                self._socket.sendto(packet, self.caller)

    def close(self) -> None:
        """Carry no more."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
