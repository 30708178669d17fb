"""Holds SIGTERM back from the server until no call is live: uvicorn closes live WebSockets 0.1 s after it (K14).

Whatever handles SIGTERM goes on to handle it, only later. Two ways lead to a handler, and both are watched, whether it
was installed before the guard or comes after it: `signal.signal` (uvicorn, plain programs) and
`loop.add_signal_handler` (hypercorn, aiohttp, plain asyncio). SIGINT is left alone.

Our handler runs in the middle of whatever the main thread does, maybe inside the ledger's lock: it sets a flag and
wakes the library's thread, no more. That thread decides, and sends the main thread a SIGTERM when it is time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_set_signal = signal.signal
"""The real one."""

_METHODS = ("add_signal_handler", "remove_signal_handler")


class Guard:
    """The guard of a process; a process has one at a time.

    Args:
        on_request: called when SIGTERM came, in the main thread, in the middle of anything: it must take no lock.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self._on_request = on_request
        self._next: Any = signal.SIG_DFL
        self._loops: dict[Any, Callable[[], object]] = {}
        self._passed: list[object] = []
        self._originals: dict[type[Any], tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self.is_installed = False
        self.is_requested = False
        """SIGTERM came."""
        self.may_pass = False
        """It was handed on."""

    def install(self) -> None:
        """Stand before whatever handles SIGTERM, now and later. Harmless a second time.

        Raises:
            RuntimeError: outside the main thread, for only that one may set handlers; or when the running loop does not
                show the handler that it has (uvloop: call `guard` before the server installs it).
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("guard() stands before a signal handler, which only the main thread may set")
        if not self.is_installed:
            self.is_installed = True
            self._next = _set_signal(signal.SIGTERM, self._on_signal)
            signal.signal = self._on_set  # type: ignore[assignment]
            for loop_type in _loop_types():
                self._watch(loop_type)
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            self._adopt(loop)
        if getattr(self._next, "__module__", "") == "uvloop" or "uvloop" in type(self._next).__module__:
            raise RuntimeError("uvloop does not show its handlers: call guard() before the server starts")

    def uninstall(self) -> None:
        """Put everything back: for a process that stops being an agent."""
        if not self.is_installed:
            return
        self.is_installed = False
        signal.signal = _set_signal
        for loop_type, originals in self._originals.items():
            for name, original in zip(_METHODS, originals, strict=True):
                setattr(loop_type, name, original)
        _set_signal(signal.SIGTERM, signal.SIG_DFL if self._next is None else self._next)
        for loop, callback in self._open_loops():
            loop.add_signal_handler(signal.SIGTERM, callback)

    def start_anew(self) -> None:
        """In a forked child: what was asked of the parent is not asked of this process."""
        self.is_requested = self.may_pass = False
        self._passed = []
        self._loops = {}

    def pass_on(self) -> None:
        """Hand SIGTERM on, in the main thread, where handlers run. From any thread."""
        if not self.may_pass:
            self.may_pass = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    # ---- a signal

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True
        if not self.may_pass:
            self._on_request()
            return
        # Once to each handler: a second SIGTERM ends some servers the hard way (LiveKit: os._exit). One that was put
        # in its place meanwhile gets its own: uvicorn puts back what was there before, and raises the signal again.
        loops = list(self._open_loops())
        for loop, callback in loops:
            if not self._has_passed(callback):
                loop.call_soon_threadsafe(callback)
        if not loops and not self._has_passed(self._next):
            _deliver(self._next, number, frame)

    def _has_passed(self, handler: object) -> bool:
        """Whether it had the signal before; notes that it has it now."""
        if handler in self._passed:
            return True
        self._passed.append(handler)
        return False

    def _open_loops(self) -> Iterator[tuple[Any, Callable[[], object]]]:
        yield from ((loop, callback) for loop, callback in self._loops.items() if not loop.is_closed())

    # ---- handlers that come and go

    def _on_set(self, number: int, handler: Any) -> Any:
        """In place of `signal.signal`: for SIGTERM, remember who is next."""
        if number != signal.SIGTERM:
            return _set_signal(number, handler)
        if not callable(handler) and handler not in {signal.SIG_DFL, signal.SIG_IGN}:
            return _set_signal(number, handler)  # raises what it always raised
        before, self._next = self._next, handler
        return before

    def _watch(self, loop_type: type[Any]) -> None:
        """In place of a loop class's two methods: for SIGTERM, remember whom to call; the loop itself never knows."""
        add, remove = (getattr(loop_type, name) for name in _METHODS)
        self._originals[loop_type] = (add, remove)

        def add_signal_handler(loop: Any, sig: int, callback: Callable[..., object], *args: object) -> None:
            if sig != signal.SIGTERM:
                add(loop, sig, callback, *args)
                return
            self._loops[loop] = lambda: callback(*args)

        def remove_signal_handler(loop: Any, sig: int) -> bool:
            if sig != signal.SIGTERM:
                return bool(remove(loop, sig))
            return self._loops.pop(loop, None) is not None

        for name, method in zip(_METHODS, (add_signal_handler, remove_signal_handler), strict=True):
            setattr(loop_type, name, method)

    def _adopt(self, loop: Any) -> None:
        """Take over the handler that a loop had before we watched."""
        handle = getattr(loop, "_signal_handlers", {}).get(signal.SIGTERM)
        if handle is not None:
            callback, args = handle._callback, handle._args  # noqa: SLF001 - asyncio has no other way to ask
            # The loop forgets it, and sets SIGTERM to its default, which we remember as being next.
            self._originals[asyncio.SelectorEventLoop][1](loop, signal.SIGTERM)
            self._loops[loop] = lambda: callback(*args)


def _loop_types() -> list[type[Any]]:
    """Classes of loops that have signal handlers; uvloop's if the agent has imported it."""
    types: list[type[Any]] = [asyncio.SelectorEventLoop]
    uvloop = sys.modules.get("uvloop")
    return [*types, uvloop.Loop] if uvloop is not None else types


def _deliver(handler: Any, number: int, frame: FrameType | None) -> None:
    """Do what the handler would have done without us."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        if os.getpid() == 1:
            # The kernel drops a deadly SIGTERM to a container's first process: without us it would wait for SIGKILL.
            raise SystemExit(128 + signal.SIGTERM)
        _set_signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
