"""A voice agent in a pod: SIP on 5060, WebSocket streams on 8080, and with `LIBRARY=on` the drain contract on 9909.

Without the library it ends at SIGTERM as servers do: streams are closed (1012), SIP calls are just gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.request
from datetime import datetime
from typing import Any

from voicekeys import agent

from . import sip, stream
from .talk import Talk

SERVICE_RESTART = 1012


def drain_of() -> dict[str, Any]:
    """Ask the contract, as anybody would, when the drain began and when its settle window ended; Unix times."""
    port = os.environ["VOICEKEYS_DRAIN_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/voicekeys/v1/calls", timeout=2) as answer:
        said = json.load(answer)
    drain = said["drain"] or {}
    moments = {"drain_began": drain.get("startedTime"), "settle_ended": drain.get("settleEndTime")}
    times = {name: datetime.fromisoformat(at).timestamp() for name, at in moments.items() if at}
    return {**times, "state": said["state"], "calls": said["calls"]}


async def main() -> None:
    """Serve until SIGTERM."""
    env = os.environ
    talk = Talk(env["PROVIDER"], env["WITNESS"], env["PROVIDER_API_KEY"], env["ARM"])
    stop: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def on_term() -> None:
        if not stop.done():
            stop.set_result(time.time())

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_term)
    has_library = env.get("LIBRARY") == "on"
    if has_library:
        agent.serve()
        agent.guard()
    streams = await stream.listen(env["POD_IP"], talk)
    user_agent = await sip.serve(env["POD_IP"], talk)
    talk.tell("started")
    at = await stop
    live = agent.active()
    drain = await asyncio.to_thread(drain_of) if has_library else {}
    talk.tell("sigterm", sigterm=at, last_end=talk.last_end, live=live, **drain)
    user_agent.close()
    streams.close(code=SERVICE_RESTART)
    await streams.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
