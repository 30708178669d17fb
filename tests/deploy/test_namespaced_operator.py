"""The operator of one team, with the Roles of overlays/namespaced and no ClusterRole: the whole main job in there.

What it asks for is held against the API server's audit log: every request is one that a Role of that namespace allows.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy import job
from tests.deploy.conftest import OPERATOR, TEAM, own_pods
from tests.deploy.manifests import NAMESPACED, render
from tests.deploy.rbac import grants
from tests.reconcilers import objects
from tests.reconcilers.harness import NOTIFY_KEY, Operator, errors
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.audit import Audit, Request
    from tests.lab import Lab

    Done = tuple[World, list[Request]]

USER = f"system:serviceaccount:{TEAM}:{OPERATOR}"
NEIGHBOUR = "voice-staging"

pytestmark = pytest.mark.simulated_nodes


class Team(World):
    """The tenant whose namespace the operator itself runs in, with the store `default` from a file."""

    def __init__(self, lab: Lab, operator: Operator) -> None:
        self.lab = lab
        self.operator = operator
        self.namespace = TEAM
        self.store_name = "default"
        self._puts = itertools.count(1)


@pytest.fixture(scope="module")
def done(team: Lab, team_audit: Audit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """The team after the whole main job, and all that its operator asked the API server for."""
    stores = tmp_path_factory.mktemp("stores")
    write_store(team, stores)
    notify = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "voicekeys-notify-key", "namespace": TEAM}}
    team.apply({**notify, "stringData": {"key": NOTIFY_KEY.decode()}})
    settings: dict[str, Any] = {
        "namespaces": TEAM,
        "stores_dir": stores,
        "pod_namespace": TEAM,
        "pod_name": own_pods(team, TEAM)[0],
    }
    mark = team_audit.mark()
    operator = Operator(team, account=f"{TEAM}/{OPERATOR}", leader_election=True, **settings).start()
    world = Team(team, operator)
    world.make_reader()
    neighbour(team)
    job.populate(world)
    world.ready(version=1)
    job.change(world)
    job.adopt(world)
    job.heal(world)
    job.heal(world)
    job.come_back(world)
    world.wait("both edits told of", lambda: job.healed_events(world) == 2)
    yield world, team_audit.since(mark, lambda each: each.user == USER)
    operator.stop()


def write_store(lab: Lab, folder: Path) -> None:
    """Write the store as the overlay's ConfigMap has it, but for the lab's Vault."""
    (config,) = (each for each in render(lab, NAMESPACED) if each["kind"] == "ConfigMap")
    (text,) = config["data"].values()
    store = yaml.safe_load(text)
    (rule,) = store["spec"]["rules"]
    rule["pathPrefixes"] = [TEAM]
    theirs = objects.store(store["metadata"]["name"], lab.vault_addr, store["spec"]["rules"])
    (folder / "default.yaml").write_text(yaml.safe_dump(theirs))


def neighbour(lab: Lab) -> None:
    """Another team's namespace, with a binding and a Secret that this operator has no business with."""
    labels = {"app.kubernetes.io/managed-by": "voicekeys", "voicekeys.dev/binding": "theirs"}
    meta = {"name": "theirs", "namespace": NEIGHBOUR}
    lab.apply(objects.binding(NEIGHBOUR, "theirs", f"{NEIGHBOUR}/key", "default"))
    lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "labels": labels}})


def test_nothing_is_refused(done: Done) -> None:
    world, requests = done
    refused = [each for each in requests if each.refused]

    assert [each for each in refused if each.role is None] == []
    assert {(each.verb, each.resource, each.name) for each in refused} == {("patch", "secrets", "theirs")}
    assert [line for line in errors(world.operator) if "storage is (re)initializing" not in str(line)] == []
    assert [line for line in world.operator.logs() if "RBAC" in str(line)] == []


def test_it_asks_for_nothing_outside_its_namespace(done: Done) -> None:
    _, requests = done

    # A namespace's own object is counted to that namespace.
    assert {each.namespace for each in requests} == {TEAM}
    assert {(each.verb, each.resource, each.name) for each in requests if each.resource == "namespaces"} == {
        ("get", "namespaces", TEAM)
    }


def test_every_right_is_used_and_no_other_role_helps(done: Done) -> None:
    world, requests = done
    # Stores are files here, their credentials and CAs included in what the operator's own namespace may hold.
    unused = {(("Role", "voicekeys-operator"), "configmaps", "get")}
    granted = {(each.role, each.resource, each.verb) for each in grants(render(world.lab, NAMESPACED), by_verb=True)}

    assert {(each.role, each.resource, each.verb) for each in requests} == granted - unused


def test_the_neighbours_binding_is_left_alone(done: Done) -> None:
    world, _ = done
    theirs = world.lab.api("GET", f"/apis/{objects.API}/namespaces/{NEIGHBOUR}/voicekeybindings/theirs")

    assert theirs["status"] == {"observedGeneration": -1}
    assert world.operator.metric("voicekeys_binding_ready", namespace=NEIGHBOUR) is None
    assert world.operator.metric("voicekeys_binding_ready", namespace=TEAM)
