"""What must hold all along, whatever happens: looked at a few times a second while the players act."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Any

from tests.e2e.truth import FIELD
from tests.reconcilers.check import violations
from tests.reconcilers.world import condition_of

if TYPE_CHECKING:
    from tests.e2e.players import Tenant

PAUSE = 0.3  # seconds between two looks


class Watcher:
    """Looks at one tenant from a thread of its own; `broken` has what broke a law."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.broken: list[str] = []
        self.looks = 0
        self.templates: dict[str, set[str]] = {}
        self._old: dict[tuple[str, str], dict[str, str]] = {}
        self._there: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="laws", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 -- a look that fails must not end the looking in silence
                self.broken.append(f"a look failed: {type(error).__name__}: {error}")

    def look(self) -> None:
        """Look once at everything."""
        world = self.tenant.world
        bindings = world.bindings()
        self._secrets()
        for raw in bindings:
            self._status(raw)
            self._old_pods(raw)
        self._status(world.store_object())
        for one in world.replica_sets():
            owner = one["metadata"]["ownerReferences"][0]["name"]
            self.templates.setdefault(owner, set()).add(one["metadata"]["name"])
        self.looks += 1

    def _secrets(self) -> None:
        """Agents keep their Secret, and nothing is ever in it but a good key or what a person wrote."""
        truth, world = self.tenant.truth, self.tenant.world
        away = set(truth.secrets_away)
        items = world._list("/api/v1", "secrets")
        found = {one["metadata"]["name"]: one for one in items if one["metadata"]["name"] in truth.bindings}
        for name in self._there - set(found) - away - truth.secrets_away:
            self.broken.append(f"Secret {name} is gone, and nobody deleted it")
        for name, secret in found.items():
            bound = truth.bindings[name]
            value = base64.b64decode((secret.get("data") or {}).get(FIELD, "")).decode()
            bound.had.add(value)
            # A binding may have read each of the paths, one after another.
            good = {one for key in truth.keys.values() for one in key.good} | bound.edited
            if value not in good:
                self.broken.append(f"Secret {name} holds what was never a key")
            if name in away:
                truth.secrets_away.discard(name)
        self._there = set(found) - truth.secrets_away

    def _status(self, raw: dict[str, Any]) -> None:
        """The laws of a status, which hold of one that nobody has finished as well."""
        self.broken += [f"{raw['kind']} {raw['metadata']['name']}: {what}" for what in violations(raw, finished=False)]

    def _old_pods(self, raw: dict[str, Any]) -> None:
        """A pod on the old key is let go when its end was seen, or is owned up to as unwitnessed."""
        name, uid = raw["metadata"]["name"], raw["metadata"]["uid"]
        for agent in raw.get("status", {}).get("agents") or []:
            now = {one["uid"]: one["name"] for one in agent.get("oldPods") or []}
            before = self._old.get((uid, agent["name"]), {})
            self._old[uid, agent["name"]] = now
            for gone in before.keys() - now.keys():
                if self._still_old(gone, before[gone], name, agent["name"]):
                    self.broken.append(f"{name} let go of pod {before[gone]} of {agent['name']}, which still runs")

    def _still_old(self, uid: str, pod_name: str, binding: str, workload: str) -> bool:
        """Whether a pod runs, and its template is not the one that the workload has now."""
        world = self.tenant.world
        pod = world.get("Pod", pod_name)
        if pod is None or pod["metadata"]["uid"] != uid or pod["status"].get("phase") in {"Succeeded", "Failed"}:
            return False
        if not self.tenant.truth.bindings[binding].alive:
            return False
        owner = world.get(self.tenant.truth.workloads[workload].kind, workload)
        raw = world.get("VoiceKeyBinding", binding)
        if owner is None or raw is None or condition_of(raw, "AgentsCurrent") is None:
            return False
        key = f"voicekeys.dev/key.{binding}"
        wanted = (owner["spec"]["template"]["metadata"].get("annotations") or {}).get(key)
        return bool((pod["metadata"].get("annotations") or {}).get(key) != wanted)
