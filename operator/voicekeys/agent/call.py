"""A call, as agents write it: ``with call(id)``, ``async with call(id)``, ``@call()``, or `begin` and `end`."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")


class Book(Protocol):
    """Where calls are counted: an `Agent`."""

    def enter(self, call: Call) -> int:
        """Count as live, or raise Refused."""

    def leave(self, call: Call, generation: int) -> None:
        """End it."""


class Call:
    """One call that must not be cut. It counts from `begin` to `end`, once; make a new object for the next call.

    As a decorator it counts each run of the function as a call of its own.

    Args:
        book: the agent that counts.
        call_id: the agent's own name for the call; it never leaves the process.
        key_version: which key the call was begun with, as it shows in ``/calls``: never the key itself.
        max_call: seconds after which the call is reported as leaked; it still counts as live. None: never.
    """

    def __init__(self, book: Book, call_id: str, key_version: str, max_call: float | None) -> None:
        self.call_id = call_id
        self.key_version = key_version
        self.max_call = max_call
        self.started = 0.0
        self.leaked = False
        self.forced = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._book = book
        self._generation: int | None = None
        self._used = False

    def begin(self) -> Self:
        """Start to count. Raises Refused when the pod takes no more calls, RuntimeError when it was begun before."""
        if self._used:
            raise RuntimeError("a call begins once: make a new one with call(…)")
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = None
        self._generation = self._book.enter(self)
        self._used = True
        return self

    def end(self) -> None:
        """Stop to count. Harmless a second time, before `begin`, and in a process forked from the call's own."""
        if self._generation is not None:
            self._book.leave(self, self._generation)

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    async def __aenter__(self) -> Self:
        # Nothing is awaited here or on the way out: a cancelled task cannot leave the count wrong.
        return self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.end()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, coroutine function or asynchronous generator function.

        Raises TypeError for a generator function: when it would end is not for us to say.
        """
        if inspect.isgeneratorfunction(function):
            raise TypeError("a generator function is no call: use `with call(…)` inside it")
        if inspect.isasyncgenfunction(function):
            return cast("Callable[P, R]", self._around_stream(function))
        if inspect.iscoroutinefunction(function):
            return cast("Callable[P, R]", self._around_coroutine(function))

        @functools.wraps(function)
        def counted(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._another():
                return function(*args, **kwargs)

        return counted

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def counted(*args: Any, **kwargs: Any) -> Any:
            async with self._another():
                return await function(*args, **kwargs)

        return counted

    def _around_stream(self, function: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        @functools.wraps(function)
        async def counted(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with self._another():
                async for item in function(*args, **kwargs):
                    yield item

        return counted

    def _another(self) -> Call:
        return Call(self._book, self.call_id, self.key_version, self.max_call)

    def __repr__(self) -> str:
        state = "live" if self._generation is not None else "not begun"
        return f"<Call {state}, key version {self.key_version or 'unknown'}>"
