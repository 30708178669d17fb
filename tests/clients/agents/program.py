"""An agent in a process of its own, told by lines: ``begin``, ``end``, ``drain``. Arguments: host, port, settle."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import urllib.request

from voicekeys import agent
from voicekeys.agent.shared import AGENT

host, port, settle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
token = os.environ["VOICEKEYS_DRAIN_TOKEN"] or None
calls: list[agent.Call] = []


def hook() -> None:
    """What the kubelet's preStop does, and what follows it."""
    request = urllib.request.Request(f"http://{host}:{port}/voicekeys/v1/drain")
    request.add_header("X-Voicekeys-Token", token or "")
    with urllib.request.urlopen(request):
        time.sleep(0.012)  # K1
        os.kill(os.getpid(), signal.SIGTERM)


def obey(line: str) -> None:
    match line:
        case "begin":
            calls.append(agent.call().begin())
        case "end":
            calls.pop().end()
        case "drain":
            threading.Thread(target=hook, daemon=True).start()
    print(line, "done")


AGENT.serve(settings=agent.Settings(host=host, port=port, token=token, settle=settle, gather=0.0))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
AGENT.guard(settle=settle)
print("serving")
for line in sys.stdin:
    obey(line.strip())
