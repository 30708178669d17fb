"""The real operator with exactly the rights that `deploy/` gives: it does the whole main job and uses every right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy import job
from tests.deploy.audit import Audit, Request
from tests.deploy.conftest import HOME, OPERATOR, own_pods
from tests.deploy.manifests import DEPLOY, render
from tests.deploy.rbac import grants
from tests.lab import Lab
from tests.lab.processes import eventually
from tests.reconcilers.harness import NOTIFY_KEY, Operator, errors
from tests.reconcilers.world import World

USER = f"system:serviceaccount:{HOME}:{OPERATOR}"
LEADER = "voicekeys.dev/leader"

pytestmark = pytest.mark.simulated_nodes


@pytest.fixture(scope="module")
def done(installed: Lab, audit: Audit) -> Iterator[tuple[World, list[Request]]]:
    """A tenant after the whole main job, and all that the operator asked the API server for meanwhile."""
    notify = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "voicekeys-notify-key", "namespace": HOME}}
    installed.apply({**notify, "stringData": {"key": NOTIFY_KEY.decode()}})
    job.prepare(installed, HOME)
    leader, former = own_pods(installed)[:2]
    pods = f"/api/v1/namespaces/{HOME}/pods"
    installed.api("PATCH", f"{pods}/{former}", {"metadata": {"labels": {LEADER: "true"}}})
    mark = audit.mark()
    settings = {"account": f"{HOME}/{OPERATOR}", "leader_election": True, "pod_name": leader}
    operator = Operator(installed, **settings).start()  # type: ignore[arg-type]
    world = job.tenant(installed, operator)
    world.ready(version=1)
    job.change(world)
    job.adopt(world)
    job.heal(world)
    job.lend(world, "lending")
    eventually(lambda: _renewed(audit, mark), "the Lease renewed", seconds=10)
    yield world, audit.since(mark, lambda each: each.user == USER)
    operator.stop()
    world.close()
    installed.api("DELETE", "/apis/voicekeys.dev/v1alpha1/voicekeystores/lending")


def _renewed(audit: Audit, mark: int) -> list[Request]:
    return audit.since(mark, lambda each: (each.resource, each.verb) == ("leases", "update"))


def test_nothing_is_refused(done: tuple[World, list[Request]]) -> None:
    world, requests = done

    assert [each for each in requests if each.refused] == []
    text = world.lab.logs(world.operator.name)
    # The refused adoption, before the owner labels the Secret, is the one that is meant.
    assert [line for line in text.splitlines() if "Forbidden" in line and "adopting" not in line] == []
    assert [line for line in errors(world.operator) if "storage is (re)initializing" not in str(line)] == []


def test_every_right_is_used_and_no_other_role_helps(done: tuple[World, list[Request]]) -> None:
    """What nothing uses is taken out of deploy/; which verb on which resource, by which role."""
    world, requests = done
    roles = {grant.role for grant in grants(render(world.lab, DEPLOY))}
    granted = {(each.role, each.resource, each.verb) for each in grants(render(world.lab, DEPLOY), by_verb=True)}

    used = {(each.role, each.resource, each.verb) for each in requests if each.role in roles}
    others = {(each.role, each.resource, each.verb) for each in requests if each.role not in roles}

    assert used == granted
    assert others == set()


def test_events_say_what_was_put_right(done: tuple[World, list[Request]]) -> None:
    world, _ = done

    assert job.healed_events(world) >= 1
    assert world.events("SecretMissing", "voice")
    assert world.events("KeyChanged", "voice")


def test_the_leader_alone_has_the_label_also_after_another_led(done: tuple[World, list[Request]]) -> None:
    world, _ = done
    pods = world.lab.api("GET", f"/api/v1/namespaces/{HOME}/pods?labelSelector={LEADER}%3Dtrue")["items"]

    assert [each["metadata"]["name"] for each in pods] == [world.operator.env["VOICEKEYS_POD_NAME"]]


def test_the_fingerprint_key_is_made_once(done: tuple[World, list[Request]]) -> None:
    world, requests = done
    made = [each for each in requests if each.resource == "secrets" and each.verb == "create" and each.namespace == HOME]

    assert len(made) == 1
    assert world.lab.api("GET", f"/api/v1/namespaces/{HOME}/secrets/voicekeys-fingerprint-key")["data"]["key"]
