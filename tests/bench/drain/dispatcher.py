"""Between sipp and the agents: each new call goes to a ready pod, all that belongs to it to the same one, by Call-ID.

What a SIP proxy's dispatcher module does: a pod that answers 503 or not at all is passed over for the next. SDP is
rewritten so that the audio passes the relay. What a call came to is decided here, by what sipp and the pod said.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from tests.bench.drain.agent.sip import ECHOED, PORT, Address, header, media_of, parse, sdp
from tests.bench.drain.records import Call, Outcome
from tests.bench.drain.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.drain.follow import Cluster
    from tests.bench.drain.records import Book

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 3.4
"""A pod that has not answered an INVITE when sipp sends it for the fourth time is passed over, and not tried again."""
ANSWER_SECONDS = 16.0
"""Within which a pod must answer BYE, which sipp repeats: on a busy machine a live agent may be slow."""
TRIES = 20
RETRY_SECONDS = 0.1
KEPT_SECONDS = 40.0
"""For which a call that ended is still known, so that what comes late belongs somewhere."""


@dataclass
class Leg:
    """A call on its way through: `invite` as sipp sent it, the pod that has it now, those that did not take it."""

    call: Call
    invite: bytes
    caller: Address
    relay: Relay
    pod: str = ""
    sent: float = 0.0
    tried: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    hung_up: float = 0.0
    answered: bytes = b""


class Side(asyncio.DatagramProtocol):
    """A socket of the dispatcher: what comes goes to `received`."""

    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        """Hand on."""
        self._received(data, address)


class Dispatcher:
    """Carries SIP between sipp and the pods of the arm that has the load.

    Args:
        cluster: knows the pods.
        book: gets each call's end.
        host: this machine's address as pods see it.
        arm: gives the arm that a new call goes to.
    """

    def __init__(self, cluster: Cluster, book: Book, host: str, arm: Callable[[], str]) -> None:
        self.legs: dict[str, Leg] = {}
        self._cluster = cluster
        self._book = book
        self._host = host
        self._arm = arm
        self._callers = Side(self._from_caller)
        self._agents = Side(self._from_agent)

    async def start(self) -> int:
        """Listen, and return the port for sipp."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self._callers, (LOOPBACK, 0))
        await loop.create_datagram_endpoint(lambda: self._agents, (self._host, 0))
        return int(self._callers.transport.get_extra_info("sockname")[1])

    @property
    def live(self) -> int:
        """Calls that have not ended."""
        return sum(not leg.call.ended for leg in self.legs.values())

    # ---- from sipp

    def _from_caller(self, data: bytes, address: Address) -> None:
        first, headers, body = parse(data)
        method, call_id = first.partition(" ")[0], header(headers, "call-id")
        leg = self.legs.get(call_id)
        if method == "INVITE" and leg is None:
            long = first.split()[1].startswith("sip:long@")
            call = Call(call_id, self._arm(), "sip", time.time(), long=long)
            self.legs[call_id] = leg = Leg(call, data, address, Relay(media_of(body)))
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._unplaced, leg)
            self._place(leg)
        elif leg is None:
            return
        elif method == "INVITE":
            self._again(leg, data)
        else:
            if method == "BYE" and not leg.hung_up:
                leg.hung_up = time.time()
                leg.relay.meter.end()
                asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._unanswered, leg, data)
            self._agents.transport.sendto(data, (leg.pod, PORT))

    def _again(self, leg: Leg, data: bytes) -> None:
        """Sipp has waited: for a pod that is slow, or for one that is gone."""
        if leg.answered:
            self._callers.transport.sendto(leg.answered, leg.caller)
        elif leg.pod and time.monotonic() - leg.sent > PATIENCE_SECONDS:
            leg.silent.add(leg.pod)
            self._pass_over(leg)
        elif leg.pod:
            self._agents.transport.sendto(self._with_media(data, self._host, leg.relay.port), (leg.pod, PORT))

    def _place(self, leg: Leg) -> None:
        """Send an INVITE to a pod that has not refused it; when all have, begin anew a little later."""
        pod = self._cluster.choose(leg.call.arm, leg.tried | leg.silent)
        if pod is None:
            leg.tried.clear()
            self._pass_over(leg)
            return
        leg.pod, leg.sent = pod, time.monotonic()
        self._agents.transport.sendto(self._with_media(leg.invite, self._host, leg.relay.port), (pod, PORT))

    def _pass_over(self, leg: Leg) -> None:
        leg.tried.add(leg.pod)
        leg.pod = ""
        leg.call.retries += 1
        if leg.call.retries > TRIES:
            self._end(leg, Outcome.UNPLACED, "")
            self._refuse(leg, leg.invite, "503 Service Unavailable")
        else:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._place, leg)

    def _unplaced(self, leg: Leg) -> None:
        if not leg.call.began:
            self._end(leg, Outcome.UNPLACED, "no answer")

    def _unanswered(self, leg: Leg, bye: bytes) -> None:
        if not leg.call.ended:
            self._end(leg, Outcome.DROPPED, "BYE unanswered")
            self._refuse(leg, bye, "481 Call/Transaction Does Not Exist")

    # ---- from pods

    def _from_agent(self, data: bytes, address: Address) -> None:
        first, headers, body = parse(data)
        leg = self.legs.get(header(headers, "call-id"))
        if leg is None:
            return
        status, method = first.split()[1], header(headers, "cseq").split()[-1]
        if address[0] != leg.pod:
            if method == "INVITE" and status == "200":
                self._drop_late(data, address)  # it was passed over, and took the call all the same
        elif method == "INVITE" and not leg.call.began:
            self._answer_to_invite(leg, status, data, body)
        elif method == "BYE" and leg.hung_up:
            if status == "200":
                self._end(leg, Outcome.COMPLETED, "")
            else:
                self._end(leg, Outcome.DROPPED, f"BYE {status}")
            self._callers.transport.sendto(data, leg.caller)

    def _answer_to_invite(self, leg: Leg, status: str, data: bytes, body: str) -> None:
        if status != "200":
            self._pass_over(leg)
            return
        leg.relay.agent = media_of(body)
        leg.call.pod, leg.call.began = leg.pod, time.time()
        leg.answered = self._with_media(data, LOOPBACK, leg.relay.port)
        self._callers.transport.sendto(leg.answered, leg.caller)

    def _drop_late(self, answer: bytes, address: Address) -> None:
        _, headers, _ = parse(answer)
        kept = [f"{name}: {value}" for name, value in headers if name.lower() in ECHOED - {"cseq"}]
        bye = [f"BYE sip:agent@{address[0]} SIP/2.0", *kept, "CSeq: 2 BYE", "Content-Length: 0", "", ""]
        self._agents.transport.sendto("\r\n".join(bye).encode(), address)

    # ---- both

    def _end(self, leg: Leg, outcome: Outcome, why: str) -> None:
        call, meter = leg.call, leg.relay.meter
        if call.ended:
            return
        call.outcome, call.why, call.ended = outcome, why, leg.hung_up or time.time()
        call.frames, call.lost, call.gap_ms = meter.frames, meter.lost, round(1000 * meter.gap, 1)
        leg.relay.close()
        self._book.write(call)
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self.legs.pop, call.call, None)

    def _refuse(self, leg: Leg, request: bytes, status: str) -> None:
        _, headers, _ = parse(request)
        echoed = [f"{name}: {value}" for name, value in headers if name.lower() in ECHOED]
        reply = "\r\n".join([f"SIP/2.0 {status}", *echoed, "Content-Length: 0", "", ""])
        self._callers.transport.sendto(reply.encode(), leg.caller)

    @staticmethod
    def _with_media(message: bytes, host: str, port: int) -> bytes:
        """Return a message whose SDP wants its audio elsewhere."""
        head, _, _ = message.decode().partition("\r\n\r\n")
        body = sdp((host, port))
        lines = [line for line in head.split("\r\n") if not line.lower().startswith("content-length:")]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()
