"""A UDP service that says who it is, and a caller of it with one long flow: for what kube-proxy does with flows (K17).

`python3 /udp.py serve`, or `call` with `SERVICE=<address>`. Both tell the witness (`WITNESS=host:port`) of their start,
the caller of each answer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

PORT = 5060
PAUSE = 0.1


def tell(event: str, **details: Any) -> None:
    """Tell the witness of something that happened now."""
    host, _, port = os.environ["WITNESS"].rpartition(":")
    names = {"pod": os.environ["POD_NAME"], "uid": os.environ["POD_UID"], "container": os.environ["CONTAINER"]}
    report = json.dumps({**names, "event": event, "at": time.time(), **details}).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(report, (host, int(port)))


def serve() -> None:
    """Answer each packet with the pod's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", PORT))
        tell("started")
        while True:
            _, peer = sock.recvfrom(64)
            sock.sendto(os.environ["POD_NAME"].encode(), peer)


def call() -> None:
    """Send packets from one port, and tell who answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((os.environ["SERVICE"], PORT))
        sock.settimeout(PAUSE)
        tell("started")
        while True:
            try:
                sock.send(b"packet")
                tell("answered", by=sock.recv(256).decode())
            except OSError:
                pass  # nobody answers just now, or the address is refused
            time.sleep(PAUSE)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    {"serve": serve, "call": call}[sys.argv[1]]()
