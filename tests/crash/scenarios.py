"""What the operator is in the middle of when it is killed: a tenant's life up to a moment, and what happens then."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.reconcilers import objects
from tests.reconcilers.world import World, condition_of, is_true

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import Lab
    from tests.reconcilers.harness import Operator

FUSSY = "lab.voicekeys.dev/fussy"
OLD, NEW, OTHER = "first-value-0001-abcdef", "second-value-0002-abcdef", "other-value-0003-abcdef"
AGENT = [objects.agent()]
POD = {"terminationGracePeriodSeconds": 3}
LONG_DRAIN, LONG_POD = "6s", {"terminationGracePeriodSeconds": 8}  # so that a busy operator sees it drain, too


def install_fussy_nodes(lab: Lab) -> None:
    """Let pods that carry a trigger annotation never get ready, in namespaces with the label `FUSSY`.

    The API server itself marks them at creation, so that the workload's template, and thus its rollouts, stay as the
    operator makes them.
    """
    api = "admissionregistration.k8s.io/v1"
    trigger = (
        "has(object.metadata.annotations) && object.metadata.annotations.exists(k, k.startsWith('voicekeys.dev/key.'))"
    )
    mark = 'Object{metadata: Object.metadata{annotations: {"lab.voicekeys.dev/ready": "never"}}}'
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    policy = {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "fussy-nodes"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [pods],
                "namespaceSelector": {"matchExpressions": [{"key": FUSSY, "operator": "Exists"}]},
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConditions": [{"name": "on-a-new-key", "expression": trigger}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mark}}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "fussy-nodes"},
        "spec": {"policyName": "fussy-nodes"},
    }
    lab.apply([policy, binding])


@dataclass(frozen=True)
class Scenario:
    """`prepare` brings a tenant to the moment before, `act` begins, `done` says whether it came to its end."""

    name: str
    prepare: Callable[[World], None]
    act: Callable[[World], None]
    done: Callable[[World], bool]
    labels: tuple[tuple[str, str], ...] = ()
    chance: frozenset[str] = frozenset()  # writes (a part of the name) of some runs only, fields that may differ

    def make(self, lab: Lab, operator: Operator, number: int) -> World:
        """Make a tenant for it."""
        return World(lab, operator, name=f"{self.name}-{number}", store=False, reader=True, **dict(self.labels))

    def __str__(self) -> str:
        return self.name


def _store(world: World) -> None:
    # Each process reads every key once as it starts; what changes after that it is told.
    world.store(poll={"interval": "300s"})


def _begin(world: World, *, secrets: tuple[str, ...] = ("voice",), replicas: int = 2, long: bool = False) -> None:
    drain, pod = (LONG_DRAIN, LONG_POD) if long else ("2s", POD)
    world.deploy(replicas=replicas, secrets=secrets, drain=drain, pod=pod, wait=False)
    world.put(api_key=OLD)


def _bound(world: World, *, replicas: int = 2, **rollout: Any) -> None:
    _begin(world, replicas=replicas)
    _store(world)
    world.bind(agents=AGENT, rollout=rollout)
    world.wait("Deployment rolled out", world.rolled_out)
    world.ready(version=1)
    world.aged()


def _first(world: World) -> None:
    _store(world)
    world.bind(agents=AGENT)


def _settled(world: World, version: int, *names: str) -> bool:
    for name in names or ("voice",):
        raw = world.binding(name)
        status = raw.get("status") or {}
        drained = condition_of(raw, "CallsDrained")
        good = is_true(raw, "Ready") and status["observedGeneration"] == raw["metadata"]["generation"]
        good = good and (status.get("key") or {}).get("version") == version
        good = good and (status.get("rotation") or {}).get("phase", "Idle") == "Idle"
        if not good or (drained is not None and drained["status"] != "True"):
            return False
    return True


def _prepare_adoption(world: World) -> None:
    data = {"api_key": base64.b64encode(OTHER.encode()).decode()}
    metadata = {"name": "voice", "namespace": world.namespace, "labels": {"voicekeys.dev/adopt": "voice"}}
    world.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    _begin(world, replicas=1)
    _store(world)
    world.wait("Deployment rolled out", world.rolled_out)


def _rolled_back(world: World) -> bool:
    raw = world.binding()
    status, stalled = raw.get("status") or {}, condition_of(raw, "Stalled")
    refused = stalled is not None and stalled["reason"] == "NewKeyRefused"
    ended = [one["outcome"] for one in status.get("history") or []] == ["RolledBack"]
    return refused and ended and is_true(raw, "CallsDrained") and world.rolled_out()


def _prepare_two(world: World) -> None:
    _begin(world, secrets=("one", "two"), replicas=1, long=True)
    world.put("other", api_key=OLD + "-other")
    _store(world)
    world.bind("one", "key", agents=AGENT)
    world.bind("two", "other", agents=AGENT)
    world.wait("Deployment rolled out", world.rolled_out)
    world.ready("one", 1)
    world.ready("two", 1)


def _change_two(world: World) -> None:
    world.put(api_key=NEW)
    world.put("other", api_key=NEW + "-other")
    world.notify("key")
    world.notify("other")


def _owned(world: World) -> bool:
    secret = world.get("Secret", "voice")
    return secret is not None and bool(secret["metadata"].get("ownerReferences")) and _settled(world, 1)


SCENARIOS = (
    Scenario("first", _begin, _first, lambda world: _settled(world, 1)),
    Scenario("change", _bound, lambda world: void(world.change(api_key=NEW)), lambda world: _settled(world, 2)),
    Scenario(
        "rollback",
        lambda world: _bound(world, replicas=1, timeout="3s"),
        lambda world: void(world.change(api_key=NEW)),
        _rolled_back,
        labels=((FUSSY, "true"),),
    ),
    Scenario(
        "adoption",
        _prepare_adoption,
        lambda world: void(world.bind(agents=AGENT, target={"adopt": True})),
        lambda world: _settled(world, 1) and bool(world.trigger()),
    ),
    Scenario(
        "two",
        _prepare_two,
        _change_two,
        # Of two changes at once one rollout is made; a kill in between may make it two, never more than the changes.
        lambda world: _settled(world, 2, "one", "two") and len(world.replica_sets()) <= 3,
        chance=frozenset(
            {
                "PATCH deployments #2",
                " intent",
                " patched",
                "revision",
                "deployment.kubernetes.io/revision",
                "pods",
                "restarts",
            }
        ),
    ),
    Scenario("owner", _bound, lambda world: void(world.edit(target={"deletionPolicy": "Delete"})), _owned),
)


def void(_: object) -> None:
    """Take a value, give none."""
