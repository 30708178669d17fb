"""An agent's process: its ledger, its part in the pool, its guard. The functions of `voicekeys.agent` belong to one."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, cast

from voicekeys.agent import drain as state
from voicekeys.agent.call import Call
from voicekeys.agent.core import Settings, VersionedKey
from voicekeys.agent.environment import number
from voicekeys.agent.errors import Refused, ServeError
from voicekeys.agent.farewell import Farewells
from voicekeys.agent.guard import Guard
from voicekeys.agent.ledger import Ledger
from voicekeys.agent.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger("voicekeys.agent")

DEFAULT_PORT = 9909
SETTLE_SECONDS = 5.0
ANSWER_SECONDS = 0.02
"""Between the last call's end and SIGTERM to the server, if it came before: for held answers to go out."""
TEARDOWN_SECONDS = 1.0
"""Before the deadline SIGTERM is handed on all the same, so that the server can close what is left by itself."""


class Agent:
    """Counts a process's calls, and lets it end when there are none.

    Programs use the functions of `voicekeys.agent`, which belong to one Agent; tests may have several.

    Args:
        now: the monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ledger = Ledger(now)
        self._farewells = Farewells()
        self._guard = Guard(self._wake)
        self._starting = threading.Lock()
        self._runtime: Runtime | None = None
        self._settings = Settings()
        self._must_join = False
        self._is_serving = False
        self._free_since: float | None = None
        _agents.add(self)

    # ---- calls

    def call(
        self,
        call_id: str | None = None,
        *,
        key: VersionedKey | None = None,
        key_version: str | None = None,
        max_call: float | None = None,
    ) -> Call:
        """One call, to be used with ``with``, ``async with``, as a decorator, or by `Call.begin` and `Call.end`.

        Args:
            call_id: the agent's own name for it; it never leaves the process. Two calls of one name are two calls.
            key: the key that the call uses: it is counted under the version that this has now.
            key_version: the version's name, where there is no `Key`.
            max_call: seconds after which the call is reported as leaked, and a warning logged; it still counts, for
                only its end is an end. None: never.
        """
        version = key_version if key is None else key.version
        return Call(self, call_id or uuid.uuid4().hex, version or "", max_call)

    def active(self) -> int:
        """Live calls of this process."""
        return len(self._ledger)

    def is_taking_calls(self) -> bool:
        """Whether a call that began now would be taken. Do not make readiness depend on it while calls live (K17)."""
        now = self._now()
        return self._ledger.pool.accepts(now) and self._ledger.own.accepts(now)

    def enter(self, call: Call) -> int:
        """For `Call`: count it. Raises Refused."""
        if self._must_join:
            self._join()
        generation = self._ledger.enter(call)
        self._wake()
        return generation

    def leave(self, call: Call, generation: int) -> None:
        """For `Call`: it has ended."""
        if self._ledger.leave(call, generation):
            self._wake()

    def on_deadline(self, callback: Callable[[Call], object], *, before: float = 30.0) -> None:
        """Run a callback for each call that is still live shortly before the grace ends: say goodbye, transfer.

        It runs on the loop that the call began on, or in a thread of its own; it may be a coroutine function. It needs
        to be known when the grace ends: ``VOICEKEYS_GRACE_SECONDS``, or ``grace`` of `serve` or `guard`.

        Args:
            callback: gets the call.
            before: seconds before the end of the grace.
        """
        self._farewells.add(callback, before)
        self._started().wake()

    # ---- the drain

    def serve(
        self,
        port: int | None = None,
        *,
        host: str = "",
        token: str | None = None,
        settle: float | None = None,
        grace: float | None = None,
        key: VersionedKey | None = None,
        on_reload: Callable[[], object] | None = None,
        settings: Settings | None = None,
    ) -> int:
        """Serve the drain contract in a thread of its own; in a pool of processes one serves for all.

        Call it in each process, with the same arguments. Harmless a second time. A process that was forked from a
        serving one joins by itself with its first call.

        Args:
            port: of the server; default ``VOICEKEYS_DRAIN_PORT``, else 9909.
            host: address to listen on; empty for all, as the kubelet comes from outside.
            token: the workload's token; default ``VOICEKEYS_DRAIN_TOKEN``. Without one everybody who reaches the port
                can drain this agent; ``/calls`` then says ``"token": false``.
            settle: seconds in which late calls are still taken; default ``VOICEKEYS_SETTLE_SECONDS``, else 5.
            grace: the pod's terminationGracePeriodSeconds; default ``VOICEKEYS_GRACE_SECONDS``, else not known.
            key: the key that calls use: ``/calls`` names its version, ``/reload`` reads it again.
            on_reload: called on ``/reload`` after that, in a thread.
            settings: all of it in one, instead.

        Returns:
            The port.

        Raises:
            PortTaken: another program has the port.
            Unjoined: the process that serves does not answer.
            ServeError: the port cannot be bound, or an environment variable is no number.
        """
        given = settings or Settings(
            port=_port(port),
            host=host,
            token=token or os.environ.get("VOICEKEYS_DRAIN_TOKEN") or None,
            settle=_settle(settle),
            grace=_grace(grace),
            key=key,
            on_reload=on_reload,
        )
        if given.token is None:
            logger.warning("no VOICEKEYS_DRAIN_TOKEN: everybody who reaches port %s can drain this agent", given.port)
        return self._serve(given)

    def _serve(self, settings: Settings) -> int:
        runtime = self._started()
        with self._starting:
            if runtime.port == 0:
                runtime.serve(settings)
                self._settings = settings
                self._is_serving = True
                self._must_join = False
        return runtime.port

    def guard(self, *, settle: float | None = None, grace: float | None = None) -> None:
        """Hold SIGTERM back from the server until this process has no call left.

        In the main thread, before the server starts or in its startup hook. SIGTERM starts draining, unless the hook
        has done so; it is handed on when the last call has ended, on release, or a second before the grace ends. A
        second SIGTERM changes nothing. SIGINT is not held.

        Args:
            settle: seconds in which late calls are still taken; default: that of `serve`.
            grace: seconds from SIGTERM until the kubelet kills; default: that of `serve`, ``VOICEKEYS_GRACE_SECONDS``.

        Raises:
            RuntimeError: not in the main thread, or the loop hides its handlers.
        """
        if not self._is_serving:
            self._settings = Settings(settle=_settle(settle), grace=_grace(grace))
        self._guard_settle, self._guard_grace = settle, grace
        self._started()
        self._guard.install()

    _guard_settle: float | None = None
    _guard_grace: float | None = None

    def close(self) -> None:
        """Leave the pool, end the thread, take the guard away: for tests, and for programs that go on without us."""
        self._guard.uninstall()
        with self._starting:
            runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()

    # ---- on the library's thread

    def _duties(self) -> float | None:
        """All that is to be looked at in each process. Returns when to look again, at the latest."""
        now = self._now()
        due = [self._look_for_leaks(), self._look_at_signal(now)]
        own = self._ledger.own
        if own.is_due_to_close(now):
            own = self._ledger.decide(lambda drain: state.closed(drain, now), own=True)
            self._wake()
        due.append(None if own.closed else own.settle_end)
        due.append(self._farewells.step(now, self._deadline(), cast("Iterable[Call]", self._ledger.entries())))
        return min((at for at in due if at is not None), default=None)

    def _look_for_leaks(self) -> float | None:
        new, due = self._ledger.note_leaks()
        if new:
            self._wake()
            logger.warning("%d call(s) are older than their max_call and count as leaked; a drain waits for them", new)
        return due

    def _look_at_signal(self, now: float) -> float | None:
        """What SIGTERM asks for. Returns when its deadline is."""
        guard, ledger = self._guard, self._ledger
        may_end = self._may_end()
        self._free_since = (self._free_since or now) if may_end else None
        if not guard.is_requested or guard.may_pass:
            return None
        if ledger.pool.started is None:
            self._begin(now)
        if self._free_since is not None:
            # What was held until now is answered first: the process may be gone a moment after the signal.
            if now < self._free_since + ANSWER_SECONDS:
                return self._free_since + ANSWER_SECONDS
            guard.pass_on()
            return None
        deadline = self._deadline()
        if deadline is None or now < deadline - TEARDOWN_SECONDS:
            return None if deadline is None else deadline - TEARDOWN_SECONDS
        logger.warning("the grace ends with %d live call(s): SIGTERM is handed on", len(ledger))
        ledger.expire()
        self._wake()
        guard.pass_on()
        return None

    def _begin(self, now: float) -> None:
        """Drain the pod if it is this process alone; else this process, for the others may go on."""
        runtime = self._runtime
        settle = self._settings.settle if self._guard_settle is None else self._guard_settle
        grace = self._settings.grace if self._guard_grace is None else self._guard_grace
        alone = runtime is not None and runtime.is_all_there_is
        # A leader that is not yet sure to be alone drains itself, and the pod when it is.
        if alone or self._ledger.own.started is None:
            self._ledger.decide(lambda drain: state.begun(drain, now, settle, grace), own=not alone)
            self._wake()

    def _may_end(self) -> bool:
        pool, own, runtime = self._ledger.pool, self._ledger.own, self._runtime
        if pool.released or own.released:
            return True
        if runtime is not None and runtime.is_holding_back:
            # The hook's connection is here: it must not break while another process has calls.
            return False
        return (pool.closed or own.closed) and len(self._ledger) == 0

    def _deadline(self) -> float | None:
        deadlines = [drain.deadline for drain in (self._ledger.pool, self._ledger.own)]
        return min((at for at in deadlines if at is not None), default=None)

    # ---- threads and processes

    def _started(self) -> Runtime:
        with self._starting:
            if self._runtime is None:
                self._runtime = Runtime(self._ledger, self._now, self._duties)
                self._runtime.start()
            return self._runtime

    def _wake(self) -> None:
        runtime = self._runtime
        if runtime is not None:
            runtime.wake()

    def _join(self) -> None:
        """In a forked child, before its first call: a call that the leader does not know of must not begin."""
        try:
            self._serve(self._settings)
        except ServeError as error:
            logger.error("this worker cannot join its pod's drain, and takes no calls: %s", error)  # noqa: TRY400
            raise Refused("unjoined") from error

    def before_fork(self) -> None:
        """Nobody is inside a lock when the process is copied."""
        self._starting.acquire()
        self._ledger.hold()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._ledger.let_go()
        self._starting.release()

    def after_fork_in_child(self) -> None:
        """A new process: no calls, no thread, no part in the pool yet."""
        self._starting = threading.Lock()
        self._ledger.start_anew()
        self._guard.start_anew()
        if self._runtime is not None:
            self._must_join = self._runtime.port != 0
            self._runtime.abandon()
            self._runtime = None
            if self._guard.is_installed:
                self._started()


_agents: weakref.WeakSet[Agent] = weakref.WeakSet()


def _each(method: str) -> Callable[[], None]:
    def run() -> None:
        for agent in list(_agents):
            getattr(agent, method)()

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_each("before_fork"),
        after_in_parent=_each("after_fork_in_parent"),
        after_in_child=_each("after_fork_in_child"),
    )


def _settle(given: float | None) -> float:
    if given is not None:
        return given
    found = number(os.environ, "VOICEKEYS_SETTLE_SECONDS")
    return SETTLE_SECONDS if found is None else found


def _grace(given: float | None) -> float | None:
    return number(os.environ, "VOICEKEYS_GRACE_SECONDS") if given is None else given


def _port(given: int | None) -> int:
    if given is not None:
        return given
    found = number(os.environ, "VOICEKEYS_DRAIN_PORT")
    return DEFAULT_PORT if found is None else int(found)
