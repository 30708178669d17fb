"""Each right of `deploy/` taken away in turn: the API server refuses, and the operator's user can see what is missing.

Rights that act again and again are taken from a running operator; those of a start (lists, watches, the Lease) from one
that starts anew. Every right of the manifests has a case here, or `test_every_right_has_a_case` fails.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy import job
from tests.deploy.conftest import HOME, OPERATOR, own_pods
from tests.deploy.manifests import DEPLOY, Object, pick, render
from tests.deploy.rbac import Grant, grants, without
from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.reconcilers.harness import Operator
from tests.reconcilers.world import World, condition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.deploy.audit import Audit, Request
    from tests.lab import Lab

Right = tuple[str, str, str]
"""Role's kind, resource, verb."""

ROLLED = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "quota": "Deployment",
    "listed": "Deployment",
    "watched": "Deployment",
    "costed": "Deployment",
    "hooked": "StatefulSet",
}
"""Bindings with one workload each, of the same name: a case rolls its own out."""

DRAINED = ("costed", "hooked")
WATCHED = ("voicekeystores", "secrets", "deployments", "statefulsets", "daemonsets", "namespaces")
NOT_LED = "the Lease could not be read or renewed"
NOT_LEADING = 503
NOT_LABELLED = "the pod's leader label was not set: /notify does not work"

pytestmark = pytest.mark.simulated_nodes
_numbers = itertools.count(1)


class Bench:
    """An operator with deploy's rights at work for one tenant, and the means to take rights from it for a while."""

    def __init__(self, lab: Lab, audit: Audit) -> None:
        self.lab = lab
        self.audit = audit
        self.manifests = render(lab, DEPLOY)
        self.mark = 0
        self.starts: dict[str, tuple[list[Request], str]] = {}
        # Without a Lease, so that a start is quick; the Lease's own cases turn it on.
        self.operator = Operator(lab, account=f"{HOME}/{OPERATOR}", pod_name=own_pods(lab)[0]).start()
        self.world = World(lab, self.operator, store=False)
        self.world.store(**job.store_spec())
        self.world.put()
        for name, kind in ROLLED.items():
            more, replicas = (job.DRAINS[kind] if name in DRAINED else {}), 2 if name == "costed" else 1
            self.world.deploy(name, kind, wait=False, replicas=replicas, secrets=[name], drain="100ms")
            self.world.put(name)
            self.world.bind(name, name, agents=[objects.agent(name, kind, **more)])
            job.go_on(self.world, name)
        for name in ROLLED:
            self.world.ready(name, version=1)

    def grant(self, right: Right) -> Grant:
        """The right as the manifests have it."""
        found = [each for each in grants(self.manifests, by_verb=True) if right_of(each) == right]
        assert len(found) == 1
        return found[0]

    @contextmanager
    def missing(self, *rights: Right) -> Iterator[None]:
        """Take rights away, and give them back."""
        taken = [self.grant(right) for right in rights]
        less = self.manifests
        for right in rights:
            (grant,) = (each for each in grants(less, by_verb=True) if right_of(each) == right)
            less = without(less, grant)
        self._apply(taken, less)
        self.mark = self.audit.mark()
        try:
            yield
        finally:
            self._apply(taken, self.manifests)

    def _apply(self, taken: list[Grant], manifests: list[Object]) -> None:
        for role in {each.role for each in taken}:
            found = pick(manifests, *role)
            self.lab.api("PATCH", self.lab.cluster.path(found), {"rules": found["rules"]})

    def refused(self, right: Right) -> list[Request]:
        """Requests of the operator that the API server refused for want of this right."""
        found = self.audit.since(self.mark, lambda each: each.refused and OPERATOR in each.user)
        verb = "patch" if right[1:] == ("secrets", "create") else right[2]
        return [each for each in found if (each.resource, each.verb) == (right[1], verb)]

    def await_refusal(self, right: Right) -> None:
        """Wait for a refusal for want of this right."""
        eventually(lambda: self.refused(right), f"a refusal for want of {right}", seconds=15, pause=0.05)

    def logged(self, *words: str, since: int = 0) -> None:
        """Wait for a log line that has all these words."""

        def said() -> bool:
            lines = self.lab.logs(self.operator.name)[since:].splitlines()
            return any(all(word in line for word in words) for line in lines)

        eventually(said, f"a log line with {words}", seconds=15, pause=0.05)

    def length(self) -> int:
        """How long the log is now."""
        return len(self.lab.logs(self.operator.name))


