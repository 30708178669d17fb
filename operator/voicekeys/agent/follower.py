"""A process of a pool that another one leads: it reports its calls, and does as decided."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from voicekeys.agent import drain as state
from voicekeys.agent import peers
from voicekeys.agent.core import logger
from voicekeys.agent.leader import attempt_reload
from voicekeys.agent.pool import View, view_from_wire

if TYPE_CHECKING:
    from voicekeys.agent.core import Core
    from voicekeys.agent.ledger import Report


class Follower:
    """One stream to the leader.

    Args:
        core: this process.
        reader: what the leader says.
        writer: where to report.
    """

    def __init__(self, core: Core, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._core = core
        self._reader = reader
        self._writer = writer
        self._reported: Report | None = None
        self._view = View()
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self) -> None:
        """Introduce this process, and take over what is decided: only then may it take calls.

        Raises OSError or ValueError when the leader does not take it in, or is another user's.
        """
        if peers.identify(self._writer.get_extra_info("socket")) is None:
            raise ConnectionRefusedError("the pool's meeting place is held by another user")
        report = self._core.ledger.report()
        drain = self._core.ledger.pool.to_wire()
        self._writer.write(peers.encode({"hello": self._core.name, "drain": drain, "report": report.to_wire()}))
        await self._writer.drain()
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the leader closed the stream")
        await self._hear(peers.decode(line))
        self.step()

    async def follow(self) -> View:
        """Listen until the leader is gone. Returns what it told about the pool, without this process."""
        try:
            while line := await self._reader.readline():
                await self._hear(peers.decode(line))
        except (ValueError, TypeError, KeyError, OSError) as error:
            logger.warning("the pool's leader cannot be understood: %s", type(error).__name__)
        self._writer.close()
        others = {name: member for name, member in self._view.members.items() if name != self._core.name}
        return View(others, self._view.past)

    async def _hear(self, message: dict[str, Any]) -> None:
        if "drain" in message:
            self._core.ledger.learn(state.from_wire(message["drain"]))
            self.step()
            self._core.step()
        if "view" in message:
            self._view = view_from_wire(message["view"])
        if "reload" in message:
            task = asyncio.get_running_loop().create_task(self._reload(int(message["reload"])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reload(self, number: int) -> None:
        good = await attempt_reload(self._core)
        self._writer.write(peers.encode({"reloaded": number, "ok": good}))

    def step(self) -> float | None:
        """Report what is new."""
        report = self._core.ledger.report()
        if report != self._reported and not self._writer.is_closing():
            self._reported = report
            self._writer.write(peers.encode({"report": report.to_wire()}))
        return None

    def close(self) -> None:
        """Leave the pool."""
        if not self._writer.is_closing():
            self._writer.write(peers.encode({"bye": True}))
            self._writer.close()
