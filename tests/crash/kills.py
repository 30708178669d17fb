"""Kill points: which write of the operator is the last that the API server hears of, and holding it until the kill.

A write is known by a name that is the same in every run: the object and, for a status, what it says. Numbers would not
do, since how many small steps of a rollout share one status write depends on the machine.

Many tenants are brought to their points side by side; each is cut off at its own: the write is held, and what the
operator still sends about this tenant is lost. Then one SIGKILL ends the operator for all of them. To the API server
that is the same as a kill at each of these writes.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.faults.actions import Hold

if TYPE_CHECKING:
    from tests.faults.proxy import Exchange, Seen

_NAMESPACE = re.compile(r"/(?:namespaces|voicekeystores)/([^/?]+)")
ANY = "any "
_EVENT = re.compile(r"/events(?:/|$)")


def tenant(seen: Seen) -> str:
    """Whose write it is: the namespace, or the store that is named after it."""
    found = _NAMESPACE.search(seen.path)
    return found[1] if found else ""


def is_event(seen: Seen) -> bool:
    """Whether it is an Event: they are written in the background, one after another for all tenants."""
    return _EVENT.search(seen.path) is not None


def _status_name(seen: Seen) -> str:
    patch = seen.json()
    status: dict[str, Any] = patch[-1]["value"]
    said = {one["type"]: one for one in status.get("conditions") or []}
    words = [
        f"{kind}={said[kind]['status']}" for kind in ("Ready", "CallsDrained", "Reachable", "Suspended") if kind in said
    ]
    words += [f"{kind}:{said[kind]['reason']}" for kind in ("AgentsCurrent", "SecretSynced") if kind in said]
    rotation = status.get("rotation") or {}
    words.append(f"{rotation.get('phase', 'Idle')}{' refused' if rotation.get('refusedDigest') else ''}")
    for agent in status.get("agents") or []:
        trigger, before = agent.get("trigger"), agent.get("previousTrigger")
        words.append("settled" if "patchedTime" not in agent else "intent" if trigger == before else "patched")
    return " ".join(words)


class Names:
    """Names the writes of one tenant, in order; a write's second time is another write."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def name(self, seen: Seen) -> str | None:
        """The name of a write; None for one that was there before with the same meaning."""
        # Of two bindings, each may be the first: a write is known by its kind and by what it says, not by its object.
        what = re.sub(r".*/(?:v1|v1alpha1)/(?:namespaces/[^/]+/)?([^/]+)(?:/[^/]+)?(/[^/]+)?$", r"\1\2", seen.path)
        if is_event(seen):
            body = seen.json()
            return self._first(f"event {body.get('reason', 'again')}")
        if seen.path.endswith("/status"):
            return self._first(f"{what}: {_status_name(seen)}")
        if what == "leases":
            return self._first(
                f"{seen.method} leases {'held' if seen.json()['spec'].get('holderIdentity') else 'released'}"
            )
        self._times[what] = self._times.get(what, 0) + 1
        return f"{seen.method} {what} #{self._times[what]}"

    def _first(self, name: str) -> str | None:
        self._times[name] = self._times.get(name, 0) + 1
        return name if self._times[name] == 1 else None


@dataclass(slots=True, eq=False)
class Point:
    """One kill point: the name of a write, and whether the API server still hears of it.

    A name that begins with `any` stands for the first write that has the rest of it in its own name: where two bindings
    are at work, what exactly is said first is chance, but that it is said is not.
    """

    write: str
    after: bool
    reached: threading.Event = field(default_factory=threading.Event)

    def meets(self, name: str | None) -> bool:
        """Whether a write of this name is the point."""
        part = self.write.removeprefix(ANY)
        return name is not None and (part in name if part != self.write else name == part)

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.write}"


class Kills:
    """The action of the proxy's rule for all writes: lets them through, records them, stops at kill points."""

    def __init__(self) -> None:
        self.recorded: dict[str, list[str]] = {}
        self._names: dict[str, Names] = {}
        self._points: dict[str, Point | None] = {}
        self._hold = Hold()

    def watch(self, namespace: str, point: Point | None = None) -> None:
        """Record a tenant's writes from now on, up to its kill point."""
        self._names[namespace] = Names()
        self.recorded[namespace] = []
        self._points[namespace] = point

    def forget(self) -> None:
        """After the kill: nothing held goes on, and no tenant has a kill point any more."""
        self._hold.drop()
        self._hold = Hold()
        self._names.clear()
        self._points.clear()

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Take one write."""
        seen = exchange.seen
        namespace = tenant(seen)
        if namespace not in self._names:
            return await exchange.forward()
        point = self._points[namespace]
        if point is not None and point.reached.is_set():
            # This tenant's operator is dead; the others' is not, and must not wait.
            return _swallowed() if is_event(seen) else exchange.cut()
        name = self._names[namespace].name(seen)
        if name is not None:
            self.recorded[namespace].append(name)
        if point is None or not point.meets(name):
            return await exchange.forward()
        point.reached.set()
        if is_event(seen):
            return await exchange.forward() if point.after else _swallowed()
        hold = self._hold
        if point.after:
            await exchange.forward()
        return await hold(exchange)


def _swallowed() -> web.StreamResponse:
    return web.json_response({"metadata": {"name": "lost"}}, status=201)
