"""An agent that nobody can change: it serves its number of calls as one of `SYSTEMS` does, told by lines what to do.

``calls N``, ``fault NAME`` (or ``fault none``), ``die``; each is answered with ``done``. Arguments: system and port.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

from tests.agent.gauge.shapes import SYSTEMS

shape = SYSTEMS[sys.argv[1]]


@dataclass
class State:
    """What it was told."""

    calls: int = 0
    fault: str = "none"


state = State()


ANSWERS = {
    "garbage": (200, b"<html>0</html>"),
    "error": (500, shape.body(0).encode()),
    "forbidden": (403, shape.body(0).encode()),
    "empty": (200, b""),
}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        fault = state.fault
        if fault == "hang":
            time.sleep(60)
        if fault == "elsewhere" and self.path == "/elsewhere":
            fault = "none"  # a client that follows the redirect would find a proper zero
        elif self.path != shape.path:
            self.answer(404, b"not here")
            return
        if shape.authorization is not None and self.headers["Authorization"] != shape.authorization:
            self.answer(401, b"who are you")
        elif fault in ANSWERS:
            self.answer(*ANSWERS[fault])
        else:
            self.misbehave(fault)

    def misbehave(self, fault: str) -> None:
        match fault:
            case "none":
                self.answer(200, shape.body(state.calls).encode())
            case "elsewhere":
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(shape.body(0).encode())
                self.close_connection = True

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if shape.framing == "length":
            self.send_header("Content-Length", str(len(body)))
        elif shape.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            parts = [body[at : at + 100] for at in range(0, len(body), 100)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print("serving", server.server_port)
for line in sys.stdin:
    match line.split():
        case ["calls", number]:
            state.calls = int(number)
        case ["fault", name]:
            state.fault = name
        case ["die"]:
            os._exit(1)
    print("done")