def right_of(grant: Grant) -> Right:
    """A grant without its place in the role."""
    return grant.role[0], grant.resource, grant.verb or ""


@pytest.fixture(scope="module")
def bench(prepared: Lab, audit: Audit) -> Iterator[Bench]:
    """One for all cases."""
    made = Bench(prepared, audit)
    yield made
    made.operator.kill()
    made.world.close()
    stores = "/apis/voicekeys.dev/v1alpha1/voicekeystores"
    for each in prepared.api("GET", stores)["items"]:
        if each["metadata"]["name"].startswith("fresh-"):
            prepared.api("DELETE", f"{stores}/{each['metadata']['name']}")


# ---- what fails, and how it shows


def says(world: World, condition: str, status: str, *words: str, name: str = "voice") -> None:
    """Wait for a condition whose message has all these words."""

    def look() -> bool:
        now = condition_of(world.binding(name), condition)
        return now is not None and now["status"] == status and all(word in now["message"] for word in words)

    world.wait(f"{name}: {condition}={status} with {words}", look, pause=0.05)


def fresh_store(bench: Bench) -> str:
    """Make a store that was never used."""
    name = f"fresh-{next(_numbers)}"
    bench.world.store(name, **job.store_spec())
    return name


def fresh_binding(bench: Bench, store: str = "") -> str:
    """Make a binding that was never seen, whose Secret does not exist."""
    name = f"new-{next(_numbers)}"
    bench.world.bind(name, source={"storeRef": {"name": store or bench.world.store_name}})
    return name


def reconcile(name: str, *words: str) -> Callable[[Bench, Right], None]:
    """Any look at the binding of a workload: its condition says what is missing."""

    def check(bench: Bench, right: Right) -> None:
        with bench.missing(right):
            bench.world.sync_now(name)
            bench.await_refusal(right)
            says(bench.world, "AgentsCurrent", "False", *words, name=name)

    return check


def change(name: str, condition: str, *words: str) -> Callable[[Bench, Right], None]:
    """A change of a workload's key: the condition says what is missing."""

    def check(bench: Bench, right: Right) -> None:
        with bench.missing(right):
            bench.world.change(name)
            bench.await_refusal(right)
            says(bench.world, condition, "False", *words, name=name)

    return check


def new_binding(condition: str, *words: str, store: bool = False) -> Callable[[Bench, Right], None]:
    """A new binding: its condition says what is missing."""

    def check(bench: Bench, right: Right) -> None:
        with bench.missing(right):
            name = fresh_binding(bench, fresh_store(bench) if store else "")
            bench.await_refusal(right)
            says(bench.world, condition, "False", *words, name=name)

    return check


def status_of_a_binding(bench: Bench, right: Right) -> None:
    """The status stays as it was; the log names the right."""
    with bench.missing(right):
        name = fresh_binding(bench)
        bench.await_refusal(right)
        bench.logged(name, "patch voicekeybindings/status", "check the operator's RBAC")
        assert bench.world.binding(name)["status"] == {"observedGeneration": -1}


def status_of_a_store(bench: Bench, right: Right) -> None:
    """The same for a store."""
    with bench.missing(right):
        name = fresh_store(bench)
        bench.await_refusal(right)
        bench.logged(name, "patch voicekeystores/status", "check the operator's RBAC")
        assert bench.world.store_object(name)["status"] == {"observedGeneration": -1}


def ca_of_a_store(bench: Bench, right: Right) -> None:
    """The store cannot be used, and says that its CA could not be read."""
    with bench.missing(right):
        name = fresh_store(bench)
        bench.await_refusal(right)

        def told() -> bool:
            stalled = condition_of(bench.world.store_object(name), "Stalled")
            return stalled is not None and f"get configmaps {HOME}/vault-ca" in stalled["message"]

        bench.world.wait("the store says why", told, pause=0.05)


