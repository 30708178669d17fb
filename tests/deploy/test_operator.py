"""The real operator with exactly the rights that `deploy/` gives: it does the whole main job and uses every right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy import job
from tests.deploy.audit import Audit, Request
from tests.deploy.conftest import HOME, OPERATOR, own_pods
from tests.deploy.manifests import DEPLOY, render
from tests.deploy.rbac import grants
from tests.lab.processes import eventually
from tests.reconcilers.harness import Operator, errors
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

Done = tuple[World, list[Request]]

FINGERPRINT = f"/api/v1/namespaces/{HOME}/secrets/voicekeys-fingerprint-key"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{OPERATOR}"
USER = f"system:serviceaccount:{HOME}:{OPERATOR}"
LEADER = "voicekeys.dev/leader"

pytestmark = pytest.mark.simulated_nodes


@pytest.fixture(scope="module")
def done(prepared: Lab, audit: Audit) -> Iterator[Done]:
    """A tenant after the whole main job, and all that the operator asked the API server for meanwhile."""
    for path in (FINGERPRINT, LEASE):  # of an earlier test's operator: this one is to find nothing
        if prepared.cluster.exists(path):
            prepared.api("DELETE", path)
    leader, former = own_pods(prepared)[:2]
    pods = f"/api/v1/namespaces/{HOME}/pods"
    prepared.api("PATCH", f"{pods}/{former}", {"metadata": {"labels": {LEADER: "true"}}})
    mark = audit.mark()
    settings = {"account": f"{HOME}/{OPERATOR}", "leader_election": True, "pod_name": leader}
    operator = Operator(prepared, **settings).start()  # type: ignore[arg-type]
    world = job.tenant(prepared, operator)
    world.ready(version=1)
    job.change(world)
    job.adopt(world)
    job.heal(world)
    job.heal(world)
    job.come_back(world)
    job.lend(world, "lending")
    eventually(lambda: _renewed(audit, mark), "the Lease renewed", seconds=10)
    eventually(lambda: job.healed_events(world) == 2, "both edits told of", seconds=10)
    yield world, audit.since(mark, lambda each: each.user == USER)
    operator.stop()
    world.close()
    prepared.api("DELETE", "/apis/voicekeys.dev/v1alpha1/voicekeystores/lending")


def _renewed(audit: Audit, mark: int) -> list[Request]:
    return audit.since(mark, lambda each: (each.resource, each.verb) == ("leases", "update"))


def test_nothing_is_refused(done: Done) -> None:
    world, requests = done

    ours = {"", HOME, world.namespace}  # an earlier test's namespace that is going refuses events about its objects
    refused = [each for each in requests if each.refused and each.namespace in ours]
    assert [each for each in refused if each.role is None] == []
    # By an admission policy: the adoption before the Secret's owner has labelled it, and nothing else.
    assert {(each.verb, each.resource, each.name) for each in refused} == {("patch", "secrets", "theirs")}
    text = world.lab.logs(world.operator.name)
    assert [line for line in text.splitlines() if "RBAC" in line and world.namespace in line] == []
    assert [line for line in errors(world.operator) if "storage is (re)initializing" not in str(line)] == []


def test_every_right_is_used_and_no_other_role_helps(done: Done) -> None:
    """What nothing uses is taken out of deploy/; which verb on which resource, by which role."""
    world, requests = done
    roles = {grant.role for grant in grants(render(world.lab, DEPLOY))}
    granted = {(each.role, each.resource, each.verb) for each in grants(render(world.lab, DEPLOY), by_verb=True)}

    used = {(each.role, each.resource, each.verb) for each in requests if each.role in roles}
    others = {(each.role, each.resource, each.verb) for each in requests if each.role not in roles}

    assert used == granted
    assert others == set()


def test_events_say_what_was_put_right(done: Done) -> None:
    world, _ = done

    assert job.healed_events(world) == 2
    assert world.events("SecretMissing", "voice")
    assert world.events("KeyChanged", "voice")


def test_the_leader_alone_has_the_label_also_after_another_led(done: Done) -> None:
    world, _ = done
    pods = world.lab.api("GET", f"/api/v1/namespaces/{HOME}/pods?labelSelector={LEADER}%3Dtrue")["items"]

    assert [each["metadata"]["name"] for each in pods] == [world.operator.env["VOICEKEYS_POD_NAME"]]


def test_the_fingerprint_key_is_made_once(done: Done) -> None:
    world, requests = done
    made = [each.namespace for each in requests if (each.resource, each.verb) == ("secrets", "create")]

    assert made == [HOME]
    assert world.lab.api("GET", FINGERPRINT)["data"]["key"]
