"""Workloads and pods as the policies see them: parsed once from the API server's JSON, then only read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from voicekeys.api.names import ARMED_ANNOTATION, FIELD_MANAGER
from voicekeys.model.hook import Endpoint, HookKind, parse_hooks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicekeys.model.hook import DrainHook
    from voicekeys.model.identity import WorkloadId

DEFAULT_GRACE_SECONDS = 30  # what the API server fills in for terminationGracePeriodSeconds


def parse_time(text: str | None) -> datetime | None:
    """Parse an RFC 3339 time of the API server (``2026-01-02T03:04:05Z``) to aware UTC; None stays None."""
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet at one moment.

    Args:
        id: kind, namespace and name.
        uid: a workload that was deleted and made again has another one.
        resource_version: what a patch is tested against.
        settled: the controller has seen this generation.
        paused: ``spec.paused`` of a Deployment.
        replicas: pods wanted (for a DaemonSet: nodes that should run one).
        updated: pods of the newest template.
        available: pods that serve.
        selector: LabelSelector of its pods.
        triggers: the annotations of its pod template.
        strategy: update strategy: type and, for RollingUpdate, maxSurge, maxUnavailable, partition as written.
        pod_spec: the template's pod spec, as the API server has it.
        writer: the field manager, other than ours, that last wrote the spec; empty where nobody can tell.
    """

    id: WorkloadId
    uid: str
    resource_version: str
    settled: bool
    paused: bool
    replicas: int
    updated: int
    available: int
    selector: Mapping[str, Any]
    triggers: Mapping[str, str]
    strategy: Mapping[str, Any]
    pod_spec: Mapping[str, Any]
    writer: str = ""

    @property
    def rolled_out(self) -> bool:
        """Every wanted pod is of the newest template and available (old ones may still be terminating)."""
        return self.settled and self.updated >= self.replicas and self.available >= self.replicas

    @property
    def spec_part(self) -> tuple[object, ...]:
        """What people and autoscalers write, without what the controller counts."""
        return self.uid, self.paused, self.replicas, self.selector, self.triggers, self.strategy, self.pod_spec

    @property
    def grace_seconds(self) -> int:
        """The template's terminationGracePeriodSeconds."""
        return int(self.pod_spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))


def parse_workload(workload: WorkloadId, raw: Mapping[str, Any]) -> Workload:
    """Parse one workload; counts that the controller has not written yet are 0."""
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status", {})
    template = spec["template"]
    daemon = workload.kind == "DaemonSet"
    strategy = spec.get("strategy" if workload.kind == "Deployment" else "updateStrategy", {})
    return Workload(
        id=workload,
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        settled=status.get("observedGeneration", 0) >= metadata.get("generation", 0),
        paused=bool(spec.get("paused")),
        replicas=status.get("desiredNumberScheduled", 0) if daemon else spec.get("replicas", 1),
        updated=status.get("updatedNumberScheduled" if daemon else "updatedReplicas", 0),
        available=status.get("numberAvailable" if daemon else "availableReplicas", 0),
        selector=spec.get("selector", {}),
        triggers=template.get("metadata", {}).get("annotations") or {},
        strategy={"type": strategy.get("type", "RollingUpdate")} | (strategy.get("rollingUpdate") or {}),
        pod_spec=template.get("spec", {}),
        writer=_writer(metadata.get("managedFields") or []),
    )


