"""What the operator is in the middle of when it is killed: a tenant's life up to a moment, and what happens then."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.reconcilers import objects
from tests.reconcilers.harness import found
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
    also: tuple[str, ...] = ()  # kill points beside the writes that all runs have in common: see `Point`
    told: str = ""  # an event that an undisturbed run writes, in the background: a kill may be the end of it
    store: bool = False  # whether the store's status is written for what happens here, or when its turn has come

    def make(self, lab: Lab, operator: Operator, number: int) -> World:
        """Make a tenant for it."""
        return World(lab, operator, name=f"{self.name}-{number}", store=False, reader=True, **dict(self.labels))

    def __str__(self) -> str:
        return self.name


def _store(world: World, **spec: Any) -> None:
    # Each process reads every key once as it starts; what changes after that it is told.
    world.store(poll={"interval": "300s"}, **spec)


def _begin(
    world: World,
    *,
    secrets: tuple[str, ...] = ("voice",),
    replicas: int = 2,
    long: bool = False,
    kind: str = "Deployment",
) -> None:
    drain, pod = (LONG_DRAIN, LONG_POD) if long else ("2s", POD)
    # A DaemonSet has one pod, too.
    node = {"nodeSelector": {"kubernetes.io/hostname": "node-1"}} if kind == "DaemonSet" else {}
    # Where the old pod ends before the new one comes, the time between them is long enough to be told in each run.
    later = {} if kind == "Deployment" else {"ready_after": "2s"}
    world.deploy(kind=kind, replicas=replicas, secrets=secrets, drain=drain, pod={**pod, **node}, wait=False, **later)
    world.put(api_key=OLD)


def _bound(world: World, *, replicas: int = 2, kind: str = "Deployment", **rollout: Any) -> None:
    _begin(world, replicas=replicas, kind=kind)
    _store(world)
    world.bind(agents=[objects.agent(kind=kind)], rollout=rollout)
    world.wait(f"{kind} rolled out", lambda: world.rolled_out(kind=kind))
    world.ready(version=1)
    world.aged()


def _first(world: World) -> None:
    _store(world)
    world.bind(agents=AGENT)


def _first_done(world: World) -> bool:
    store = found(world.store_object)
    return _settled(world, 1) and store is not None and is_true(store, "Ready")


def _edit_by_hand(world: World) -> None:
    secret = world.get("Secret", "voice")
    assert secret is not None
    world.patch(secret, {"stringData": {"api_key": "edited by hand"}})


def _pause(world: World, *, paused: bool) -> None:
    workload = world.get("Deployment", "agent")
    assert workload is not None
    world.patch(workload, {"spec": {"paused": paused}})


def _prepare_paused(world: World) -> None:
    _bound(world, replicas=1)
    _pause(world, paused=True)


def _prepare_resume(world: World) -> None:
    _prepare_paused(world)
    world.change(api_key=NEW)
    world.wait("the change waits", lambda: _waits(world))


def _waits(world: World) -> bool:
    raw = world.binding()
    waiting = condition_of(raw, "Reconciling")
    told = waiting is not None and waiting["reason"] == "WaitingForResume"
    return told and raw["status"]["key"]["version"] == 2 and bool(world.trigger())


def _suspended(world: World) -> bool:
    return is_true(world.binding(), "Suspended") and is_true(world.store_object(), "Suspended")


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
    Scenario("first", _begin, _first, _first_done, store=True),
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
        # The first of each; `PATCH deployments #2` is there only where the two did not come together.
        also=(
            "any Propagating SecretSynced:Synced Staged intent",
            "any Coalescing SecretSynced:Synced Staged intent",
            "any  patched",
        ),
    ),
    Scenario("owner", _bound, lambda world: void(world.edit(target={"deletionPolicy": "Delete"})), _owned),
    Scenario(
        "heal",
        lambda world: _bound(world, replicas=1),
        _edit_by_hand,
        lambda world: world.data() == {"api_key": OLD.encode()} and _settled(world, 1),
        told="PayloadDiffers",
    ),
    Scenario("paused", _prepare_paused, lambda world: void(world.change(api_key=NEW)), _waits),
    Scenario("resume", _prepare_resume, lambda world: _pause(world, paused=False), lambda world: _settled(world, 2)),
    Scenario(
        "suspend",
        lambda world: _bound(world, replicas=1),
        lambda world: _store(world, suspend=True),
        _suspended,
        store=True,
    ),
    *(
        Scenario(
            kind.lower(),
            lambda world, kind=kind: _bound(world, replicas=1, kind=kind),  # type: ignore[misc]
            lambda world: void(world.change(api_key=NEW)),
            lambda world: _settled(world, 2),
        )
        for kind in ("StatefulSet", "DaemonSet")
    ),
)


def void(_: object) -> None:
    """Take a value, give none."""
