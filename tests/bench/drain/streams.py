"""Callers of WebSocket media streams: numbered 20 ms frames in both directions, for a time that the caller chooses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import aiohttp

from tests.bench.drain.agent.media import Meter, pace, stream_frame, stream_number
from tests.bench.drain.agent.stream import CALL_HEADER, PORT, TRY_AGAIN
from tests.bench.drain.records import Call, Outcome

if TYPE_CHECKING:
    from tests.bench.drain.follow import Cluster
    from tests.bench.drain.records import Book

TRIES = 20
RETRY_SECONDS = 0.1
SILENT_SECONDS = 5.0
"""A caller who hears nothing for so long hangs up: the call was dropped."""
ANSWER_SECONDS = 16.0
"""Within which an agent must answer a close: see dispatcher.py."""
CONNECT_SECONDS = 3.0
"""Within which a pod must take a call; then the next is tried."""
CLOSING = aiohttp.ClientWSTimeout(ws_close=ANSWER_SECONDS)


class Streams:
    """Places streams over the ready pods of an arm."""

    def __init__(self, cluster: Cluster, book: Book) -> None:
        self._cluster = cluster
        self._book = book
        # As many connections as there are calls.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), connector=connector)

    async def call(self, name: str, arm: str, seconds: float, *, long: bool = False) -> None:
        """Place one call and see it to its end, which the caller makes after so many seconds."""
        call = Call(name, arm, "stream", time.time(), long=long)
        tried: set[str] = set()
        for _ in range(TRIES):
            pod = self._cluster.choose(arm, tried)
            if pod is None:
                tried.clear()
            elif await self._hold(call, pod, seconds):
                break
            else:
                tried.add(pod)
            call.retries += 1
            await asyncio.sleep(RETRY_SECONDS)
        else:
            call.outcome, call.ended = Outcome.UNPLACED, time.time()
        self._book.write(call)

    async def _hold(self, call: Call, pod: str, seconds: float) -> bool:
        """Hold the call with a pod; False when the pod does not take it."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                stream = await self._session.ws_connect(
                    f"http://{pod}:{PORT}/", headers={CALL_HEADER: call.call}, timeout=CLOSING
                )
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        call.pod = pod
        call.began = time.time()
        meter = Meter()
        speaking = asyncio.create_task(_speak(stream))
        # Not cancelled at its end: a cancelled receive leaves a stream that does not wait for the answer to its close.
        hearing = asyncio.create_task(_listen(stream, meter))
        await asyncio.wait([hearing], timeout=seconds)
        meter.end()
        call.ended = time.time()
        speaking.cancel()
        call.why = hearing.result() if hearing.done() else await _hang_up(stream)
        await hearing
        if stream.close_code == TRY_AGAIN and not meter.frames:
            call.began = 0.0
            return False
        call.outcome = Outcome.DROPPED if call.why else Outcome.COMPLETED
        call.frames, call.lost, call.gap_ms = meter.frames, meter.lost, round(1000 * meter.gap, 1)
        return True

    async def close(self) -> None:
        """Close what is left."""
        await self._session.close()


async def _listen(stream: aiohttp.ClientWebSocketResponse, meter: Meter) -> str:
    """Hear frames until the agent ends the call; return how it did."""
    while True:
        try:
            message = await stream.receive(SILENT_SECONDS)
        except TimeoutError:
            return "silent"
        if message.type is not aiohttp.WSMsgType.BINARY:
            return f"{message.type.name} {stream.close_code or ''}".strip()
        meter.take(stream_number(message.data))


async def _hang_up(stream: aiohttp.ClientWebSocketResponse) -> str:
    """Close a stream; when nobody answers, the agent was gone before: return that."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await stream.close()
    return "" if stream.close_code == aiohttp.WSCloseCode.OK else "close unanswered"


async def _speak(stream: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async for number in pace():
            await stream.send_bytes(stream_frame(number))
