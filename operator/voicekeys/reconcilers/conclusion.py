"""From the steps of a binding's agents to its conditions, its phase, its history, and what to announce."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.status import Outcome as Ended
from voicekeys.api.status import Phase
from voicekeys.model.verdict import Verdict
from voicekeys.policies import leaks, rotation
from voicekeys.policies import pods as on_old_key
from voicekeys.policies.rollout import Do
from voicekeys.policies.rotation import Event
from voicekeys.policies.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicekeys.api.binding import Agent
    from voicekeys.api.status import AgentStatus, OldPod, RotationStatus
    from voicekeys.policies.rollout import Step
    from voicekeys.reconcilers.gather import Observed
    from voicekeys.reconcilers.outcome import Draft
    from voicekeys.reconcilers.way_back import Wanted


@dataclass(frozen=True, slots=True)
class Taken:
    """One agent's step, with the status that goes with it."""

    agent: Agent
    step: Step
    status: AgentStatus | None


def conclude(
    observed: Observed,
    draft: Draft,
    wanted: Wanted,
    taken: Sequence[Taken],
    left: Sequence[AgentStatus],
    calls: Sequence[str] = (),
) -> list[tuple[str, str, str]]:
    """Note conditions, phase and history in the draft.

    Args:
        observed: the binding.
        draft: its status in the making; ``agents`` is set.
        wanted: what its pods should have.
        taken: each agent's step.
        left: what is recorded of agents that the binding names no more, and whose old pods have not ended.
        calls: what is known of the live calls of old pods, a sentence for each workload.

    Returns:
        Events to emit: kind, reason, message.
    """
    for one in taken:
        draft.wake_at(one.step.wake)
    held = [pod for one in (*(one.status for one in taken), *left) if one is not None for pod in one.old_pods]
    events = _move(observed, draft, wanted, taken, len(held))
    open_steps = [one.step for one in taken if one.step.do is not Do.NOTHING]
    worst = next((step for step in open_steps if step.stalls), open_steps[0] if open_steps else None)
    refused = _refusal(observed, wanted, worst) if wanted.refused else None
    if refused is not None:
        draft.stall(refused)
    if worst is not None and worst.verdict is not None:
        (draft.stall if worst.stalls else draft.progress)(worst.verdict)
    if taken:
        _agents(draft, taken, refused or (worst.verdict if worst is not None else None))
    if taken or left:
        waiting = [one.agent for one in taken if one.status is not None and one.status.digest != wanted.digest]
        _calls(draft, waiting, held, calls)
    draft.ready = _ready(observed, wanted, taken)
    return events


def _ready(observed: Observed, wanted: Wanted, taken: Sequence[Taken]) -> Verdict:
    where = f"version {wanted.version} of the key is in Secret {observed.record.secret.name}"
    return Verdict("KeyInPlace", f"{where} and in every pod that takes new calls" if taken else where)


def _agents(draft: Draft, taken: Sequence[Taken], wrong: Verdict | None) -> None:
    if wrong is not None:
        draft.false(Is.AGENTS_CURRENT, *wrong)
        return
    count = f"{len(taken)} workload{'s' if len(taken) > 1 else ''}"
    draft.true(Is.AGENTS_CURRENT, "Current", f"every pod of {count} that takes new calls has the current key")


def witnessed(draft: Draft) -> None:
    """Note whose end was seen while nothing else is done; a restart that is still to come stays what it was."""
    told = next((old for old in draft.status.conditions if old.type == Is.CALLS_DRAINED), None)
    change = draft.status.rotation
    if told is None or change is None or told.reason not in {"Draining", "Unwitnessed"}:
        return
    old = [pod for agent in draft.status.agents for pod in agent.old_pods]
    draft.status = replace(draft.status, rotation=replace(change, pods_on_old_key=len(old)))
    _calls(draft, [], old, ())


