"""A WebSocket agent on uvicorn: Starlette here; FastAPI and every other ASGI framework in the same way.

    pip install voicekeys starlette uvicorn websockets
    PORT=8080 VOICEKEYS_DRAIN_TOKEN=… python uvicorn_websocket.py

Alone, uvicorn closes live WebSockets a tenth of a second after SIGTERM. With these three lines of ours it waits.
"""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from voicekeys import agent


async def talk(websocket: WebSocket) -> None:
    """A provider's media stream: here each frame goes back to where it came from."""
    await websocket.accept()
    async for frame in websocket.iter_bytes():
        await websocket.send_bytes(frame)


application = Starlette(routes=[WebSocketRoute("/media", talk)])
# 1. Count each WebSocket, from before it is accepted. 2. Hold SIGTERM, from the application's startup on.
app = agent.CallMiddleware(application, max_call=2 * 3600)

if __name__ == "__main__":
    agent.serve()  # 3. The drain contract.
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), log_level="warning")
