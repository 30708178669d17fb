"""The second half of a reconcile: from the Secret to running pods, until every pod on the old key was seen to end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from voicekeys.model.digest import UNKNOWN_DIGEST
from voicekeys.model.errors import ApiConflict
from voicekeys.model.identity import WorkloadId
from voicekeys.model.verdict import Verdict
from voicekeys.policies import pods as on_old_key
from voicekeys.policies import preflight, records, rotation
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do, Step
from voicekeys.policies.sights import NOTHING
from voicekeys.reconcilers import leaks
from voicekeys.reconcilers.calls import PROBED, frozen_block
from voicekeys.reconcilers.case import (
    Case,
    calls_hold,
    counted,
    missing,
    misused,
    resumed,
    warn,
)
from voicekeys.reconcilers.conclusion import Taken, conclude
from voicekeys.reconcilers.stopwatch import LOOK_SECONDS, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicekeys.api.binding import AgentKind
    from voicekeys.api.status import AgentStatus, BindingStatus
    from voicekeys.model.digest import Digester
    from voicekeys.model.identity import Name
    from voicekeys.policies.pods import SeenPods
    from voicekeys.reconcilers.arming import Arming
    from voicekeys.reconcilers.gather import Gatherer, Observed
    from voicekeys.reconcilers.leftovers import Leftovers
    from voicekeys.reconcilers.outcome import Draft, Outcome
    from voicekeys.reconcilers.ports import Clock
    from voicekeys.reconcilers.siblings import Siblings
    from voicekeys.reconcilers.turns import Turns
    from voicekeys.reconcilers.way_back import Wanted


CONFLICT_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Seconds before a patch that lost a race is tried again: a controller writes in bursts, and rests in between."""


