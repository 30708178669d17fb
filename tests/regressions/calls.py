"""An agent with calls, in the small world: what arms its pod, what a key change does to it, what a person orders."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.regressions.small import NS, Small
from voicekeys.api import names
from voicekeys.model.calls import DrainState
from voicekeys.model.identity import Name

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAIN = {"mode": "HTTP", "maxCallDuration": "30m"}
TOKEN = "t" * 32


def hook(small: Small, name: str) -> None:
    """Give a pod its hook, as admission does."""
    pod = small.cluster.pods[name]
    get = {
        "path": "/voicekeys/v1/drain",
        "port": 9909,
        "httpHeaders": [{"name": "X-Voicekeys-Token", "value": TOKEN}],
    }
    pod["spec"]["containers"] = [{"name": "c", "lifecycle": {"preStop": {"httpGet": get}}}]
    pod["metadata"]["annotations"] = {**pod["metadata"]["annotations"], names.ARMED_ANNOTATION: "HTTP"}
    pod["spec"]["terminationGracePeriodSeconds"] = 1845
    pod["status"]["podIP"] = "10.0.0.1"
    small.cluster.tell("MODIFIED", pod)


def order(small: Small, annotation: str, value: str) -> None:
    raw = small.cluster.bindings[Name(NS, "b")]
    raw["metadata"].setdefault("annotations", {})[annotation] = value
    raw["metadata"]["resourceVersion"] = small.cluster.version()
    small.inventory.upsert(dict(raw))


def bound(small: Small, **drain: Any) -> None:
    small.bind(agents=[{"kind": "Deployment", "name": "agent", "drain": {**DRAIN, **drain}}])


def change(small: Small) -> None:
    small.put("two")
    small.pass_by(20)


def rolled(small: Small) -> None:
    """The new pod serves, and the old one drains."""
    small.pod("new")
    hook(small, "new")
    small.agents.serve("new")
    small.controller()
    small.agents.change("old", state=DrainState.REFUSING)
    small.terminate("old")
    small.pass_by(20)


def leaked(small: Small, value: str = "once") -> None:
    order(small, names.LEAKED_ANNOTATION, value)


def told(small: Small, reason: str = "LeakEmergency") -> list[str]:
    return [message for found, message in small.events if found == reason]


def done(small: Small, old: str = "old", new: str = "new") -> None:
    """The new pod serves, and the old one has ended after its last call."""
    small.pod(new)
    hook(small, new)
    small.agents.serve(new)
    small.controller()
    small.agents.change(old, calls=0, completed=1)
    small.end(old)
    small.pass_by(20)


@contextmanager
def agent_with_a_call(*, armed: bool) -> Iterator[Small]:
    """An agent of mode HTTP whose one pod, armed or made before it could be, serves the contract and has one call."""
    with Small() as made:
        made.deploy()
        made.pod("old")
        made.cluster.pods["old"]["status"]["podIP"] = "10.0.0.1"
        if armed:
            hook(made, "old")
        made.agents.serve("old", calls=1)
        bound(made)
        made.pass_by(5)
        yield made