def pods_of_a_rollout(name: str) -> Callable[[Bench, Right], None]:
    """The rollout waits, since nobody can tell which pods hold the old key."""

    def check(bench: Bench, right: Right) -> None:
        with bench.missing(right):
            since = bench.length()
            bench.world.change(name)
            bench.await_refusal(right)
            bench.logged("watch interrupted", '"resource":"pods"', "Forbidden", since=since)

    return check


def an_event(bench: Bench, right: Right) -> None:
    """The hand edit is put right all the same; what is missing counts in the metric of API requests."""
    _, resource, verb = right
    name = fresh_binding(bench)
    bench.world.ready(name)
    if verb == "patch":
        job.heal(bench.world, name)
        bench.world.wait("the edit told of", lambda: job.healed_events(bench.world, name) == 1)
    with bench.missing(right):
        told = job.healed_events(bench.world, name)
        job.heal(bench.world, name)
        bench.await_refusal(right)
        assert job.healed_events(bench.world, name) == told
        assert bench.operator.metric("voicekeys_api_requests_total", verb=verb, resource=resource, code="403")


def start(bench: Bench, rights: tuple[Right, ...], **settings: str) -> tuple[list[Request], str]:
    """Start the operator anew without rights; return what was refused to it, and its log."""
    usual = bench.operator.env
    bench.operator.env = usual | {f"VOICEKEYS_{key.upper()}": value for key, value in settings.items()}
    with bench.missing(*rights):
        since = bench.length()
        bench.operator.restart(kill=True)
        for right in rights:
            bench.await_refusal(right)
        # The line follows the answer.
        eventually(lambda: "Forbidden" in bench.lab.logs(bench.operator.name)[since:], "a line about it", pause=0.05)
        if settings:
            assert bench.operator.notify("any", "path")[0] == NOT_LEADING
    bench.operator.env = usual
    return [each for right in rights for each in bench.refused(right)], bench.lab.logs(bench.operator.name)[since:]


def at_start(*words: str) -> Callable[[Bench, Right], None]:
    """An operator that starts without any list, or any watch, says of each which one.

    They are taken away together, one start for all of a verb: each list and watch runs for itself.
    """

    def check(bench: Bench, right: Right) -> None:
        verb = right[2]
        if verb not in bench.starts:
            together = tuple(each for each, case in CASES.items() if case.__qualname__ == check.__qualname__)
            bench.starts[verb] = start(bench, tuple(each for each in together if each[2] == verb))
        refused, log = bench.starts[verb]
        assert [each for each in refused if (each.resource, each.verb) == right[1:]]
        lines = [line for line in log.splitlines() if all(word in line for word in words)]
        assert lines, f"no line with {words} in:\n{log}"

    return check


def watching(resource: str) -> Callable[[Bench, Right], None]:
    """An operator that starts without a list or watch says which."""
    return at_start("watch interrupted", f'"resource":"{resource}"', "Forbidden")


def patched_pods(bench: Bench, right: Right) -> None:
    """A leader without its label says so at its start; a restart goes on without deletion costs, and the log tells."""
    _, log = start(bench, (right,))
    assert [line for line in log.splitlines() if NOT_LABELLED in line and "patch pods" in line]
    with bench.missing(right):
        since = bench.length()
        job.go_on(bench.world, "costed")
        bench.world.change("costed")
        bench.await_refusal(right)
        bench.logged("deletion cost not set", "Forbidden", since=since)
    bench.world.idle("costed")


def hook_events(bench: Bench, right: Right) -> None:
    """Whether a command of mode Exec failed is not known: the restart ends all the same, and the log tells."""
    with bench.missing(right):
        since = bench.length()
        job.go_on(bench.world, "hooked")
        bench.world.change("hooked")
        bench.await_refusal(right)
        bench.logged("events of failed hooks not read", "Forbidden", since=since)
        bench.world.idle("hooked")


def arming_policy(bench: Bench, right: Right) -> None:
    """Whether pods are armed by admission is not known: templates are armed, and the metric of API requests tells."""
    _, resource, verb = right
    with bench.missing(right):
        bench.operator.restart(kill=True)
        bench.await_refusal(right)
        bench.world.idle("costed")
        assert bench.operator.metric("voicekeys_api_requests_total", verb=verb, resource=resource, code="403")
    bench.operator.restart(kill=True)


