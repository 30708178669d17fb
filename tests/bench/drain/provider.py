"""A stand-in for a voice provider: a program of its own that knows which keys are valid, and counts whom it refused.

    python -m tests.bench.drain.provider HOST

Agents ask `POST /turn` with their key on HOST, over real HTTP. Who runs it says on stdin, one JSON object a line, which
keys are valid (`{"add": KEY}`, `{"revoke": KEY}`) and asks for the counts (`{"count": true}`); each line is answered by
one on stdout. It ends with its stdin. It writes no key anywhere.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from http import HTTPStatus
from typing import Any, Self

LARGEST = 1 << 20


class Provider:
    """The valid keys, and the checks of each arm."""

    def __init__(self) -> None:
        self.valid: set[str] = set()
        self.arms: dict[str, dict[str, Any]] = {}

    def check(self, authorization: str, arm: str, call: str) -> HTTPStatus:
        """Check one turn's key."""
        counts = self.arms.setdefault(arm, {"checks": 0, "refused": 0, "calls": {}})
        counts["checks"] += 1
        if authorization.removeprefix("Bearer ") in self.valid:
            return HTTPStatus.OK
        counts["refused"] += 1
        counts["calls"][call] = counts["calls"].get(call, 0) + 1
        return HTTPStatus.UNAUTHORIZED

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection's requests until it is closed."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                status = self.check(headers.get("authorization", ""), headers["x-arm"], headers["x-call"])
                writer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def told(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what a line of stdin says."""
        if "add" in order:
            self.valid.add(order["add"])
        if "revoke" in order:
            self.valid.discard(order["revoke"])
        return {"arms": self.arms} if "count" in order else {}


async def main(host: str) -> None:
    """Serve until stdin ends."""
    provider = Provider()
    server = await asyncio.start_server(provider.serve, host, 0)
    loop, orders = asyncio.get_running_loop(), asyncio.StreamReader(limit=LARGEST)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    async with server:
        async for line in orders:
            print(json.dumps(provider.told(json.loads(line))), flush=True)


class ProviderProcess:
    """The program above as a process; for a `with` block. `address` is where agents find it."""

    def __init__(self, host: str) -> None:
        argv = [sys.executable, "-m", "tests.bench.drain.provider", host]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = f"{host}:{self._read()['port']}"

    def add(self, key: str) -> None:
        """Make a key valid."""
        self._ask(add=key)

    def revoke(self, key: str) -> None:
        """Make a key invalid, from now on."""
        self._ask(revoke=key)

    def counts(self) -> dict[str, dict[str, Any]]:
        """By arm: `checks`, `refused`, and the refused ones by call."""
        return dict(self._ask(count=True)["arms"])

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in provider ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
