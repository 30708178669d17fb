"""Killed after each write for its own sake, and started anew, the operator leads, and knows its keys again.

These writes are the fingerprint key, the Lease and the mark on its pod: in its own namespace, once a start. So each
kill point has an operator of its own, with a home of its own, which serves one tenant and has its store as a file. All
run side by side, since whoever comes after a killed leader waits for the Lease to run out.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.crash.endstate import end_state
from tests.crash.kills import Kills, Point
from tests.crash.test_crash import differences
from tests.faults.leaders import leads
from tests.faults.proxy import Proxy
from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.reconcilers.harness import Operator, errors, found, install
from tests.reconcilers.world import World, is_true
from voicekeys.api.names import FINGERPRINT_SECRET, LEADER_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab import Lab

pytestmark = [pytest.mark.simulated_nodes, pytest.mark.own_control_plane, pytest.mark.timeout(1200)]

POD = "voicekeys-0"
# At its start, in the order of the writes; the last is the first renewal of the Lease.
START = ("PATCH pods #1", "POST leases held", "PATCH pods #2", "POST secrets #1", "PUT leases held")
END = ("PATCH pods #1", "PUT leases released")
LEASE_SECONDS = 15
_DIGEST = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}\b")


class Home:
    """An operator's own namespace with its pod, and the tenant that it serves."""

    def __init__(self, lab: Lab, api: Proxy, number: int) -> None:
        self.lab = lab
        self.name = lab.make_namespace(f"home-{number}")
        tenant = f"served-{number}"
        folder = lab.dir / f"stores-{number}"
        folder.mkdir()
        rule = objects.rule("own", tenant, tenant)
        (folder / "store.yaml").write_text(yaml.safe_dump(objects.store(tenant, lab.vault_addr, [rule])))
        settings: dict[str, Any] = {"namespaces": tenant, "stores_dir": folder, "leader_election": True}
        settings |= {"pod_name": POD, "pod_namespace": self.name, "log_level": "INFO"}
        self.operator = Operator(lab, f"own-{number}", kubeconfig=api.kubeconfig(lab, f"own-{number}"), **settings)
        self.world = World(lab, self.operator, name=tenant, store=False, reader=True)
        metadata = {"name": POD, "namespace": self.name}
        pod = {"metadata": metadata, "spec": {"containers": [{"name": "operator", "image": "example.com/operator:1"}]}}
        lab.apply({"apiVersion": "v1", "kind": "Pod", **pod})
        self.world.deploy(replicas=1, wait=False)
        self.world.put(api_key="the-key-of-this-tenant-01")
        self.world.bind(agents=[objects.agent()])
        self.world.wait("Deployment rolled out", self.world.rolled_out)

    def secret(self) -> dict[str, Any] | None:
        """The fingerprint key's Secret."""
        path = f"/api/v1/namespaces/{self.name}/secrets/{FINGERPRINT_SECRET}"
        answer: dict[str, Any] | None = found(lambda: self.lab.api("GET", path))
        return answer

    def marked(self) -> bool:
        """Whether the pod has the mark of the leader."""
        labels = self.lab.api("GET", f"/api/v1/namespaces/{self.name}/pods/{POD}")["metadata"].get("labels") or {}
        return bool(labels.get(LEADER_LABEL) == "true")

    def holder(self) -> str:
        """Who has the Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.name}/leases/voicekeys-operator"
        lease = found(lambda: self.lab.api("GET", path))
        return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")

    def ended(self) -> dict[str, Any]:
        """Wait until the tenant has its key and the pod its mark; give the end state, without what differs by home."""
        self.world.wait("served", self._served, seconds=3 * LEASE_SECONDS)
        secret, leases = (
            self.secret(),
            self.lab.api("GET", f"/apis/coordination.k8s.io/v1/namespaces/{self.name}/leases"),
        )
        assert secret is not None
        self.world.check()
        state = end_state(self.world) | {
            "leases": [one["metadata"]["name"] for one in leases["items"]],
            "held by us": self.holder().startswith(f"{POD}_"),
            "marked": self.marked(),
            "fingerprint key": (sorted(secret["data"]), len(secret["data"]["key"])),
        }
        return _told_apart(state)

    def _served(self) -> bool:
        # First that it leads: until then the pod may have the mark of the life before.
        if not (self.operator.running and leads(self.operator) and self.marked()):
            return False
        raw = self.world.binding()
        return is_true(raw, "Ready") and is_true(raw, "CallsDrained")


def _told_apart(state: dict[str, Any]) -> dict[str, Any]:
    """Name digests by the order in which they come: each home has a key of its own, but equal ones must stay equal."""
    names: dict[str, str] = {}
    text = _DIGEST.sub(
        lambda match: names.setdefault(match[0], f"digest {len(names)}"), json.dumps(state, sort_keys=True)
    )
    told: dict[str, Any] = json.loads(text)
    return told


class Own:
    """Homes behind one proxy."""

    def __init__(self, lab: Lab, api: Proxy, kills: Kills) -> None:
        self.lab = lab
        self.api = api
        self.kills = kills
        self.pool = ThreadPoolExecutor(6)
        self._numbers = iter(range(1, 1000))

    def homes(self, points: Sequence[Point | None]) -> list[Home]:
        """Make homes, each with its kill point."""
        homes = self.each(lambda number: Home(self.lab, self.api, number), [next(self._numbers) for _ in points])
        for home, point in zip(homes, points, strict=True):
            self.kills.watch(home.name, point)
        return homes

    def each(self, work: Callable[[Any], Any], on: Sequence[Any]) -> list[Any]:
        """Do something to several at a time."""
        return list(self.pool.map(work, on))

    def kill(self, homes: Sequence[Home], points: Sequence[Point]) -> None:
        """Kill each at its point."""
        for home, point in zip(homes, points, strict=True):
            assert point.reached.wait(30), f"never reached: {point}; writes were {self.kills.recorded[home.name]}"
        self.each(lambda home: home.operator.kill(), homes)
        self.kills.forget()


@pytest.fixture(scope="module")
def own(lab: Lab) -> Iterator[Own]:
    """Install what the homes share."""
    install(lab)
    with Proxy(lab.api_url, lab.ca_file) as api:
        kills = Kills()
        api.add(kills, "(?!GET)")
        made = Own(lab, api, kills)
        yield made
        made.pool.shutdown()


def points(writes: Sequence[str]) -> list[Point]:
    """These writes come one after another: before one of them is after the one before it."""
    return [Point(write, after=True) for write in writes]


def test_killed_at_each_of_its_own_writes_it_comes_to_the_same_end(own: Own) -> None:
    (calm,) = own.homes([None])
    calm.operator.start()
    wanted = calm.ended()
    eventually(lambda: START[-1] in own.kills.recorded[calm.name], f"renewed, in {own.kills.recorded[calm.name]}", 15)
    assert sorted(own.kills.recorded[calm.name]) == sorted(START), "its own writes are others now"
    chosen = points(START)
    homes = own.homes(chosen)
    own.each(lambda home: home.operator.start(), homes)
    own.kill(homes, chosen)
    made = {home.name: (home.secret() or {}).get("data") for home in homes}
    own.each(lambda home: home.operator.start(), homes)
    wrong = []
    for home, point, state in zip(homes, chosen, own.each(Home.ended, homes), strict=True):
        if state != wanted:
            wrong.append(f"{point}:\n" + "\n".join(differences(wanted, state)))
        before = made[home.name]
        if before is not None and before != (home.secret() or {})["data"]:
            wrong.append(f"{point}: the fingerprint key was made anew")
    assert not wrong, "\n".join(wrong)
    # Whoever was killed after it had made the key found it again: else the last question was never asked.
    assert sum(before is not None for before in made.values()) >= 2
    told_to_stop(own, homes[: len(END)], wanted)
    for home in (calm, *homes):
        assert not errors(home.operator)
        home.operator.kill()


def told_to_stop(own: Own, homes: Sequence[Home], wanted: dict[str, Any]) -> None:
    """Killed while it gives up the mark and the Lease, as a kubelet does whose patience is at its end."""
    chosen = points(END)
    for home, point in zip(homes, chosen, strict=True):
        own.kills.watch(home.name, point)
        own.lab.processes.signal(home.operator.name, "TERM")
    own.kill(homes, chosen)
    own.each(lambda home: home.operator.start(), homes)
    wrong = [
        f"told to stop, {point}:\n" + "\n".join(differences(wanted, state))
        for point, state in zip(chosen, own.each(Home.ended, homes), strict=True)
        if state != wanted
    ]
    assert not wrong, "\n".join(wrong)
