"""A process of a pool, told by lines what to do: ``begin``, ``end``, ``serve``, ``fork``, ``exit``.

Each answers with a line: ``begun``, ``refused <phase>``, ``ended``, ``serving <port>``, ``child <pid>``.
Arguments: ``serve`` or ``wait``, the port, seconds of settle.
"""

from __future__ import annotations

import os
import signal
import sys

from voicekeys import agent
from voicekeys.agent.shared import AGENT

settings = agent.Settings(
    port=int(sys.argv[2]), token=os.environ["VOICEKEYS_DRAIN_TOKEN"], settle=float(sys.argv[3]), gather=0.7
)
calls: list[agent.Call] = []


def serve() -> None:
    print("serving", AGENT.serve(settings=settings))


def begin() -> None:
    try:
        calls.append(agent.call(key_version="7").begin())
    except agent.Refused as refused:
        print("refused", refused.phase)
    else:
        print("begun")


def obey(line: str) -> None:
    """Do one thing and say so."""
    match line:
        case "serve":
            serve()
        case "begin":
            begin()
        case "end":
            calls.pop().end()
            print("ended")
        case "fork":
            if (pid := os.fork()) == 0:
                calls.clear()
                begin()
                serve_child()
            print("child", pid)
        case "exit":
            sys.exit(0)


def serve_child() -> None:
    """A forked child holds its call until a signal ends it."""
    signal.signal(signal.SIGUSR1, lambda *_: calls.pop().end())
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        signal.pause()


if sys.argv[1] == "serve":
    serve()
else:
    print("waiting")
for line in sys.stdin:
    obey(line.strip())
