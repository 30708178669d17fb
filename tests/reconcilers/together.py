"""Tests that wait for the cluster most of their time, run at the same time: one operator, a tenant for each.

The tests of a module that ask for `world` are all started when the first of them runs; each then waits for its own end.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import urllib3

from tests.reconcilers.check import violations
from tests.reconcilers.harness import CRDS
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from tests.lab import Lab
    from tests.reconcilers.harness import Operator

AT_ONCE = 24


class StatusWatch:
    """Every status that any binding or store ever had, held against the invariants as it comes by."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._seen: dict[str, list[tuple[str, dict[str, Any], list[str]]]] = {}
        self._pool = urllib3.PoolManager(ca_certs=str(lab.ca_file))
        self._ended = threading.Event()
        self._broken: list[str] = []  # what a law said that could not judge a status
        for plural in CRDS:
            threading.Thread(target=self._run, args=(plural,), name=f"statuses of {plural}", daemon=True).start()

    def _run(self, plural: str) -> None:
        url = f"{self._lab.api_url}/apis/voicekeys.dev/v1alpha1/{plural}?watch=1"
        headers = {"Authorization": f"Bearer {self._lab.admin_token}"}
        while not self._ended.is_set():
            try:
                answer = self._pool.request("GET", url, headers=headers, preload_content=False, retries=False)
                rest = b""
                for chunk in answer.stream(65536):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self.take(line)
            except (urllib3.exceptions.HTTPError, OSError):
                time.sleep(0.1)  # cut by the API server after some minutes, or at the lab's end

    def take(self, line: bytes) -> None:
        """Judge one event of the watch. A law that cannot is kept for `check`: this thread has nobody to tell."""
        try:
            self._take(json.loads(line))
        except Exception:  # noqa: BLE001  whatever it is, it must fail a test
            self._broken.append(f"{line.decode(errors='replace')}\n{traceback.format_exc()}")

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "ERROR":
            return  # the watch begins anew
        raw = event["object"]
        if event["type"] in {"ADDED", "MODIFIED"}:
            wrong = violations(raw, finished=False)
            name = raw["metadata"]["name"]
            # A tenant's store has the name of its namespace.
            self._seen.setdefault(raw["metadata"].get("namespace", name), []).append((name, raw, wrong))

    def of(self, namespace: str, name: str = "voice") -> list[dict[str, Any]]:
        """Every state of a binding that came by, oldest first."""
        seen = [raw for one, raw, _ in list(self._seen.get(namespace, ())) if one == name]
        return [raw for raw in seen if raw["kind"] == "VoiceKeyBinding"]

    def check(self, namespace: str) -> None:
        """Fail where a status of this namespace broke an invariant, even for a moment, or could not be judged."""
        assert not self._broken, "a law failed on a status:\n" + "\n".join(self._broken)
        for name, raw, wrong in list(self._seen.get(namespace, ())):
            assert not wrong, f"{namespace}/{name}: {wrong}\n{json.dumps(raw['status'], indent=1)}"

    def close(self) -> None:
        """Stop watching; the thread ends with the API server's connection."""
        self._ended.set()


class Together:
    """The tests of one module that run at the same time."""

    def __init__(self, items: Sequence[pytest.Function], lab: Lab, operator: Operator, statuses: StatusWatch) -> None:
        self._lab = lab
        self._operator = operator
        self._statuses = statuses
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="test")
        self._ends: dict[str, Future[None]] = {item.nodeid: self._pool.submit(self._one, item) for item in items}

    def _one(self, item: pytest.Function) -> None:
        marker = item.get_closest_marker("tenant")
        world = World(self._lab, self._operator, **(marker.kwargs if marker else {}))
        world.statuses = self._statuses
        given = item.callspec.params if hasattr(item, "callspec") else {}
        try:
            item.obj(world=world, **given)
            world.check()
        finally:
            world.close()

    def wait(self, item: pytest.Function) -> None:
        """Wait until a test has ended; raises what it raised."""
        self._ends[item.nodeid].result()

    def close(self) -> None:
        """Forget those that nobody waits for any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
