"""WebSocket media streams, as a provider opens them to an agent: numbered frames of 20 ms in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from voicekeys import agent

from .media import Meter, pace, stream_frame, stream_number

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

    from .talk import Talk

PORT = 8080
CALL_HEADER = "X-Call"
TRY_AGAIN = 1013


def screen(connection: ServerConnection, request: Request) -> Response | None:
    """Answer the readiness probe, and refuse a stream that this pod does not take."""
    if request.path == "/ready":
        return connection.respond(HTTPStatus.OK, "")
    if not agent.is_taking_calls():
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")
    return None


async def speak(connection: ServerConnection) -> None:
    """Send a frame each 20 ms until the stream is closed."""
    with contextlib.suppress(ConnectionClosed):
        async for number in pace():
            await connection.send(stream_frame(number))


async def answer(connection: ServerConnection, talk: Talk) -> None:
    """One stream, one call."""
    assert connection.request is not None
    call_id = connection.request.headers[CALL_HEADER]
    try:
        counted = agent.call(call_id).begin()
    except agent.Refused:
        await connection.close(TRY_AGAIN)
        return
    meter = Meter()
    tasks = [asyncio.create_task(speak(connection)), asyncio.create_task(talk.converse(call_id))]
    try:
        # Ends without an error at codes 1000 and 1001.
        async for frame in connection:
            assert isinstance(frame, bytes)
            meter.take(stream_number(frame))
    except ConnectionClosed:
        pass
    finally:
        for task in tasks:
            task.cancel()
        counted.end()
        talk.ended(call_id, "stream", str(connection.close_code), meter)


async def listen(host: str, talk: Talk) -> Server:
    """Serve streams, and the readiness probe; `host` is the pod's own address."""
    # The library's own pings would end a stream on a machine that is busy for 20 s.
    return await serve(
        lambda connection: answer(connection, talk),
        host,
        PORT,
        compression=None,
        ping_interval=None,
        process_request=screen,
    )
