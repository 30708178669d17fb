"""A WebSocket agent on aiohttp's own server.

pip install voicekeys aiohttp
PORT=8080 VOICEKEYS_DRAIN_TOKEN=… python aiohttp_websocket.py
"""

import os

from aiohttp import WSCloseCode, WSMsgType, web

from voicekeys import agent


async def media(request: web.Request) -> web.StreamResponse:
    """Take the call, or send the caller to another pod; then echo its frames."""
    try:
        call = agent.call(max_call=2 * 3600).begin()
    except agent.Refused as refused:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": str(refused.retry_after)}) from refused
    try:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
        await websocket.close(code=WSCloseCode.OK)
        return websocket
    finally:
        call.end()


if __name__ == "__main__":
    agent.serve()
    agent.guard()
    app = web.Application()
    app.router.add_get("/media", media)
    web.run_app(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), print=None)
