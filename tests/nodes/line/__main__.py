"""Runs in a pod, with Python's own library and `voicekeys.agent`: a call is what `POST /begin/ID` begins on port 8080.

It tells a witness (`WITNESS=host:port`, by UDP) of its start with the key that it got, of each call's end, of SIGTERM,
and that it is alive. Each answer has the number of live calls, as JSON; that of `/idle` is 409 while there are any.
`/block/SECONDS` blocks its event loop. `REFUSES=<key>`: with that key it does not start; `SLOW=<key>`: with that one it
takes long to; `DEAF=1`: it serves no drain contract; `MAX_CALL=<seconds>`: an older call counts as leaked. `OWN=1`: it
does without the library, takes no more calls after SIGTERM, and ends with its last one, or at a second SIGTERM at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from typing import Any

from voicekeys import agent

PORT = 8080
BEAT = 0.1
SLOW_SECONDS = 15


class Line:
    """The agent."""

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}
        self.ended = asyncio.Event()
        self.own = bool(os.environ.get("OWN"))
        self.leaving = False
        host, _, port = os.environ["WITNESS"].rpartition(":")
        self.witness = (host, int(port))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def tell(self, event: str, **details: Any) -> None:
        """Tell the witness of something that happened now."""
        names = {"pod": os.environ["POD_NAME"], "uid": os.environ["POD_UID"], "container": "agent"}
        report = {**names, "event": event, "at": time.time(), "live": sorted(self.calls), **details}
        try:
            self.socket.sendto(json.dumps(report).encode(), self.witness)
        except OSError as error:
            print(event, error, flush=True)

    def on_term(self) -> None:
        """SIGTERM, when the guard hands it on; without one, as soon as it may end."""
        if self.own and self.calls and not self.leaving:
            self.leaving = True
            return
        self.tell("sigterm")
        self.ended.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do as one is told."""
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).split()
            _, verb, *rest = request[1].decode().split("/")
            status = self.do(verb, rest[0] if rest else "")
            body = json.dumps({"calls": {"live": len(self.calls)}})
            head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(f"{head}{body}".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def do(self, verb: str, what: str) -> int:
        """Begin or end a call, or have a fault; return the HTTP status."""
        if verb == "begin" and self.leaving:
            return 503
        if verb == "begin" and self.own:
            self.calls[what] = None
        elif verb == "begin":
            call = agent.call(what, max_call=float(os.environ.get("MAX_CALL", "3600")))
            try:
                call.begin()
            except agent.Refused:
                return 503
            self.calls[what] = call
        elif verb == "end" and what in self.calls:
            if call := self.calls.pop(what):
                call.end()
            self.tell("call-ended", call=what)
            if self.leaving and not self.calls:
                self.on_term()
        elif verb == "block":
            asyncio.get_running_loop().call_later(0.05, time.sleep, float(what))
        elif verb == "idle" and self.calls:
            return 409
        return 200

    async def run(self) -> None:
        """Serve until SIGTERM."""
        key = os.environ.get("API_KEY", "")
        if key and key == os.environ.get("REFUSES"):
            print("this key is no good", flush=True)
            sys.exit(1)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.on_term)
        if key and key == os.environ.get("SLOW"):
            await asyncio.sleep(SLOW_SECONDS)
        if not os.environ.get("DEAF") and not self.own:
            agent.serve()
            agent.guard()
        server = await asyncio.start_server(self.serve, "0.0.0.0", PORT)
        self.tell("started", key=key)
        async with server:
            while not self.ended.is_set():
                self.tell("alive")
                await asyncio.sleep(BEAT)
        self.tell("exiting")


if __name__ == "__main__":
    asyncio.run(Line().run())
