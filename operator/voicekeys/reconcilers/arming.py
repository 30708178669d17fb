"""How an agent's pods get their drain hook, and how many of them lack it.

::

    inject Pod        the API server arms each new pod; here: the token of its hook, and what stands in the way
    inject Template   the hook goes into the pod template together with the trigger, so in one restart
    inject Off        the patch to commit is in the status, and nothing is written
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from voicekeys.api.binding import DrainMode, Inject
from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.names import ARMED_BY_ANNOTATION, TRIGGER_PREFIX
from voicekeys.api.status import AgentStatus
from voicekeys.model.identity import Name
from voicekeys.model.verdict import Verdict
from voicekeys.model.workload import parse_pod
from voicekeys.policies import arming as policy
from voicekeys.policies import drain as calls_policy
from voicekeys.policies import hazards, hook_patch, hooks, preflight
from voicekeys.policies import pods as on_old_key
from voicekeys.reconcilers.calls import PROBED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from voicekeys.api.binding import AgentKind
    from voicekeys.api.status import BindingStatus
    from voicekeys.model.identity import WorkloadId
    from voicekeys.model.workload import Pod, Workload
    from voicekeys.reconcilers.calls import Calls
    from voicekeys.reconcilers.case import Case
    from voicekeys.reconcilers.conclusion import Taken
    from voicekeys.reconcilers.gather import Observed
    from voicekeys.reconcilers.outcome import Draft
    from voicekeys.reconcilers.ports import Clock, Cluster

SOON_SECONDS = 5.0
"""The first look may come before the pods do."""
LOOK_SECONDS = 120.0
"""Pods of a workload at rest are looked at so often while something about their hooks is amiss, and else not at all."""
TOKEN_BYTES = 32
_WITH_TOKEN = frozenset({DrainMode.HTTP, DrainMode.GAUGE})


class Arms(Protocol):
    """Who arms new pods: see `voicekeys.reconcilers.admission.Admission`."""

    changes: int
    """How often that has changed."""

    @property
    def arms(self) -> bool:
        """Whether the API server does."""


class Arming:
    """Arms agents that have a drain.

    Args:
        cluster: lists pods, patches templates.
        calls: proves hooks.
        clock: paces the looks at workloads at rest.
        admission: whether the API server arms pods in this cluster.
        image: the gauge's image; empty where nobody knows it.
        bindings_of: the bindings that name a workload.
    """

    def __init__(
        self,
        cluster: Cluster,
        calls: Calls,
        clock: Clock,
        admission: Arms,
        image: Callable[[], str],
        bindings_of: Callable[[WorkloadId], Collection[Name]],
    ) -> None:
        self._cluster = cluster
        self.calls = calls
        self._clock = clock
        self._admission = admission
        self._image = image
        self._bindings_of = bindings_of
        self._looked: dict[tuple[Name, str], float] = {}
        self._counted: dict[tuple[Name, str], int] = {}  # the admission's changes when the pods were last counted

    def prepare(self, observed: Observed, draft: Draft) -> None:
        """Have ready what admission takes from the status: the token of each drain server, the gauge's image.

        Whatever else can be done now: pods may come before the key can be read, or their workload exists.
        """
        known = {(status.kind, status.name): status for status in draft.status.agents}
        for agent in observed.spec.agents:
            mode = agent.drain.mode if agent.drain is not None else None
            if mode not in _WITH_TOKEN:
                continue
            if mode is DrainMode.GAUGE:
                draft.status = self._with_image(draft.status)
            key = (agent.kind, agent.name)
            status = known.get(key) or AgentStatus(agent.kind, agent.name)
            known[key] = status if status.drain_token is not None else replace(status, drain_token=_token())
        draft.status = replace(draft.status, agents=tuple(known.values()))

    def _with_image(self, status: BindingStatus) -> BindingStatus:
        image = self._image() or status.gauge_image
        return status if image == status.gauge_image else replace(status, gauge_image=image)

    def _inject(self, case: Case) -> Inject:
        drain = case.agent.drain
        return Inject.OFF if drain is None else drain.effective_inject(admission=self._admission.arms)

    def warn(self, case: Case, recorded: AgentStatus) -> None:
        """The conditions that the workload's template tells."""
        drain, workload, draft = case.agent.drain, case.workload, case.draft
        if drain is None:
            return
        found = {
            Is.HOOK_CONFLICT: self._armed_by_nobody(case)
            or hooks.hook_conflict(
                str(workload.id),
                case.agent,
                workload.pod_spec,
                token=recorded.drain_token,
                gauge_image=draft.status.gauge_image,
            ),
            Is.LIVENESS_MAY_CUT_CALLS: hazards.liveness_may_cut_calls(workload, drain.max_call_duration),
            Is.HOST_PORT_NEEDS_ROOM: hazards.host_port_needs_room(workload),
        }
        if self._inject(case) is not Inject.POD:  # the API server lengthens the grace of pods, not of the template
            found[Is.GRACE_TOO_SHORT] = preflight.grace_too_short(workload, drain.max_call_duration)
        for condition, verdict in found.items():
            draft.warn(condition, verdict)

    def _armed_by_nobody(self, case: Case) -> Verdict | None:
        """Say that a template has the mark of a binding that is gone, for whose sake nobody else arms its pods."""
        marked, workload = case.workload.triggers.get(ARMED_BY_ANNOTATION), case.workload.id
        if marked is None or Name(workload.namespace, marked) in self._bindings_of(workload):
            return None
        return Verdict(
            "ArmedByOther",
            f"{workload}: the annotation {ARMED_BY_ANNOTATION} of its pod template names {marked}, which is no "
            "VoiceKeyBinding of this workload, so that its pods get no hook: take that annotation out of the template",
        )

    # ---- how many are armed

    async def at_rest(self, case: Case, recorded: AgentStatus) -> AgentStatus:
        """Look at the pods of a workload that no change is in flight for, while something about them is amiss.

        Raises:
            ApiError: they cannot be listed.
        """
        if case.agent.drain is None:
            return replace(recorded, unarmed=None) if recorded.unarmed is not None else recorded
        key = (case.observed.name, case.workload.uid)
        # Pods that came while nobody armed them have no hook, whatever was counted before.
        doubted = self._counted.get(key, 0) != self._admission.changes
        amiss = recorded.unarmed != 0 or doubted or case.draft.was_told_about(str(case.workload.id), *PROBED)
        if not amiss:
            self._looked.pop(key, None)
            return recorded
        now, last = self._clock.monotonic(), self._looked.get(key)
        pause = SOON_SECONDS if recorded.unarmed is None else LOOK_SECONDS
        if last is not None and now - last < pause:
            case.draft.wake_in(pause - (now - last), case.observed.now)
            case.draft.keep_about(str(case.workload.id), *PROBED)
            return recorded
        self._looked[key], changes = now, self._admission.changes
        raw = await self._cluster.list_pods(case.workload.id.namespace, case.workload.selector)
        pods = [parse_pod(one, prefix=TRIGGER_PREFIX) for one in raw]
        recorded = await self.look(case, recorded, on_old_key.of_workload(pods, case.workload))
        self._counted[key] = changes
        case.draft.wake_in(SOON_SECONDS if recorded.unarmed is None else LOOK_SECONDS, case.observed.now)
        return recorded

    def forget(self, binding: Name) -> None:
        """A binding is gone."""
        for known in (self._looked, self._counted):
            for key in [key for key in known if key[0] == binding]:
                known.pop(key)

    async def look(self, case: Case, recorded: AgentStatus, pods: Sequence[Pod]) -> AgentStatus:
        """Count the pods without a hook, and prove the hooks of the others."""
        drain = case.agent.drain
        if drain is None:
            return recorded
        serving = [pod for pod in pods if pod.serving]
        await self.calls.inspect(case, serving)
        unarmed = sum(calls_policy.is_unprotected(pod, drain) for pod in serving)
        # Those that are still to come are not counted yet.
        known = unarmed or len(serving) >= case.workload.replicas
        return replace(recorded, unarmed=unarmed if known else None)

    def told(self, observed: Observed, draft: Draft, taken: Sequence[Taken]) -> None:
        """Say in `DrainArmed` whether every pod waits for its calls, and what to do where some do not."""
        with_drain = [(one.agent, one.status) for one in taken if one.agent.drain and one.status is not None]
        if not with_drain:
            return
        for agent, status in with_drain:
            if status.unarmed:
                self._told_unarmed(observed, draft, status, draft.to_commit.get(agent))
                return
        if any(status.unarmed is None for _, status in with_drain):
            draft.unknown(Is.DRAIN_ARMED, "NotCounted", "the pods have not all been seen yet: wait until they run")
            return
        draft.true(Is.DRAIN_ARMED, "Armed", "every pod waits for its calls before it ends")

    @staticmethod
    def _told_unarmed(observed: Observed, draft: Draft, status: AgentStatus, lacking: str | None) -> None:
        who = str(observed.workload_id(status))
        if lacking is None:
            draft.false(Is.DRAIN_ARMED, *hook_patch.unarmed(who, status.unarmed or 0))
            return
        before = {(one.kind, one.name): one.hook_patch for one in observed.status.agents}
        if before.get((status.kind, status.name)) != status.hook_patch or not draft.was_told_about(who, Is.DRAIN_ARMED):
            draft.again.add(Is.DRAIN_ARMED)
        command = hook_patch.command(observed.name, status, draft.status.agents)
        draft.false(Is.DRAIN_ARMED, *hook_patch.to_commit(who, status.unarmed or 0, lacking, command))

    @staticmethod
    def shown(
        draft: Draft, agents: Mapping[tuple[AgentKind, str], AgentStatus]
    ) -> dict[tuple[AgentKind, str], AgentStatus]:
        """Give each agent's status what its manifest lacks, as far as a status has room, and take off what is there."""
        lacking = {(agent.kind, agent.name): patch for agent, patch in draft.to_commit.items()}
        fitting = hook_patch.fitting(lacking)
        return {key: replace(status, hook_patch=fitting.get(key)) for key, status in agents.items()}

    # ---- template

    def propose(self, case: Case, recorded: AgentStatus) -> None:
        """Note what the user has to commit, where the operator may write no hook (inject Off)."""
        drain = case.agent.drain
        if drain is None or self._inject(case) is not Inject.OFF or not recorded.unarmed:
            return
        image = case.draft.status.gauge_image
        name = case.observed.name.name
        manifest = policy.arming_manifest(name, case.agent, _template(case.workload), gauge_image=image)
        if manifest is not None:
            case.draft.to_commit[case.agent] = manifest

    async def patch(
        self, case: Case, recorded: AgentStatus, workload: Workload, triggers: Mapping[str, str | None]
    ) -> None:
        """Set triggers on a pod template and, with inject Template, the hook: in one patch, so in one restart.

        Raises:
            ApiError: refused, or the workload changed since it was read.
        """
        arming = self._patch(case, recorded, workload) if self._inject(case) is Inject.TEMPLATE else None
        at = (workload.id, workload.uid, workload.resource_version)
        if arming is None:
            await self._cluster.annotate_template(*at, triggers)
        else:
            await self._cluster.arm_template(*at, arming, triggers)

    def armed(self, case: Case, recorded: AgentStatus) -> Workload:
        """The workload as its next pods will be: with the gauge, which needs room as well."""
        if self._inject(case) is Inject.OFF:
            return case.workload
        spec = (self._patch(case, recorded, case.workload) or {}).get("spec", {})
        return replace(case.workload, pod_spec={**case.workload.pod_spec, **spec})

    @staticmethod
    def _patch(case: Case, recorded: AgentStatus, workload: Workload) -> Mapping[str, Any] | None:
        name, image = case.observed.name.name, case.draft.status.gauge_image
        return policy.arming_patch(name, case.agent, _template(workload), token=recorded.drain_token, gauge_image=image)


def _token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _template(workload: Workload) -> Mapping[str, Any]:
    return {"metadata": {"annotations": dict(workload.triggers)}, "spec": workload.pod_spec}
