"""A stand-in for a voice agent, and for whatever an agent may do wrong: a program of its own, standard library only.

It runs in a pod of a real node and tells a witness (`WITNESS=host:port`, by UDP) what happens to it and when: its start
with the key that it got (`API_KEY`), each HTTP request, SIGTERM, and several times a second that it is alive. A pod's
log goes with the pod; what the witness has stays.

`PLAN` (JSON) says how it behaves; each field may be missing::

    port     where it serves HTTP (9909)
    hook     what GET /drain does: {"hold": 8} answers after 8 s, {"status": 503} answers at once,
             {"trickle": 1024} sends 1 KiB each second, until 20 KiB; with "declared": true in a Content-Length
    linger   for how many seconds it runs on after SIGTERM (0)
    ill      after how many seconds GET /live fails (never)
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

BEAT = 0.1
TRICKLED = 20 * 1024
REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class Agent:
    """One container of a pod, by its plan."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.begun = time.time()
        self.ended = asyncio.Event()
        host, _, port = os.environ["WITNESS"].rpartition(":")
        self.witness = (host, int(port))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def tell(self, event: str, **details: Any) -> None:
        """Tell the witness of something that happened now."""
        report = {
            "pod": os.environ.get("POD_NAME", ""),
            "uid": os.environ.get("POD_UID", ""),
            "container": os.environ.get("CONTAINER", "agent"),
            "event": event,
            "at": time.time(),
            **details,
        }
        try:
            self.socket.sendto(json.dumps(report).encode(), self.witness)
        except OSError as error:
            # The node is cut off: calls go on all the same.
            print(event, error, flush=True)

    async def run(self) -> None:
        """Serve until SIGTERM and `linger` have passed."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.on_term)
        server = await asyncio.start_server(self.serve, "0.0.0.0", self.plan.get("port", 9909))
        self.tell("started", key=os.environ.get("API_KEY", ""))
        print("started", flush=True)
        async with server:
            while not self.ended.is_set():
                self.tell("alive")
                await asyncio.sleep(BEAT)
        self.tell("exiting")

    def on_term(self) -> None:
        """SIGTERM."""
        self.tell("sigterm")
        asyncio.get_running_loop().call_later(self.plan.get("linger", 0), self.ended.set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        path = "/"
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split()[1].decode()
            self.tell("request", path=path)
            await self.answer(path, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.tell("request-ended", path=path)
            writer.close()

    async def answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a path."""
        if path == "/drain":
            await self.drain(self.plan.get("hook", {}), reader, writer)
        elif path == "/live":
            ill = time.time() - self.begun > self.plan.get("ill", float("inf"))
            await respond(writer, 503 if ill else 200)
        else:
            await respond(writer, 200)

    async def drain(self, hook: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the preStop hook of the plan; it ends as well when the one who asks hangs up."""
        gone = asyncio.create_task(reader.read(1))
        if "hold" in hook:
            await asyncio.wait([gone], timeout=hook["hold"])
        if "trickle" in hook:
            length = f"Content-Length: {TRICKLED}" if hook.get("declared") else "Connection: close"
            writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
            for sent in range(hook["trickle"], TRICKLED + 1, hook["trickle"]):
                writer.write(b"." * hook["trickle"])
                await writer.drain()
                self.tell("trickled", sent=sent)
                if (await asyncio.wait([gone], timeout=1))[0]:
                    break
        elif not gone.done():
            await respond(writer, hook.get("status", 200))
        gone.cancel()


async def respond(writer: asyncio.StreamWriter, status: int) -> None:
    """Send an answer without a body."""
    writer.write(f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()


async def main() -> None:
    """Run the agent of this container."""
    await Agent(json.loads(os.environ.get("PLAN", "{}"))).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