class Rollouts:
    """Brings the agents of a binding to the key that its Secret holds.

    Args:
        gatherer: reads workloads.
        siblings: knows the other bindings of a workload.
        turns: how many workloads may be in a restart at once.
        outcome: writes intents.
        leftovers: watches pods, also those whose workload is gone.
        arming: patches templates; knows of drain hooks and, by them, of live calls.
        digester: names the fingerprint key.
        clock: for timeouts.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        siblings: Siblings,
        turns: Turns,
        outcome: Outcome,
        leftovers: Leftovers,
        arming: Arming,
        digester: Digester,
        clock: Clock,
    ) -> None:
        self._gatherer = gatherer
        self._siblings = siblings
        self._turns = turns
        self._outcome = outcome
        self._leftovers = leftovers
        self._arming = arming
        self._calls = arming.calls
        self._digester = digester
        self._stopwatch = Stopwatch(clock)
        self._first_sight: dict[tuple[str, str], str] = {}  # UIDs of binding and workload to the baseline

    def prepare(self, observed: Observed, draft: Draft) -> None:
        """Have ready what new pods of the agents are given."""
        self._arming.prepare(observed, draft)

    async def advance(self, observed: Observed, draft: Draft, wanted: Wanted) -> None:
        """Take each agent one step further, with `AgentsCurrent`, `CallsDrained`, ``status.agents`` and the rotation.

        Raises:
            ApiError: the API server refused or did not answer; what was done so far is recorded or repeatable.
            Waiting: the pods are being listed (reason ``Reading``).
        """
        if self._digester.is_foreign(observed.status.digest_key):
            draft.status = _rekeyed(observed, draft, wanted)
        self._calls.recorded(observed)
        self._calls.obey(observed, draft)
        leaks.obey(observed, draft, self._outcome)  # the first key of all may be known only now
        draft.status = rotation.not_ahead(draft.status, observed.now)
        draft.status = rotation.begun(draft.status, draft.baseline, wanted, observed.now)
        workloads = await self._gatherer.workloads(observed)
        known = {(status.kind, status.name): status for status in draft.status.agents}
        taken = []
        for agent in observed.spec.agents:
            status = known.get((agent.kind, agent.name))
            workload = workloads.get(agent)
            if workload is None:
                left_over = status and self._leftovers.of_gone(observed, draft, wanted, status)
                taken.append(Taken(agent, missing(observed, agent), left_over))
            else:
                taken.append(await self._take(Case(observed, draft, wanted, agent, workload), status))
        named = {(agent.kind, agent.name) for agent in observed.spec.agents}
        removed = []
        for status in (status for key, status in known.items() if key not in named):
            self._first_sight.pop((observed.record.uid, status.uid or ""), None)
            removed.append(await self._leftovers.of_removed(observed, draft, wanted, status))
        left = [status for status in removed if status.old_pods]
        agents = (*(one.status for one in taken if one.status is not None), *left)
        counted = self._arming.shown(draft, self._settle(observed, draft, known, agents))
        taken = [replace(one, status=counted.get((one.agent.kind, one.agent.name))) for one in taken]
        draft.status = replace(draft.status, agents=tuple(counted.values()))
        self._calls.end_release(observed, draft)
        self._calls.told(draft)
        self._arming.told(observed, draft, taken)
        known_calls = [text for one in counted.values() if (text := self._calls.draining(observed, one)) is not None]
        for kind, reason, message in conclude(observed, draft, wanted, taken, left, known_calls):
            self._outcome.event(observed.record, kind, reason, message)
        leaks.tell(observed, draft)

    def _settle(
        self,
        observed: Observed,
        draft: Draft,
        before: Mapping[tuple[AgentKind, str], AgentStatus],
        after: Sequence[AgentStatus],
    ) -> dict[tuple[AgentKind, str], AgentStatus]:
        """Count the calls of pods that have ended, and note the oldest of the others; give back turns that are over."""
        now = {(status.kind, status.name): status for status in after}
        for key in {**before, **now}:
            workload = WorkloadId(key[0].value, observed.name.namespace, key[1])
            self._turns.settle(observed.name, observed.record.store, workload, now.get(key))
            ended = self._calls.count(observed, draft, before[key], now.get(key)) if key in before else NOTHING
            if key in now:
                now[key] = rotation.tallied(now[key], ended)
        return {key: replace(status, oldest_call_time=self._calls.oldest(status)) for key, status in now.items()}

    async def _take(self, case: Case, status: AgentStatus | None) -> Taken:
        token = status.drain_token if status is not None else None
        if status is not None and status.digest is None:
            status = None  # a workload that was only expected
        recorded = replace(self._recorded(case, status), drain_token=token)
        warn(case)
        self._arming.warn(case, recorded)
        workload, name = case.workload, case.observed.name
        current = recorded.digest == case.wanted.digest
        settled = current and recorded.patched_time is recorded.diverged_time is None and not recorded.old_pods
        # Taken in after a change of the key: what its pods have, their age tells.
        late = status is None and case.draft.status.rotation is not None and not recorded.trigger
        remade = records.is_remade(status, workload, case.wanted.digest)
        # A template with a trigger has had a restart: a status that was lost must not lose the pods of before it.
        if settled and not (status is None and recorded.trigger) and not (late or remade):
            self._leftovers.rest(workload.id, name)
            self._calls.rest(case)
            recorded = await self._arming.at_rest(case, recorded)
            self._arming.propose(case, recorded)
            resting = replace(recorded, desired=workload.replicas, current=workload.replicas, draining=None)
            return Taken(case.agent, misused(case), resting)
        seen = self._leftovers.seen(workload.id, workload.selector, name, case.draft, recorded.old_pods)
        mine = case.mine(seen, recorded)
        if (remade and case.older(mine)) or (late and case.born_before(mine)):
            recorded = records.doubted(recorded)
        if recorded.patched_time is not None and (resumed(case, recorded, mine) or calls_hold(case, recorded, mine)):
            recorded = replace(recorded, patched_time=case.observed.now.replace(microsecond=0))
        if recorded.strips and not current and not case.older(mine):
            # Whatever the template says, every pod that is left has started with what the Secret holds.
            recorded = records.patched(recorded, recorded.trigger or "", case.wanted.digest)
        if current and case.doubts(recorded.trigger or "", recorded.diverged_time, mine):
            recorded = records.doubted(recorded)
        before = recorded.old_pods
        step, recorded = await self._step(case, recorded, mine)
        await self._watch_calls(case, recorded, mine)
        await self._calls.look_for_failed_hooks(case, (*before, *recorded.old_pods), mine)
        if step.do is Do.NOTHING:
            recorded = await self._arming.look(case, recorded, case.owned(mine))
        case.draft.keep_about(str(workload.id), *PROBED)
        self._arming.propose(case, recorded)
        return Taken(case.agent, step, counted(case, recorded, mine))

    def forget(self, binding: Name) -> None:
        """A binding is gone."""
        self._leftovers.forget(binding)
        self._calls.forget(binding)
        self._arming.forget(binding)
        self._turns.forget(binding)

    def witness(self, observed: Observed, draft: Draft) -> None:
        """See the pods on the old key end, with their calls, and do nothing else: the binding is suspended."""
        self._calls.recorded(observed)
        before = {(status.kind, status.name): status for status in draft.status.agents}
        self._leftovers.witness(observed, draft)
        counted = self._settle(observed, draft, before, draft.status.agents)
        draft.status = replace(draft.status, agents=tuple(counted.values()))
        self._calls.told(draft)

    async def _step(self, case: Case, recorded: AgentStatus, mine: SeenPods) -> tuple[Step, AgentStatus]:
        waiting = recorded.digest != case.wanted.digest
        block = await self._block(case, recorded, mine) if waiting else None
        progress = self._progress(case, recorded, mine)
        step = policy.decide(progress, block)
        if step.do is Do.PATCH:
            due = (case.workload, progress.ready_at, progress.now)
            held = self._siblings.hold(case.observed.name, *due) or self._turn(case, take=False)
            step = held or await self._calls.gate(case, mine) or self._turn(case, take=True) or step
        if waiting and step.do is Do.HOLD:
            await self._calls.foresee(case, mine)
        if step.do is Do.PATCH:
            recorded = await self._intend(case, recorded, mine)
            together = self._siblings.unready(case.observed.name, case.workload, progress.ready_at, progress.now)
            if together is not None:
                return together, recorded
            recorded = await self._patch(case, recorded)
            rolling = Verdict("Rolling", f"{case.workload.id} restarts on the new key")
            return Step(Do.WATCH, rolling, case.observed.now + timedelta(seconds=1)), recorded
        if waiting and recorded.strips:
            return step, case.follow_older(recorded, mine)
        # Until the template is patched, the pods of former changes go on to end.
        recorded = case.follow(recorded, mine, (recorded.trigger or "") if waiting else case.trigger(recorded))
        return step, records.finish(recorded) if step.do is Do.NOTHING else recorded

    async def _watch_calls(self, case: Case, recorded: AgentStatus, mine: SeenPods) -> None:
        """Ask the pods on the old key for their calls, and let one go if a person says so."""
        self._calls.follow(case, recorded, mine)
        await self._calls.release(case, mine)

    def _turn(self, case: Case, *, take: bool) -> Step | None:
        """Hold a restart until there is a turn for its workload; whose pods have a call takes none from others."""
        store, record = case.observed.store, case.observed.record
        limit = store.rollout.max_workloads if store is not None and store.rollout is not None else None
        return self._turns.hold(record.name, record.store, case.workload.id, limit, case.observed.now, take=take)

    def _recorded(self, case: Case, status: AgentStatus | None) -> AgentStatus:
        """What is known of an agent, reconciled with what its workload carries now."""
        observed, wanted, workload = case.observed, case.wanted, case.workload
        baseline = case.draft.baseline or wanted.digest
        if status is None:
            # Decided once: the Secret, by whose stamp it is, is written before the pods are listed.
            told = UNKNOWN_DIGEST if case.tells_of_another_key(baseline) else baseline
            baseline = self._first_sight.setdefault((observed.record.uid, workload.uid), told)
        else:
            self._first_sight.pop((observed.record.uid, workload.uid), None)
        recorded = records.adopt(case.agent, status, workload, case.annotation, baseline)
        if status is None or status.uid != workload.uid:
            return recorded
        edited = recorded.trigger not in {status.trigger, status.intended_trigger}
        if edited and status.digest == wanted.digest != recorded.digest:
            removed = policy.trigger_removed(workload, case.annotation)
            self._outcome.event(observed.record, "Warning", "TriggerRemoved", removed)
            return records.stripped(status, recorded)
        if status.patched_time is not None:
            return recorded
        if recorded.digest == wanted.digest and recorded.trigger != status.trigger:
            # The template was patched together with another binding's, without our intent.
            begun = records.begin(status, recorded.trigger or "", observed.now.replace(microsecond=0))
            return records.patched(begun, recorded.trigger or "", wanted.digest)
        return recorded

    def _progress(self, case: Case, recorded: AgentStatus, mine: SeenPods) -> policy.Progress:
        observed, trigger = case.observed, case.trigger(recorded)
        change, leak = case.draft.status.rotation, case.draft.status.emergency
        owned = case.owned(mine)
        old = [pod for pod in owned if on_old_key.is_old(pod, case.annotation, trigger)]
        new = case.of_template(owned, trigger)
        since = records.progressed(recorded, new)
        if since is not None:
            settled = case.workload.settled
            steps = {(pod.uid, str(pod.ready)) for pod in new} | {("patched", str(recorded.patched_time))}
            watched = self._stopwatch.look(observed.name, case.workload.id, since, steps, counts=settled)
            since = observed.now - watched
            case.draft.wake_in(LOOK_SECONDS, observed.now)
        others = self._siblings.restarts(observed.name, case.workload)
        return policy.Progress(
            status=recorded,
            workload=case.workload,
            desired=case.wanted.digest,
            ready_at=case.ready_at(),
            settings=observed.spec.rollout,
            spent=records.spent(records.restarted(recorded), observed.now, others),
            old_serving=sum(1 for pod in old if pod.serving),
            troubled=[pod for pod in new if pod.trouble and not pod.ready],
            rolling_back=bool(case.wanted.refused),
            now=observed.now,
            since=since,
            annotation=case.annotation,
            along=self._siblings.along(observed.name, case.workload, recorded.restarts[-1:]),
            way_back=leak is None and (change is None or change.from_version != change.to_version),
            leaked=rotation.is_urgent(case.draft.status),
        )

    async def _block(self, case: Case, recorded: AgentStatus, mine: SeenPods) -> Verdict | None:
        secret = case.observed.record.secret.name
        if case.wanted.refused:
            return preflight.block(case.workload, secret, None)
        frozen = frozen_block(case.draft)
        if frozen is not None and not rotation.is_urgent(case.draft.status):
            return frozen
        quotas = await self._gatherer.quotas(case.observed.name.namespace)
        workload, drains = self._arming.armed(case, recorded), case.agent.drain is not None
        return preflight.block(workload, secret, quotas, case.surplus(recorded, mine), drains=drains)

    async def _intend(self, case: Case, recorded: AgentStatus, mine: SeenPods) -> AgentStatus:
        """Record the intent to patch: who is on the old key, the way back."""
        observed, draft = case.observed, case.draft
        now, trigger = observed.now.replace(microsecond=0), case.next_trigger(recorded, mine)
        begun = records.begin(recorded, trigger, now)
        if case.wanted.refused:  # a way back keeps what it goes back to, and costs no restart of the budget
            begun = replace(recorded, patched_time=now, intended_trigger=trigger)
        begun = case.follow(begun, mine, trigger)
        others = [agent for agent in draft.status.agents if (agent.kind, agent.name) != (begun.kind, begun.name)]
        draft.status = rotation.counted(replace(draft.status, agents=(*others, begun)))
        await self._outcome.write(observed.record, draft.status)
        return begun

    async def _patch(self, case: Case, begun: AgentStatus) -> AgentStatus:
        """Patch the template, together with the other bindings whose intent is recorded."""
        observed, workload, trigger = case.observed, case.workload, begun.intended_trigger or ""
        triggers = {case.annotation: trigger or None, **self._siblings.triggers(observed.name, workload, observed.now)}
        await self._annotate(case, begun, triggers)
        self._outcome.event(observed.record, "Normal", "RolloutStarted", f"{workload.id} restarts on the new key")
        return records.patched(begun, trigger, case.wanted.digest)

    async def _annotate(self, case: Case, begun: AgentStatus, triggers: Mapping[str, str | None]) -> None:
        """Patch a template; its controller writes status all the time, and while the spec is the same that is fine."""
        workload, spec = case.workload, case.workload.spec_part
        for pause in (*CONFLICT_PAUSES, None):
            try:
                await self._arming.patch(case, begun, workload, triggers)
            except ApiConflict:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
                again = await self._gatherer.workload(workload.id)
                if again is None or again.spec_part != spec:
                    raise
                workload = again
            else:
                return


def _rekeyed(observed: Observed, draft: Draft, wanted: Wanted) -> BindingStatus:
    before = observed.status.secret.digest if observed.status.secret else None
    baseline = draft.baseline or wanted.digest
    agents = tuple(records.rekeyed(agent, before, baseline) for agent in draft.status.agents)
    return replace(draft.status, agents=agents)