def _writer(entries: Sequence[Mapping[str, Any]]) -> str:
    spec = [one for one in entries if "f:spec" in one.get("fieldsV1", {}) and not one.get("subresource")]
    others = [one for one in spec if one.get("manager") != FIELD_MANAGER]
    return str(max(others, key=lambda one: one.get("time", "")).get("manager", "")) if others else ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod at one moment.

    Args:
        uid: a StatefulSet's next pod of the same name has another one.
        name: the pod's name.
        node: where it runs, empty before it is scheduled.
        owner: UID of the controlling ReplicaSet, StatefulSet or DaemonSet; empty for an orphan.
        owner_name: the controller's name.
        owner_kind: the controller's kind; a Deployment's pods belong to a ReplicaSet.
        triggers: its trigger annotations: which digest its template had.
        terminating: it has a deletionTimestamp.
        deadline: when the kubelet kills it (the deletionTimestamp), None while it is not terminating.
        grace_seconds: its terminationGracePeriodSeconds.
        ended: it will never run a container again; a pod that was deleted before it got a node never ran any.
        ready: it takes new calls.
        trouble: why it does not start, in the kubelet's own words (``ImagePullBackOff: …``), else empty.
        created: when it was made.
        ready_time: since when it is ready, or not.
        started: when each of its running containers started: it read ``env`` from the Secret then (facts K13).
        ip: its address; empty before it has one.
        armed: the mode that arming gave it; empty where it did not.
        hook: its drain hook, that of the contract where it has one.
        unhooked: its ordinary containers without a preStop hook.
        running: each of its ordinary containers runs.
        alive: one of them runs, or nobody knows; else it can have no call.
        restarts: how often its ordinary containers were started again.
        ended_time: when the container with the hook ended, else the last of the ordinary ones; None while one runs.
        exit_code: of that container.
    """

    uid: str
    name: str
    node: str
    owner: str
    owner_name: str
    owner_kind: str
    triggers: Mapping[str, str]
    terminating: bool
    deadline: datetime | None
    grace_seconds: int
    ended: bool
    ready: bool
    trouble: str
    created: datetime | None = None
    ready_time: datetime | None = None
    started: tuple[datetime, ...] = ()
    ip: str = ""
    armed: str = ""
    hook: DrainHook | None = None
    unhooked: tuple[str, ...] = ()
    running: bool = False
    alive: bool = True
    restarts: int = 0
    ended_time: datetime | None = None
    exit_code: int | None = None

    @property
    def serving(self) -> bool:
        """It is not being deleted, and its containers have not ended."""
        return not self.terminating and not self.ended

    def endpoint(self, port: int | None = None) -> Endpoint | None:
        """Where the pod's calls can be asked; None where nobody knows.

        Args:
            port: of the contract, for a pod whose hook does not tell it: one that was made before it could be armed.
        """
        if self.hook is not None and self.hook.kind is HookKind.CONTRACT:
            return Endpoint(self.name, self.ip, self.hook.port, self.hook.token)
        return Endpoint(self.name, self.ip, port) if port else None


def parse_pod(raw: Mapping[str, Any], *, prefix: str) -> Pod:
    """Parse one pod.

    Args:
        raw: the API server's JSON.
        prefix: annotations with this start are kept as its triggers.
    """
    metadata, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    owner: Mapping[str, Any] = next((o for o in metadata.get("ownerReferences", []) if o.get("controller")), {})
    deadline = parse_time(metadata.get("deletionTimestamp"))
    annotations = metadata.get("annotations") or {}
    ready: Mapping[str, Any] = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    hook, unhooked = parse_hooks(spec)
    ordinary: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or []
    ended_time, exit_code = _last_end(ordinary, hook.container if hook is not None else "")
    return Pod(
        uid=metadata["uid"],
        name=metadata["name"],
        node=spec.get("nodeName", ""),
        owner=owner.get("uid", ""),
        owner_name=owner.get("name", ""),
        owner_kind=owner.get("kind", ""),
        triggers={key: value for key, value in annotations.items() if key.startswith(prefix)},
        terminating=deadline is not None,
        deadline=deadline,
        grace_seconds=int(
            metadata.get("deletionGracePeriodSeconds")
            or spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
        ),
        ended=_ended(spec, status, terminating=deadline is not None),
        ready=ready.get("status") == "True",
        trouble=_trouble(status),
        created=parse_time(metadata.get("creationTimestamp")),
        ready_time=parse_time(ready.get("lastTransitionTime")),
        started=_started(status),
        ip=status.get("podIP", ""),
        armed=annotations.get(ARMED_ANNOTATION, ""),
        hook=hook,
        unhooked=unhooked,
        running=bool(ordinary) and all("running" in one.get("state", {}) for one in ordinary),
        alive=not ordinary or any("running" in one.get("state", {}) for one in ordinary),
        restarts=sum(one.get("restartCount", 0) for one in ordinary),
        ended_time=ended_time,
        exit_code=exit_code,
    )


def _last_end(containers: Sequence[Mapping[str, Any]], hooked: str) -> tuple[datetime | None, int | None]:
    """When the container with the hook, else the last of all, ended, and with which exit code."""
    with_hook = [one for one in containers if one["name"] == hooked] or containers
    ends: list[tuple[datetime, int | None]] = []
    for one in with_hook:
        terminated = one.get("state", {}).get("terminated") or {}
        moment = parse_time(terminated.get("finishedAt"))
        if moment is None:
            return None, None
        ends.append((moment, terminated.get("exitCode")))
    return max(ends, key=lambda end: end[0], default=(None, None))


def _started(status: Mapping[str, Any]) -> tuple[datetime, ...]:
    running = (one.get("state", {}).get("running") or {} for one in _statuses(status))
    return tuple(moment for one in running if (moment := parse_time(one.get("startedAt"))) is not None)


def _statuses(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _ended(spec: Mapping[str, Any], status: Mapping[str, Any], *, terminating: bool) -> bool:
    """Whether no container of the pod runs any more, nor will again.

    A kubelet writes the terminated state of every container, and the phase, before it lets the object go (facts K9
    is the exception: a forced deletion, where the object goes first and nothing terminated is ever shown). In a pod
    that nobody deleted a terminated container is a crash: the kubelet starts it again, in the same pod (K13).
    """
    running = [one for one in _statuses(status) if "running" in one.get("state", {})]
    if status.get("phase") in {"Succeeded", "Failed"}:
        # Not only a kubelet writes Failed: for a node that is lost the pod garbage collector does, which saw no end.
        return not running
    if not terminating:
        return False
    if not spec.get("nodeName"):
        return True
    containers = status.get("containerStatuses") or []
    return bool(containers) and not running and all("terminated" in one.get("state", {}) for one in containers)


def _trouble(status: Mapping[str, Any]) -> str:
    for one in _statuses(status):
        waiting = one.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return _words(one["name"], waiting)
        ended = one.get("lastState", {}).get("terminated", {})
        if ended and one.get("restartCount", 0) > 0 and not one.get("ready"):
            return _words(one["name"], ended)
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
    return ""


def _words(container: str, state: Mapping[str, Any]) -> str:
    """The kubelet's reason; its free text is left out, since it may quote a command line with a value in it."""
    code = f" (exit code {state['exitCode']})" if "exitCode" in state else ""
    return f"container {container}: {state.get('reason', 'unknown')}{code}"
