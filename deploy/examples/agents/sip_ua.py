"""A SIP user agent on UDP: as little of RFC 3261 as a call needs, to show where the library goes.

    pip install voicekeys
    PORT=5060 VOICEKEYS_DRAIN_TOKEN=… python sip_ua.py

INVITE begins a call, or is answered 503 with Retry-After; BYE ends it. A retransmitted INVITE, or one inside the call,
is no new call. Readiness must stay green while the pod drains, or kube-proxy cuts the RTP of live calls.
"""

import asyncio
import os
import signal
from typing import cast

from voicekeys import agent


class UserAgent(asyncio.DatagramProtocol):
    """Answers requests; its calls are its dialogs."""

    def __init__(self) -> None:
        self.calls: dict[str, agent.Call] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """One request, one final answer."""
        first, *lines = data.decode(errors="replace").split("\r\n\r\n")[0].split("\r\n")
        headers = [line.partition(":")[::2] for line in lines]
        names = {name.strip().lower(): value.strip() for name, value in headers}
        status, extra = self.answer(first.partition(" ")[0], names.get("call-id", ""))
        if status and self.transport is not None:
            echoed = [f"{n}:{v}" for n, v in headers if n.strip().lower() in {"via", "from", "to", "call-id", "cseq"}]
            reply = "\r\n".join([f"SIP/2.0 {status}", *echoed, *extra, "Content-Length: 0", "", ""])
            self.transport.sendto(reply.encode(), address)

    def answer(self, method: str, call_id: str) -> tuple[str, list[str]]:
        """The status, and headers that go with it; none for ACK and for responses."""
        if method == "INVITE":
            return self.invite(call_id)
        if method == "BYE":
            call = self.calls.pop(call_id, None)
            if call is None:
                return "481 Call/Transaction Does Not Exist", []
            call.end()
            return "200 OK", []
        return ("200 OK", []) if method == "OPTIONS" else ("", [])

    def invite(self, call_id: str) -> tuple[str, list[str]]:
        """Begin a call, unless this pod takes none: then the proxy tries the next."""
        if call_id not in self.calls:
            try:
                self.calls[call_id] = agent.call(call_id, max_call=2 * 3600).begin()
            except agent.Refused as refused:
                return "503 Service Unavailable", [f"Retry-After: {refused.retry_after}"]
        return "200 OK", []


async def main() -> None:
    """Serve until SIGTERM, which comes when the last call has ended."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    agent.serve()
    agent.guard()
    transport, _ = await loop.create_datagram_endpoint(UserAgent, ("0.0.0.0", int(os.environ.get("PORT", "5060"))))
    await stop.wait()
    transport.close()


if __name__ == "__main__":
    asyncio.run(main())