def _calls(draft: Draft, held: Sequence[Agent], old: Sequence[OldPod], known: Sequence[str]) -> None:
    vanished = [pod for pod in old if pod.vanished_time is not None]
    named = [pod.name for pod in (vanished or old)]
    names = listed(named)
    for pod in vanished:
        draft.wake_at(on_old_key.release_time(pod))
    if vanished:
        message = (
            f"{len(vanished)} pod(s) on the old key vanished without anyone having seen their end ({names}): look on "
            "their nodes whether a container still runs"
        )
        draft.unknown(Is.CALLS_DRAINED, "Unwitnessed", message)
    elif held:
        workloads = ", ".join(f"{agent.kind} {agent.name}" for agent in held)
        message = f"every pod of {workloads} is on the old key: the restart has not begun"
        draft.false(Is.CALLS_DRAINED, "NotRestarted", message)
    elif old:
        unknown = f"{len(old)} pod(s) on the old key have not ended yet ({names})"
        draft.false(Is.CALLS_DRAINED, "Draining", "; ".join(known) or unknown)
    else:
        draft.true(Is.CALLS_DRAINED, "Drained", "no pod holds an older key")


def _move(
    observed: Observed, draft: Draft, wanted: Wanted, taken: Sequence[Taken], held: int
) -> list[tuple[str, str, str]]:
    """Move the key change through its phases; at the end it goes into the history."""
    change = draft.status.rotation
    if change is None or change.phase in rotation.AT_REST:
        return []
    phase = _advanced(change.phase, taken, held, wanted)
    counted = None if phase is Phase.STAGED else held  # before the restart every pod is on the old key
    if change.phase is Phase.ROLLING_BACK and phase is not change.phase and not wanted.refused:
        # Its pods got ready after all, before the key of before could be read again: nothing is refused.
        change = replace(change, refused_digest=None)
    change = replace(change, phase=phase, pods_on_old_key=counted, pods=max(change.pods or 0, held))
    if any(one.step.do is Do.ROLL_BACK for one in taken) and change.refused_digest != wanted.digest:
        phase = rotation.next_phase(phase, Event.REFUSED)
        change = replace(change, phase=phase, refused_digest=wanted.digest)
        draft.wake_at(observed.now)
    draft.status = replace(draft.status, rotation=change)
    if phase is not Phase.IDLE:
        return []
    outcome = Ended.ROLLED_BACK if wanted.refused else Ended.COMPLETED
    leak = draft.status.emergency
    draft.status = rotation.ended(draft.status, outcome, observed.now)
    entry = draft.status.history[-1]
    announced = [_announced(change, outcome, entry.unwitnessed)]
    if leak is not None and draft.status.emergency is None:
        announced.append(
            ("Normal", "LeakEmergencyOver", leaks.over_text(leak, entry, agents=bool(observed.spec.agents)))
        )
    return announced


def _announced(change: RotationStatus, outcome: Ended, unseen: int) -> tuple[str, str, str]:
    if outcome is Ended.COMPLETED:
        message = f"version {change.to_version} is in use; {change.pods or 0} pods on the old key have ended"
        if unseen:
            message += f", {unseen} of them without anyone having seen it"
        return "Normal", "KeyChanged", message
    message = f"version {change.to_version} was refused, version {change.from_version} is back"
    return "Warning", "RolledBack", message


def _advanced(phase: Phase, taken: Sequence[Taken], held: int, wanted: Wanted) -> Phase:
    """Walk the transition table as far as the agents have come."""
    patched = all(one.status is not None and one.status.digest == wanted.digest for one in taken)
    serving = patched and all(one.step.do is Do.NOTHING for one in taken)
    if phase is Phase.ROLLING_BACK and wanted.refused:
        return rotation.next_phase(phase, Event.RESTORED) if serving else phase
    for event, holds in ((Event.PATCHED, patched), (Event.AVAILABLE, serving), (Event.ENDED, serving and not held)):
        phase = rotation.next_phase(phase, event) if holds else phase
    return phase


def _refusal(observed: Observed, wanted: Wanted, worst: Step | None) -> Verdict:
    """What to say, for as long as Vault holds a key that its pods refused; with it, what holds up the way back."""
    change, before = observed.status.rotation, observed.status.conditions
    told = {Is.STALLED, Is.AGENTS_CURRENT}  # the first may be about another fault meanwhile
    said = next((old for old in before if old.type in told and old.reason == "NewKeyRefused"), None)
    why = said.message.split(". Version")[0] if said else "the new key's pods did not start"
    held = f". The way back is held up: {worst.verdict.message}" if worst and worst.stalls and worst.verdict else ""
    return Verdict(
        "NewKeyRefused",
        f"{why}. Version {wanted.version} is kept in place of version {change.to_version if change else 0}: put a "
        "working key into Vault, or, if the cause was another, annotate the binding with voicekeys.dev/sync-now to try "
        f"the same key again{held}",
    )