def lease(words: str) -> Callable[[Bench, Right], None]:
    """No Lease, no leader: the log says what was refused, and nothing is done."""

    def check(bench: Bench, right: Right) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{OPERATOR}"
        exists = bench.lab.cluster.exists(path)
        if exists and right[2] == "create":
            bench.lab.api("DELETE", path)
        elif not exists and right[2] != "create":
            body: Any = {"metadata": {"name": OPERATOR}, "spec": {}}
            bench.lab.api("POST", path.rpartition("/")[0], body)
        _, log = start(bench, (right,), leader_election="true")
        assert [line for line in log.splitlines() if NOT_LED in line and words in line]

    return check


CLUSTER, OWN = "ClusterRole", "Role"
CASES: dict[Right, Callable[[Bench, Right], None]] = {
    (CLUSTER, "secrets", "get"): new_binding("SecretSynced", "get secrets", "check the operator's RBAC"),
    (CLUSTER, "secrets", "create"): new_binding("SecretSynced", "was not written", "check the operator's RBAC"),
    (CLUSTER, "secrets", "patch"): change("quota", "SecretSynced", "was not written", "check the operator's RBAC"),
    (CLUSTER, "serviceaccounts/token", "create"): new_binding(
        "SourceReachable", "the operator may not mint its tokens", "serviceaccounts/token", store=True
    ),
    (CLUSTER, "deployments", "get"): reconcile("deployment", "get deployments", "check the operator's RBAC"),
    (CLUSTER, "statefulsets", "get"): reconcile("statefulset", "get statefulsets", "check the operator's RBAC"),
    (CLUSTER, "daemonsets", "get"): reconcile("daemonset", "get daemonsets", "check the operator's RBAC"),
    (CLUSTER, "deployments", "patch"): change("deployment", "AgentsCurrent", "patch deployments", "RBAC"),
    (CLUSTER, "statefulsets", "patch"): change("statefulset", "AgentsCurrent", "patch statefulsets", "RBAC"),
    (CLUSTER, "daemonsets", "patch"): change("daemonset", "AgentsCurrent", "patch daemonsets", "RBAC"),
    (CLUSTER, "resourcequotas", "list"): change("quota", "AgentsCurrent", "list resourcequotas", "RBAC"),
    (CLUSTER, "pods", "list"): pods_of_a_rollout("listed"),
    (CLUSTER, "pods", "watch"): pods_of_a_rollout("watched"),
    (CLUSTER, "pods", "patch"): patched_pods,
    (CLUSTER, "mutatingadmissionpolicies", "get"): arming_policy,
    (CLUSTER, "voicekeybindings/status", "patch"): status_of_a_binding,
    (CLUSTER, "voicekeystores/status", "patch"): status_of_a_store,
    (CLUSTER, "events", "list"): hook_events,
    (CLUSTER, "events", "create"): an_event,
    (CLUSTER, "events", "patch"): an_event,
    (OWN, "configmaps", "get"): ca_of_a_store,
    **{(CLUSTER, resource, verb): watching(resource) for resource in WATCHED for verb in ("list", "watch")},
    (CLUSTER, "voicekeybindings", "list"): at_start("kopf", "voicekeybindings", "Forbidden"),
    (CLUSTER, "voicekeybindings", "watch"): at_start("kopf", "voicekeybindings", "Forbidden"),
    (OWN, "leases", "create"): lease("create leases"),
    (OWN, "leases", "get"): lease("get leases"),
    (OWN, "leases", "update"): lease("update leases"),
}


def test_every_right_has_a_case(installed: Lab) -> None:
    rights = [(each.role[0], each.resource, each.verb) for each in grants(render(installed, DEPLOY), by_verb=True)]

    assert sorted(rights, key=str) == sorted(CASES, key=str)


@pytest.mark.parametrize("right", CASES, ids="-".join)
def test_without_it_the_operator_says_what_is_missing(bench: Bench, right: Right) -> None:
    CASES[right](bench, right)


def test_with_all_of_them_back_it_goes_on_by_itself(bench: Bench) -> None:
    bench.operator.restart(kill=True)
    for name in ROLLED:
        bench.world.idle(name)
