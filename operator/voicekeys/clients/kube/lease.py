"""Leader election with a Lease (coordination.k8s.io/v1): one replica works, the others stand by.

The rules are client-go's: candidates never compare clocks. Each watches for *changes* of the record and takes the Lease
only when it saw none for a whole lease duration on its own monotonic clock. Each write is tested against the
resourceVersion that was read, so of two that try at once one gets a 409.

::

    holder   |--renew--renew--x                    deadline: renewing stops counting, `lost` fires, the process exits
    standby  |--seen---seen---seen ........ lease duration after the last change seen: takes over
                               <-10 s->|lost
                               <------15 s------>|taken

Between ``lost`` and ``taken`` lie at least the lease duration less the deadline (5 s), counted from the *start* of the
last renewal that worked: time for the holder to be gone. `operator/decisions/004-leader-election.md` says why this is
not ``kubernetes.leaderelection``.

One holder need not be waited for: the former process of the same container. A kubelet starts the next one only when
that one has ended, so a restarted leader leads again at once (`candidacy`), unless it did not last: then another
replica may fare better, and the Lease expires as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from voicekeys.clients.kube.faults import TIMEOUT
from voicekeys.clients.kube.paths import path
from voicekeys.clients.kube.tasks import stop
from voicekeys.model.errors import ApiConflict, ApiError, ApiNotFound, ApiUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.clients.kube.session import KubeSession


STEADY_SECONDS = 30.0
"""A leader that held the Lease for so long is followed at once by the next process of its container."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds of an election; client-go's defaults.

    Args:
        duration: a standby takes over after this long without a change of the record.
        deadline: the holder gives up after this long without a renewal that worked.
        retry: pause between attempts, renewals included; up to 20 % longer by jitter.
    """

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        """Refuse times that could make two leaders."""
        if not self.duration > self.deadline > 1.2 * self.retry > 0:
            message = "lease times must fall: duration > deadline > 1.2 x retry > 0"
            raise ValueError(message)


def candidacy(pod_name: str, pod_uid: str) -> tuple[str, str]:
    """Return this process's identity, and how those of its dead predecessors begin; empty where none is known as dead.

    Only the first process of a container knows that: another one, which somebody has started by `kubectl exec`, runs
    beside a living leader of the same pod.

    Args:
        pod_name: of the pod; may be empty.
        pod_uid: of the pod; empty where it is not told.
    """
    name, unique = pod_name or "voicekeys", uuid.uuid4().hex[:8]
    if not pod_uid or os.getpid() != 1:
        return f"{name}_{unique}", ""
    return f"{name}_{pod_uid}_{unique}", f"{name}_{pod_uid}_"


class Elector:
    """One candidate for one Lease. Use once: `acquire`, then wait for `lost`, at the end `release`.

    Args:
        session: the connection; a call of it may take longer than the deadline, so each attempt is cut at half of it.
        namespace: of the Lease.
        name: of the Lease.
        identity: unique for this process, such as ``<pod name>_<uuid>``.
        predecessors: a holder whose identity begins with this has ended for certain; empty when no such is known.
        times: see `LeaseTimes`.
        rng: jitter.
        on_error: called with each `ApiError` on the way; must not raise.
    """

    def __init__(
        self,
        session: KubeSession,
        namespace: str,
        name: str,
        identity: str,
        *,
        predecessors: str = "",
        times: LeaseTimes | None = None,
        rng: random.Random | None = None,
        on_error: Callable[[ApiError], None] | None = None,
    ) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._path = path("leases", namespace, name)
        self.identity = identity
        self._predecessors = predecessors
        self._times = times or LeaseTimes()
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._on_error = on_error
        self._lease: dict[str, Any] | None = None
        self._record: tuple[Any, ...] | None = None
        self._record_seen = 0.0
        self._renewed = 0.0
        self._leading = False
        self._lost = asyncio.Event()
        self._renewer: asyncio.Task[None] | None = None

    @property
    def is_leader(self) -> bool:
        """Whether the Lease is ours right now: held, and renewed within the deadline."""
        return self._leading and time.monotonic() - self._renewed < self._times.deadline

    @property
    def holder(self) -> str:
        """Who held the Lease at last sight; empty when nobody."""
        return str(_spec(self._lease).get("holderIdentity") or "")

    @property
    def transitions(self) -> int:
        """How often the Lease changed hands, as its record counts."""
        return int(_spec(self._lease).get("leaseTransitions") or 0)

    async def acquire(self) -> None:
        """Wait until the Lease is ours, however long; then renew it in the background until `release` or loss."""
        while True:
            if await self._attempt(self._times.deadline):
                break
            await asyncio.sleep(min(self._pause(), self._until_expiry() or self._pause()))
        self._leading = True
        self._renewer = asyncio.create_task(self._renew(), name="lease")
        self._renewer.add_done_callback(self._ended)  # whatever ends it, a fault of ours included

    async def lost(self) -> None:
        """Wait until the Lease is lost. The process must then exit at once: another one may lead in seconds."""
        await self._lost.wait()

    async def release(self) -> None:
        """Stop renewing and, if the Lease is ours, empty it, so that a standby takes over within its next try.

        Call it when all work has ended. Never raises: what cannot be released runs out by itself.
        """
        leading = self.is_leader
        if self._renewer is not None:
            await stop(self._renewer)
        if leading:
            with contextlib.suppress(ApiError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._empty()

    def _ended(self, _: object) -> None:
        self._leading = False
        self._lost.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            left = self._renewed + self._times.deadline - time.monotonic()
            if left > 0:
                await self._attempt(left)
            if self.holder != self.identity or not self.is_leader:
                return

    async def _attempt(self, seconds: float) -> bool:
        """Try once to take or renew the Lease; False when it is another's, or the API server did not let us."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, self._times.deadline / 2)):  # a hanging one leaves time for another
                held = await self._take()
        except TimeoutError:
            return self._failed(ApiUnreachable(TIMEOUT, f"lease {self._namespace}/{self._name}: no answer in time"))
        except ApiError as error:
            return self._failed(error)
        if held:
            # Counted from the start: the answer may have been long under way while the record was already written.
            self._renewed = started
        return held

    def _failed(self, error: ApiError) -> bool:
        if self._on_error is not None and not isinstance(error, ApiConflict):
            self._on_error(error)
        return False

    async def _take(self) -> bool:
        if self._leading and self._lease is not None:
            # The holder writes without reading: half the calls; a 409 says that the record is not ours as we know it.
            with contextlib.suppress(ApiConflict, ApiNotFound):
                await self._write(self._held(_spec(self._lease)))
                return True
        try:
            self._observe(await self._call("GET", self._path))
        except ApiNotFound:
            await self._create()
            return True
        spec = _spec(self._lease)
        if self.holder and not self._has_ended(self.holder) and self._until_expiry() > 0:
            return False
        await self._write(self._held(spec))
        return True

    def _has_ended(self, holder: str) -> bool:
        """Whether a holder is one that does not work any more: ourselves before we led, or a former self."""
        if holder == self.identity or self._leading or not self._predecessors:
            # Who leads and finds another one of its container has lost, as to any other.
            return holder == self.identity
        return holder.startswith(self._predecessors) and _age(_spec(self._lease).get("acquireTime")) >= STEADY_SECONDS

    def _observe(self, lease: dict[str, Any]) -> None:
        self._lease = lease
        spec = _spec(lease)
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("acquireTime"), _version(lease))
        if record != self._record:
            self._record, self._record_seen = record, time.monotonic()

    def _until_expiry(self) -> float:
        """Seconds until the record seen last counts as abandoned; the retry pause where there is none."""
        if self._lease is None:
            return self._times.retry
        # The holder's own duration, where it says one: it may run with other times than we do.
        duration = _spec(self._lease).get("leaseDurationSeconds")
        seconds = float(duration) if isinstance(duration, int) and duration > 0 else self._times.duration
        return max(self._record_seen + seconds - time.monotonic(), 0.0)

    def _held(self, before: dict[str, Any]) -> dict[str, Any]:
        now = _micro_time()
        ours = before.get("holderIdentity") == self.identity
        count = before.get("leaseTransitions")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._times.duration)),
            "acquireTime": before.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": (count if isinstance(count, int) else 0) + (0 if ours else 1),
        }

    async def _write(self, spec: dict[str, Any]) -> None:
        lease = self._lease or {}
        body = {**lease, "spec": spec}  # labels and annotations of others stay
        self._observe(await self._call("PUT", self._path, body))

    async def _empty(self) -> None:
        # Read first: a renewal that was cut off may have been written after all.
        self._observe(await self._call("GET", self._path))
        if self.holder != self.identity:
            return
        # As client-go does: one second, so that whoever does not know an empty holder waits that long only.
        now = _micro_time()
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": self.transitions}
        await self._write({**spec, "acquireTime": now, "renewTime": now})

    async def _create(self) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {**self._held({}), "leaseTransitions": 0},
        }
        self._observe(await self._call("POST", path("leases", self._namespace), body))

    async def _call(self, method: str, target: str, body: object | None = None) -> dict[str, Any]:
        # The election has a rhythm of its own: a pause inside the call, as after a 429, would cost it the deadline.
        answer: dict[str, Any] = await self._session.request(method, target, body, retry=False)
        return answer

    def _pause(self) -> float:
        return self._times.retry * (1 + 0.2 * self._rng.random())


def _spec(lease: dict[str, Any] | None) -> dict[str, Any]:
    spec = (lease or {}).get("spec")
    return spec if isinstance(spec, dict) else {}


def _version(lease: dict[str, Any]) -> object:
    return (lease.get("metadata") or {}).get("resourceVersion")


def _age(time_text: object) -> float:
    """Seconds since a time that a process of this same machine wrote; 0 where it cannot be read."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(time_text))).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
