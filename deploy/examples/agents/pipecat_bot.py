"""A bot in the shape of Pipecat's telephony examples: a web server, and for each WebSocket a pipeline in a task.

    pip install voicekeys fastapi uvicorn websockets pipecat-ai
    PORT=8080 VOICEKEYS_DRAIN_TOKEN=… python pipecat_bot.py

Pipecat has no drain of its own, and runs on plain uvicorn. The class below stands in for `PipelineTask` and
`PipelineRunner`, so that this file runs without models and keys; where it is started is where yours is.
"""

import asyncio
import os

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from voicekeys import agent


class Pipeline:
    """Frames in, frames out, until the caller hangs up or the bot ends the call."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def run(self) -> None:
        """Read and answer in two tasks, as a transport and its pipeline do."""
        reader = asyncio.create_task(self.read())
        while (frame := await self.frames.get()) is not None:
            await self.websocket.send_bytes(frame)
        await reader

    async def read(self) -> None:
        """The input transport."""
        async for frame in self.websocket.iter_bytes():
            await self.frames.put(frame)
        await self.frames.put(None)

    async def say_goodbye(self) -> None:
        """What a bot does when its time is up: in Pipecat, `task.queue_frames([TTSSpeakFrame(…), EndFrame()])`."""
        await self.frames.put(b"goodbye")
        await self.frames.put(None)


pipelines: dict[agent.Call, Pipeline] = {}


async def goodbye(call: agent.Call) -> None:
    """Before the grace ends, for each caller that is still there."""
    if call in pipelines:
        await pipelines[call].say_goodbye()


async def bot(websocket: WebSocket) -> None:
    """The call counts around the whole pipeline."""
    try:
        call = agent.call(max_call=2 * 3600).begin()
    except agent.Refused:
        await websocket.close(code=1013)
        return
    try:
        await websocket.accept()
        pipelines[call] = Pipeline(websocket)
        await pipelines[call].run()
    finally:
        pipelines.pop(call, None)
        call.end()


app = Starlette(routes=[WebSocketRoute("/ws", bot)])

if __name__ == "__main__":
    agent.serve()
    agent.guard()
    agent.on_deadline(goodbye, before=float(os.environ.get("GOODBYE_SECONDS", "30")))
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), log_level="warning")
