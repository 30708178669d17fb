"""A SIP user agent that answers calls and speaks: the recipe `deploy/examples/agents/sip_ua.py`, with audio.

Each call has an RTP port of its own. The agent sends a numbered frame each 20 ms; the caller sends them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from typing import TYPE_CHECKING, cast

from voicekeys import agent

from .media import Meter, pace, rtp, rtp_number

if TYPE_CHECKING:
    from .talk import Talk

PORT = 5060
SILENT_SECONDS = 10.0
"""A caller who is not heard for so long has gone (RFC 4028 is what a real one would use)."""
ANSWERED_SECONDS = 32.0
"""For which a BYE that comes again is answered as before (RFC 3261, timer J)."""
ECHOED = {"via", "from", "to", "call-id", "cseq"}
Address = tuple[str, int]
_sources = itertools.count(1)


def parse(data: bytes) -> tuple[str, list[tuple[str, str]], str]:
    """Return a message's first line, its headers in their order, and its body."""
    head, _, body = data.decode(errors="replace").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    pairs = [line.partition(":")[::2] for line in lines]
    return first, [(name.strip(), value.strip()) for name, value in pairs], body


def header(headers: list[tuple[str, str]], wanted: str) -> str:
    """Return the first header of a name in lower case; empty when there is none."""
    return next((value for name, value in headers if name.lower() == wanted), "")


def media_of(sdp: str) -> Address:
    """Return where an SDP body wants its audio."""
    lines = dict(line.partition("=")[::2] for line in sdp.splitlines() if line[:2] in {"c=", "m="})
    return lines["c"].split()[-1], int(lines["m"].split()[1])


def sdp(media: Address) -> str:
    """Return an SDP body that wants PCMU at an address."""
    host, port = media
    lines = [
        "v=0",
        f"o=bench 1 1 IN IP4 {host}",
        "s=-",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
        "",
    ]
    return "\r\n".join(lines)


class Dialog:
    """One call: counted from INVITE to BYE."""

    def __init__(self, user_agent: UserAgent, call_id: str, caller: Address) -> None:
        self.counted = agent.call(call_id).begin()
        self.meter = Meter()
        self.begun = time.monotonic()
        self._caller = caller
        self._talk = user_agent.talk
        self._call_id = call_id
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((user_agent.host, 0))
        self.media = (user_agent.host, self._socket.getsockname()[1])
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._receive)
        self._tasks = [
            self._loop.create_task(self._speak(user_agent)),
            self._loop.create_task(self._talk.converse(call_id)),
        ]

    def _receive(self) -> None:
        try:
            self.meter.take(rtp_number(self._socket.recv(2048)))
        except OSError:
            return  # nothing there, or a port of the caller's that is closed

    async def _speak(self, user_agent: UserAgent) -> None:
        source = next(_sources)
        async for number in pace():
            # What cannot be sent is lost, as the network would lose it.
            with contextlib.suppress(OSError):
                self._socket.sendto(rtp(number, source), self._caller)
            if time.monotonic() - max(self.meter.last, self.begun) > SILENT_SECONDS:
                user_agent.hang_up(self._call_id, "silent")
                return

    def end(self, why: str) -> None:
        """The call is over."""
        self.meter.end()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for task in self._tasks:
            task.cancel()
        self.counted.end()
        self._talk.ended(self._call_id, "sip", why, self.meter)


class UserAgent(asyncio.DatagramProtocol):
    """Answers requests; its calls are its dialogs."""

    def __init__(self, host: str, talk: Talk) -> None:
        self.host = host
        self.talk = talk
        self.dialogs: dict[str, Dialog] = {}
        self._ended: set[str] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        """One request, one final answer."""
        first, headers, body = parse(data)
        status, extra, answer = self._answer(first.partition(" ")[0], header(headers, "call-id"), body)
        if not status or self._transport is None:
            return
        echoed = [f"{name}: {self._tagged(name, value)}" for name, value in headers if name.lower() in ECHOED]
        length = f"Content-Length: {len(answer)}"
        reply = "\r\n".join([f"SIP/2.0 {status}", *echoed, *extra, length, "", answer])
        self._transport.sendto(reply.encode(), address)

    def _tagged(self, name: str, value: str) -> str:
        return f"{value};tag=agent" if name.lower() == "to" and ";tag=" not in value else value

    def _answer(self, method: str, call_id: str, body: str) -> tuple[str, list[str], str]:
        """The status, headers that go with it, and the body; no status for ACK and for responses."""
        if method == "INVITE":
            return self._invite(call_id, body)
        if method == "BYE":
            return self._bye(call_id), [], ""
        return ("200 OK" if method == "OPTIONS" else ""), [], ""

    def _invite(self, call_id: str, body: str) -> tuple[str, list[str], str]:
        """Begin a call, unless this pod takes none: then the dispatcher tries the next."""
        if call_id not in self.dialogs:
            try:
                self.dialogs[call_id] = Dialog(self, call_id, media_of(body))
            except agent.Refused as refused:
                return "503 Service Unavailable", [f"Retry-After: {refused.retry_after}"], ""
        extra = [f"Contact: <sip:agent@{self.host}:{PORT}>", "Content-Type: application/sdp"]
        return "200 OK", extra, sdp(self.dialogs[call_id].media)

    def _bye(self, call_id: str) -> str:
        if self.hang_up(call_id, "bye"):
            self._ended.add(call_id)
            asyncio.get_running_loop().call_later(ANSWERED_SECONDS, self._ended.discard, call_id)
        return "200 OK" if call_id in self._ended else "481 Call/Transaction Does Not Exist"

    def hang_up(self, call_id: str, why: str) -> bool:
        """End a call; False when there is no such call."""
        dialog = self.dialogs.pop(call_id, None)
        if dialog is not None:
            dialog.end(why)
        return dialog is not None


async def serve(host: str, talk: Talk) -> asyncio.BaseTransport:
    """Serve SIP; `host` is the pod's own address."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: UserAgent(host, talk), (host, PORT))
    return transport
