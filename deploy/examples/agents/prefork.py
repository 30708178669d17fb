"""A server that forks its workers, as gunicorn does: one socket, several processes, one count of calls.

    pip install voicekeys
    PORT=8080 WORKERS=3 VOICEKEYS_DRAIN_TOKEN=… python prefork.py

The parent serves the contract before it forks: it outlives its workers, so the hook's connection never has to move.
Its guard holds SIGTERM until all workers are idle. Workers join with their first call.
"""

import os
import signal
import socket
import sys

from voicekeys import agent


def work(listener: socket.socket) -> None:
    """One worker: a line in, a line out, one call at a time."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            try:
                with agent.call():
                    stream.write(f"worker {os.getpid()}\n".encode())
                    for line in stream:
                        stream.write(line)
            except agent.Refused:
                stream.write(b"503 try another pod\n")


def main() -> None:
    """Fork, and pass SIGTERM on to the workers, when it comes."""
    agent.serve()
    agent.guard()
    listener = socket.create_server(("0.0.0.0", int(os.environ.get("PORT", "8080"))))
    children = []
    for _ in range(int(os.environ.get("WORKERS", "3"))):
        child = os.fork()
        if child == 0:
            work(listener)
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGTERM) for child in children])
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
