"""Programs with a guard. Arguments: whose handler SIGTERM has (plain, loop, default), when the guard comes.

Takes lines on standard input: ``begin``, ``end``. Says ``ready``, ``begun``, ``ended``, ``stopping`` (the program's own
handler ran), ``interrupted``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from voicekeys import agent
from voicekeys.agent.shared import AGENT

how, when = sys.argv[1], sys.argv[2]
calls: list[agent.Call] = []


def guard() -> None:
    agent.guard(settle=float(os.environ.get("SETTLE", "0")))


def listen() -> None:
    """Obey lines, in a thread."""
    for line in sys.stdin:
        if line.strip() == "begin":
            calls.append(agent.call().begin())
            print("begun", flush=True)
        else:
            calls.pop().end()
            print("ended", flush=True)


def stopping(stop: threading.Event | asyncio.Event) -> None:
    """The server's own handler."""
    print("stopping", flush=True)
    stop.set()


def run_plain() -> None:
    """A program with a handler by signal.signal."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping(stop))
    if when == "startup":
        guard()
    print("ready", flush=True)
    try:
        while not stop.wait(0.05):
            pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def run_default() -> None:
    """A program without any handler: SIGTERM kills it."""
    guard()
    print("ready", flush=True)
    while True:
        signal.pause()


def run_loop() -> None:
    """A program with a handler by loop.add_signal_handler."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping, stop)
        if when == "startup":
            guard()
        print("ready", flush=True)
        await stop.wait()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)


if os.environ.get("DRAIN_PORT"):
    AGENT.serve(
        settings=agent.Settings(
            port=int(os.environ["DRAIN_PORT"]), token=os.environ["VOICEKEYS_DRAIN_TOKEN"], settle=0.0, gather=0.0
        )
    )
if when == "before":
    guard()
threading.Thread(target=listen, daemon=True).start()
{
    "plain": run_plain,
    "default": run_default,
    "loop": run_loop,
}[how]()
