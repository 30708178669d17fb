"""A WebSocket agent with FastAPI on uvicorn, and on uvloop, as `uvicorn[standard]` brings it.

    pip install voicekeys fastapi "uvicorn[standard]"
    PORT=8080 VOICEKEYS_DRAIN_TOKEN=… python fastapi_websocket.py

The application is as it would be without draining; the middleware is added to it like any other.
"""

import os

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from voicekeys import agent

app = FastAPI()
# Count each WebSocket, from before it is accepted, and hold SIGTERM, from the application's startup on.
app.add_middleware(agent.CallMiddleware, max_call=2 * 3600)


@app.get("/")
async def health() -> dict[str, str]:
    """For the readiness probe: no call, so it is answered while the pod drains, too."""
    return {"status": "ok"}


@app.websocket("/media")
async def talk(websocket: WebSocket) -> None:
    """A provider's media stream: here each frame goes back to where it came from."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    agent.serve()  # The drain contract.
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), loop="uvloop", log_level="warning")
