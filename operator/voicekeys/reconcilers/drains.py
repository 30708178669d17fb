"""Asks the pods of workloads in change for their live calls, while they are followed, and only then.

One task for each followed pod. It waits at the pod for the next change (a long-poll), so that the last word of a
container comes before its end; where more pods are followed than may be waited for at once, they are asked in turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import structlog

from voicekeys.model.errors import AgentError, AgentUnreachable
from voicekeys.policies import drain, ends, sights
from voicekeys.policies.schedule import backoff, jittered
from voicekeys.policies.sights import NEVER, NOTHING, Ended, Sight
from voicekeys.reconcilers.slots import FairSlots
from voicekeys.reconcilers.wakes import Wakes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
    from random import Random
    from typing import Any, TypeVar

    from voicekeys.model.hook import Endpoint
    from voicekeys.model.identity import Name, WorkloadId
    from voicekeys.model.probe import Probe
    from voicekeys.model.workload import Pod
    from voicekeys.policies.drain import Counted
    from voicekeys.policies.ends import End
    from voicekeys.reconcilers.ports import Agents, Clock

    Got = TypeVar("Got")

log = structlog.get_logger(__name__)

WAITS = 48
"""Pods that are waited for at one time, over all workloads."""
DIRECT = 16
"""Requests at one time beside them: of a reconcile that needs an answer now."""
LONG_POLL_SECONDS = 20.0
TURN_SECONDS = 2.0
"""Between two looks at a pod where there are too many to wait for each."""
ASKS_PER_SECOND = 200.0
"""That many pods are asked in a second at most, in turns."""
QUICK, QUICK_SECONDS, SLOW_SECONDS = 20, 5.0, 0.25
"""A pod that answers so often within so many seconds is asked with a pause: it may have many calls, or mean harm."""
LONGEST_BACKOFF = 15.0
PATIENCE_SECONDS = 10.0
"""So long a worker waits for answers that a decision needs, of however many pods: there are 16 workers for all."""
HELD_SECONDS = 1.0
"""Who hangs up on a question that old had read it, and had nothing new to say."""


class Probed(NamedTuple):
    """What a probe of several pods has found, by their names."""

    answers: dict[str, Probe]
    failures: dict[str, AgentError]


@dataclass(slots=True)
class _Followed:
    """One pod.

    ``users`` are the bindings for which it is asked now, ``rememberers`` those that may want to know its last sight.
    """

    workload: WorkloadId
    pod: Pod
    endpoint: Endpoint | None
    users: set[Name] = field(default_factory=set)
    rememberers: set[Name] = field(default_factory=set)
    sight: Sight = NEVER
    released: int = 0
    failures: int = 0
    asked: deque[float] = field(default_factory=lambda: deque(maxlen=QUICK))
    task: asyncio.Task[None] | None = None

    @property
    def is_asked(self) -> bool:
        """Whether its task runs."""
        return self.task is not None and not self.task.done()


class Drains:
    """The live calls of pods in change.

    Args:
        agents: asks them.
        clock: wall time of what is heard.
        random: jitter.
        on_change: told the workload when what is known of its calls changed, and the bindings that follow it.
        waits: pods that are waited for at one time.
    """

    def __init__(
        self,
        agents: Agents,
        clock: Clock,
        random: Random,
        on_change: Callable[[WorkloadId, Collection[Name]], None],
        *,
        waits: int = WAITS,
    ) -> None:
        self._agents = agents
        self._clock = clock
        self._random = random
        self._wakes = Wakes(on_change)
        self._slots: FairSlots[WorkloadId] = FairSlots(waits)
        self._direct: FairSlots[WorkloadId] = FairSlots(DIRECT)
        self._followed: dict[str, _Followed] = {}
        self._ended: dict[Name, Ended] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # that ask, and those that were told to end

    # ---- following

    def follow(self, workload: WorkloadId, binding: Name, pods: Iterable[Pod], port: int | None = None) -> None:
        """Ask these pods of a workload, and no others, from now on on behalf of a binding; called at each look.

        Args:
            workload: whose pods.
            binding: who wants to know.
            pods: all that matter now; those that have ended are not asked any more, and remembered.
            port: of the contract, for pods whose hook does not tell it.
        """
        wanted = {pod.uid: pod for pod in pods}
        for uid, followed in list(self._followed.items()):
            if followed.workload == workload and binding in followed.users and uid not in wanted:
                self._leave(followed, binding)
        for uid, pod in wanted.items():
            known = self._followed.get(uid)
            if known is None:
                known = self._followed[uid] = _Followed(workload, pod, None)
            known.pod = pod
            known.rememberers.add(binding)
            if pod.terminating:
                self._ended.setdefault(binding, NOTHING)  # so that a counter is 0 before it is 1
            if pod.ended:
                self._leave(known, binding)
            else:
                known.users.add(binding)
                self._ask(known, pod.endpoint(port))

    def _ask(self, followed: _Followed, endpoint: Endpoint | None) -> None:
        """Have a task for a pod, if it can be asked, at the address that it has now."""
        if followed.is_asked and followed.endpoint == endpoint:
            return
        self._stop(followed)
        followed.endpoint = endpoint
        if endpoint is not None and endpoint.ip:
            task = asyncio.create_task(self._run(followed, endpoint), name=f"calls of {followed.pod.name}")
            task.add_done_callback(_report)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            followed.task = task

    def _leave(self, followed: _Followed, binding: Name) -> None:
        followed.users.discard(binding)
        if not followed.users:
            self._stop(followed)

    def _stop(self, followed: _Followed) -> None:
        task, followed.task = followed.task, None
        if task is not None and not task.done():
            task.cancel()

    def forget(self, workload: WorkloadId, binding: Name) -> None:
        """End a binding's interest in a workload: its pods are asked no more, and what was heard of them is gone."""
        for uid, followed in list(self._followed.items()):
            if followed.workload == workload:
                self._forget(uid, followed, binding)

    def forget_all(self, binding: Name) -> None:
        """End every interest of a binding that is gone, and its counters."""
        for uid, followed in list(self._followed.items()):
            self._forget(uid, followed, binding)
        self._ended.pop(binding, None)

    def _forget(self, uid: str, followed: _Followed, binding: Name) -> None:
        self._leave(followed, binding)
        followed.rememberers.discard(binding)
        if not followed.rememberers:
            del self._followed[uid]

    async def close(self) -> None:
        """End every task."""
        for followed in self._followed.values():
            self._stop(followed)
        self._followed.clear()
        self._wakes.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what is known

    def sight(self, uid: str) -> Sight | None:
        """What was last heard of a pod; None where it is not followed."""
        followed = self._followed.get(uid)
        return followed.sight if followed is not None else None

    def counted(self) -> dict[Name, Counted]:
        """The draining pods of each binding that has some, for metrics."""
        sights: dict[Name, list[Sight]] = {}
        for followed in self._followed.values():
            for binding in followed.users if followed.pod.terminating else ():
                sights.setdefault(binding, []).append(followed.sight)
        return {binding: drain.counted(mine) for binding, mine in sights.items()}

    def ended(self, binding: Name) -> Ended | None:
        """Calls of the binding's pods that ended while these drained, counted at a pod's end; None before any did."""
        return self._ended.get(binding)

    def finish(self, binding: Name, uid: str, last: Pod | None = None) -> End:
        """Settle what became of the calls of a pod that is no more; count it, and forget the pod for this binding.

        Args:
            binding: who followed it.
            uid: of the pod.
            last: its last object, with its containers' ends; default: the last that `follow` saw.
        """
        followed = self._followed.get(uid)
        if followed is None or binding not in followed.rememberers:
            return ends.end_of(None, None, self._clock.now())
        end = ends.with_release(ends.end_of(followed.sight, last or followed.pod, self._clock.now()), followed.released)
        self._ended[binding] = self._ended.get(binding, NOTHING).plus(Ended(*end[:3]))
        self._forget(uid, followed, binding)
        return end

    # ---- asking now

    async def look(self, workload: WorkloadId, pods: Iterable[Pod], port: int | None = None) -> dict[str, Sight]:
        """Ask pods now, for a decision that needs the truth of this moment; whether they are followed or not.

        Args:
            workload: whose pods.
            pods: whom to ask.
            port: see `follow`.

        Returns:
            A sight for each, by UID; one that did not answer has an error.
        """
        pods = list(pods)
        sights = {pod.uid: Sight(error=_late(pod.name)) for pod in pods}

        async def look(pod: Pod) -> None:
            sights[pod.uid] = await self._look(workload, pod, port)

        await _in_time(look(pod) for pod in pods)
        return sights

    async def _look(self, workload: WorkloadId, pod: Pod, port: int | None) -> Sight:
        endpoint = pod.endpoint(port)
        if endpoint is None:
            return Sight(error=_nowhere(pod))
        try:
            report = await self._directly(workload, lambda: self._agents.calls(endpoint))
        except AgentError as error:
            return Sight(error=error)
        return sights.heard(NEVER, report, self._clock.now(), terminating=pod.terminating)

    async def probe(self, workload: WorkloadId, pods: Iterable[Pod]) -> Probed:
        """Find out whether the hooks of pods would work; pods without a hook of the contract are passed over."""
        endpoints = sorted((found for pod in pods if (found := pod.endpoint()) is not None), key=lambda one: one.pod)
        probed = Probed({}, {})
        await _in_time(self._probe(workload, endpoint, probed) for endpoint in endpoints)
        late = {one.pod: _late(one.pod) for one in endpoints if one.pod not in probed.answers}
        failures = late | probed.failures  # in the pods' order, whoever answered first
        return Probed({one.pod: probed.answers[one.pod] for one in endpoints if one.pod in probed.answers}, failures)

    async def _probe(self, workload: WorkloadId, endpoint: Endpoint, probed: Probed) -> None:
        try:
            probed.answers[endpoint.pod] = await self._directly(workload, lambda: self._agents.probe(endpoint))
        except AgentError as error:
            probed.failures[endpoint.pod] = error

    async def release(self, workload: WorkloadId, pod: Pod, port: int | None = None) -> int:
        """Let a draining pod go; returns how many calls that cuts.

        Raises:
            AgentError: it did not do so; its calls go on.
        """
        endpoint = pod.endpoint(port)
        if endpoint is None:
            raise _nowhere(pod)
        cut = await self._directly(workload, lambda: self._agents.release(endpoint))
        followed = self._followed.get(pod.uid)
        if followed is not None:
            followed.released = max(cut, followed.released)
        return cut

    async def _directly(self, workload: WorkloadId, ask: Callable[[], Awaitable[Got]]) -> Got:
        async with self._direct.slot(workload):
            return await ask()

    # ---- one pod's task

    async def _run(self, followed: _Followed, endpoint: Endpoint) -> None:
        while True:
            await self._once(followed, endpoint)
            await asyncio.sleep(self._pause(followed))

    async def _once(self, followed: _Followed, endpoint: Endpoint) -> None:
        async with self._slots.slot(followed.workload):
            before = followed.sight
            report = before.report if before.error is None else None
            wait = 0.0 if report is None or self._is_crowded() else LONG_POLL_SECONDS
            began = asyncio.get_running_loop().time()
            try:
                heard = await self._agents.calls(endpoint, report.revision if wait and report else None, wait)
            except AgentError as error:
                waited = asyncio.get_running_loop().time() - began
                held = wait > 0 and waited >= HELD_SECONDS and isinstance(error, AgentUnreachable) and error.hung_up
                followed.failures += 1
                followed.sight = sights.failed(before, error, self._clock.now(), held=held)
            else:
                terminating = followed.pod.terminating
                followed.sight = sights.heard(before, heard, self._clock.now(), terminating=terminating)
                followed.failures = 0 if followed.sight.error is None else followed.failures + 1
        followed.asked.append(asyncio.get_running_loop().time())
        self._tell(followed, before)

    def _is_crowded(self) -> bool:
        return len(self._tasks) > self._slots.number

    def _pause(self, followed: _Followed) -> float:
        if followed.failures:
            return backoff(followed.failures, self._random, base=0.25, cap=LONGEST_BACKOFF)
        if self._is_crowded():
            return jittered(max(TURN_SECONDS, len(self._tasks) / ASKS_PER_SECOND), self._random, 0.25)
        asked = followed.asked
        # No pause after most answers: what changes next may be the last that the container has to say.
        return SLOW_SECONDS if len(asked) == QUICK and asked[-1] - asked[0] < QUICK_SECONDS else 0.0

    def _tell(self, followed: _Followed, before: Sight) -> None:
        after = followed.sight
        told, tells = (_relevant(sight) for sight in (before, after))
        if tells != told:
            over = after.is_over and not before.is_over
            soon = over or before is NEVER or (after.none_live and not before.none_live)
            self._wakes.wake(followed.workload, followed.users, soon=soon)


def _relevant(sight: Sight) -> tuple[object, ...]:
    complete = sight.report is not None and sight.report.complete
    error = sight.error.message if sight.error is not None else None
    return sight.calls, complete, sight.is_over, sight.oldest, sight.ended, error


async def _in_time(questions: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Ask all at once, and wait for the answers as long as a worker may be kept."""
    tasks = [asyncio.create_task(question) for question in questions]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome


def _late(pod: str) -> AgentUnreachable:
    return AgentUnreachable("DrainUnreachable", f"pod {pod} does not answer in time")


def _nowhere(pod: Pod) -> AgentUnreachable:
    return AgentUnreachable("DrainUnreachable", f"pod {pod.name} has no drain hook, and no port is known to ask it at")


def _report(task: asyncio.Task[None]) -> None:
    """A fault of ours: the next `follow` begins anew."""
    if not task.cancelled() and task.exception() is not None:
        log.error("asking a pod failed", task=task.get_name(), exc_info=task.exception())
