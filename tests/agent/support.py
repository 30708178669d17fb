"""What the tests of the agents' library share: a client that sees bytes, conditions to wait for, programs to run."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voicekeys.agent import Agent

T = TypeVar("T")

PROGRAMS = Path(__file__).parent / "programs"
RECIPES = Path(__file__).parents[2] / "deploy" / "examples" / "agents"
TOKEN = "workload-token"
BASE = "/voicekeys/v1/"
PATIENCE = 30.0  # seconds; a machine that does much else besides is slow, not wrong
"""Seconds for what should take milliseconds: a machine may be busy. Only a failure takes that long."""


def eventually(look: Callable[[], T], what: str = "") -> T:
    """Wait until something is true, and return it."""
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"never came true: {what or look}"
        time.sleep(0.005)


def free_port() -> int:
    """Find a TCP port that nobody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Reply:
    """An answer, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Client:
    """One connection; sends what it is told, valid or not."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._buffer = b""

    def send(self, content: bytes) -> Client:
        self.sock.sendall(content)
        return self

    def ask(self, path: str, method: str = "GET", *, token: str | None = TOKEN, version: str = "1.1") -> Client:
        secret = "" if token is None else f"X-Voicekeys-Token: {token}\r\n"
        return self.send(f"{method} {path} HTTP/{version}\r\nHost: pod\r\n{secret}\r\n".encode())

    def is_silent(self, seconds: float) -> bool:
        """Whether not a single byte comes for that long, and the connection stays."""
        return not self._buffer and not select.select([self.sock], [], [], seconds)[0]

    def reply(self, *, head_only: bool = False) -> Reply:
        while b"\r\n\r\n" not in self._buffer:
            self._read()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = 0 if head_only else int(headers["content-length"])
        while len(self._buffer) < size:
            self._read()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Reply(int(first.split(" ")[1]), headers, body)

    def _read(self) -> None:
        received = self.sock.recv(65536)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._buffer += received

    def is_closed(self) -> bool:
        """Wait for the server's end of the connection."""
        try:
            return self.sock.recv(65536) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()


@dataclass
class Pod:
    """Something that serves the contract on a port of this machine."""

    port: int
    agent: Agent = None  # type: ignore[assignment]

    def open(self) -> Client:
        return Client(self.port)

    def ask(self, path: str, method: str = "GET", *, token: str | None = TOKEN) -> Reply:
        client = self.open()
        try:
            return client.ask(BASE + path, method, token=token).reply()
        finally:
            client.close()

    def calls(self, query: str = "") -> dict[str, Any]:
        return self.ask("calls" + query, token=None).json

    def hook(self) -> Client:
        """Do what the kubelet's preStop does."""
        return self.open().ask(BASE + "drain")

    def post(self, path: str) -> Reply:
        return self.ask(path, "POST")

    def serves(self) -> bool:
        with suppress(OSError):
            return bool(self.calls()["contract"] == 1)
        return False


class Program:
    """A program of ours that runs in a process of its own, and talks by lines."""

    def __init__(self, path: Path, *args: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(path), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "VOICEKEYS_DRAIN_TOKEN": TOKEN, **environment},
            text=True,
            start_new_session=True,
        )
        self.heard: list[str] = []
        self._read = 0
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append(line)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self, start: str) -> str:
        """Wait for the next line that starts so; returns its rest."""

        def look() -> list[str]:
            while self._read < len(self.heard):
                line = self.heard[self._read]
                self._read += 1
                if line.startswith(start):
                    return [line.removeprefix(start).strip()]
            assert self._reader.is_alive() or self._read < len(self.heard), f"no {start!r} in {self.said()}"
            return []

        return eventually(look, f"{start!r} in {self.said()}")[0]

    def said(self) -> str:
        """All that it has said so far."""
        return "".join(self.heard)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> int:
        """Wait for its end; returns the exit code. What it said is all there then."""
        code = self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        return code


@contextmanager
def running(path: Path, *args: str, **environment: str) -> Iterator[Program]:
    """Run a program for one test; nothing of it is left afterwards."""
    program = Program(path, *args, **environment)
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.end()
        for pipe in (program.process.stdin, program.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
