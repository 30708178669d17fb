"""The state that a tenant ends in, without what differs between two runs anyhow: times, UIDs, generated names."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from tests.reconcilers.harness import found

if TYPE_CHECKING:
    from tests.reconcilers.world import World

_TIMED = frozenset(
    {
        "lastTransitionTime",
        "createdTime",
        "startedTime",
        "finishedTime",
        "writtenTime",
        "patchedTime",
        "divergedTime",
        "previousDivergedTime",
    }
)
_POD = re.compile(r"\b(agent(?:-[a-z0-9]+)?)-[a-z0-9]{5}\b")


def end_state(world: World, chance: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The tenant's Secrets, workload, ReplicaSets and bindings, comparable between tenants of one scenario.

    `chance` names fields that two undisturbed runs may differ in.
    """
    secrets = [one for one in world._list("/api/v1", "secrets") if one["type"] != "kubernetes.io/service-account-token"]
    state = {
        "secrets": [_secret(world, one) for one in secrets],
        **_workload(world),
        "replicaSets": sorted(_replica_set(one) for one in world.replica_sets()),
        "bindings": {one["metadata"]["name"]: _plain(one["status"]) for one in world.bindings()},
        "store": _plain((found(world.store_object) or {}).get("status")),
    }
    if "revision" in chance:
        state["replicaSets"] = [one for one in state["replicaSets"] if not one.endswith(" 0")]
    renamed: dict[str, Any] = _without(_renamed(state, world.namespace), chance)
    return renamed


def _workload(world: World) -> dict[str, Any]:
    """The agents' template, and how many it has had."""
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        raw = world.get(kind, "agent")
        if raw is not None:
            annotations = raw["metadata"].get("annotations", {})
            revisions = annotations.get("deployment.kubernetes.io/revision") or len(
                world._list("/apis/apps/v1", "controllerrevisions")
            )
            marks = raw["spec"]["template"]["metadata"].get("annotations", {})
            return {"template": marks, "revision": revisions}
    return {}


def _secret(world: World, raw: dict[str, Any]) -> dict[str, Any]:
    metadata = raw["metadata"]
    values = world.data(metadata["name"]) or {}
    marks = {key: value for key, value in metadata.get("annotations", {}).items() if not key.endswith("/key-created")}
    return {
        "name": metadata["name"],
        "data": {key: hashlib.sha256(value).hexdigest()[:12] for key, value in values.items()},
        "labels": metadata.get("labels"),
        "annotations": marks,
        "owners": [one["name"] for one in metadata.get("ownerReferences", [])],
        "type": raw["type"],
    }


def _replica_set(raw: dict[str, Any]) -> str:
    annotations = raw["spec"]["template"]["metadata"].get("annotations") or {}
    triggers = {key: value for key, value in annotations.items() if key.startswith("voicekeys.dev/")}
    return f"{triggers} {raw['spec']['replicas']}"


def _plain(value: Any) -> Any:
    """Drop times and UIDs; of restarts only their number counts.

    Pods whose end fell into the time without an operator were not witnessed, and that is said: how many is chance.
    """
    if isinstance(value, dict):
        kept = {key: _plain(one) for key, one in value.items() if key not in {*_TIMED, "uid", "unwitnessed"}}
        if "restarts" in kept:
            kept["restarts"] = len(kept["restarts"])
        return kept
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _without(value: Any, fields: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, fields) for key, one in value.items() if key not in fields}
    return [_without(one, fields) for one in value] if isinstance(value, list) else value


def _renamed(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(one, namespace) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, namespace) for one in value]
    if not isinstance(value, str):
        return value
    # How far the refused pods had come is told as it was seen at that moment.
    told = re.sub(r".* (Version \d+ is kept in place)", r"… \1", value)
    told = re.sub(r"^node-\d+$", "NODE", told)  # which one is the scheduler's choice
    return _POD.sub(r"\1-POD", told.replace(namespace, "NS"))
