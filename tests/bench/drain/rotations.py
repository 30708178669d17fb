"""One key change as an arm does it: from the new key until the old one is revoked and the old pods are gone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.drain.arms import Arm
    from tests.bench.drain.world import World

AFTER_SECONDS = 5.0
"""After the old pods are gone: two turns of every call, so that a refused key shows."""
CHANGE_SECONDS = 240.0
"""In which a change must be done, beside what its longest call takes."""


@dataclass(frozen=True)
class Rotation:
    """What was done when, Unix times.

    Args:
        arm: whose key changed.
        began: the new key was put.
        done: the arm's own procedure said that it is done.
        revoked: the old key was revoked.
        ended: the last old pod was gone.
    """

    arm: str
    began: float
    done: float
    revoked: float
    ended: float

    @property
    def seconds(self) -> float:
        """What people wait for."""
        return self.done - self.began


def rotate(world: World, arm: Arm, longest: float) -> Rotation:
    """Change an arm's key and see it through."""
    change = by_operator if arm.name == "voicekeys" else by_hand
    old_pods, old_key = set(world.pods(arm)), world.new_key(arm)
    began = time.time()
    done = change(world, arm, CHANGE_SECONDS + longest)
    world.provider.revoke(old_key)
    revoked = time.time()
    eventually(lambda: not old_pods & set(world.pods(arm)), f"{arm.name}: the old pods gone", CHANGE_SECONDS + longest)
    ended = time.time()
    time.sleep(AFTER_SECONDS)
    return Rotation(arm.name, began, done, revoked, ended)


def by_operator(world: World, arm: Arm, seconds: float) -> float:
    """Put the key into Vault; done is when the binding says that every call on the old one has ended."""
    version = world.put_key(arm)
    eventually(finished(world, arm, version), f"{arm.name}: version {version} finished", seconds, pause=0.2)
    return time.time()


def finished(world: World, arm: Arm, version: int) -> Callable[[], bool]:
    """Return a check whether no pod holds an older key than this version, by the binding's status."""

    def check() -> bool:
        status = world.status(arm)
        conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
        told = any(each["toVersion"] == version for each in status.get("history") or ())
        on_old = (status.get("rotation") or {}).get("podsOnOldKey", 0)
        return told and not on_old and conditions.get("CallsDrained") == "True"

    return check


def by_hand(world: World, arm: Arm, seconds: float) -> float:
    """Write the Secret and restart, as people do; done is when `kubectl rollout status` says so."""
    world.write_secret(arm)
    world.kubectl("rollout", "restart", f"deployment/{arm.app}")
    world.kubectl("rollout", "status", f"deployment/{arm.app}", f"--timeout={int(min(seconds, 110))}s")
    return time.time()
