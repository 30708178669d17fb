"""The key change as a table of transitions; its diagram is generated from here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from voicekeys.api.status import MAX_HISTORY, Frozen, HistoryEntry, Outcome, Phase, RotationStatus
from voicekeys.policies import records

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.api.status import AgentStatus, BindingStatus
    from voicekeys.policies.sights import Ended


class Change(Protocol):
    """What a rotation leads to."""

    @property
    def digest(self) -> str:
        """Keyed digest of the new data."""

    @property
    def version(self) -> int:
        """Vault's version of it."""

    @property
    def refused(self) -> str:
        """The digest that was refused, when this is the way back; else empty."""


class Event(StrEnum):
    """What moves a key change on."""

    KEY_CHANGED = "the key in Vault changed"
    PATCHED = "every workload's template carries the new key"
    AVAILABLE = "new pods serve everywhere"
    ENDED = "every pod on the old key has ended"
    REFUSED = "new pods did not start in time"
    RESTORED = "the previous key is back everywhere"
    FORCED = "a call was cut"
    APPROVED = "a person has looked"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.IDLE, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.IDLE, Event.FORCED): Phase.FROZEN,
    (Phase.STAGED, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.STAGED, Event.PATCHED): Phase.ROLLING,
    (Phase.STAGED, Event.REFUSED): Phase.ROLLING_BACK,
    (Phase.ROLLING, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.ROLLING, Event.AVAILABLE): Phase.DRAINING,
    (Phase.ROLLING, Event.REFUSED): Phase.ROLLING_BACK,
    (Phase.DRAINING, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.DRAINING, Event.ENDED): Phase.IDLE,
    (Phase.ROLLING_BACK, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.ROLLING_BACK, Event.AVAILABLE): Phase.DRAINING,
    (Phase.ROLLING_BACK, Event.RESTORED): Phase.IDLE,
    (Phase.FROZEN, Event.KEY_CHANGED): Phase.STAGED,
    (Phase.FROZEN, Event.APPROVED): Phase.IDLE,
}

MOST = 2**31 - 1
"""What a status can hold: a pod may say any number of its calls."""

AT_REST = frozenset({Phase.IDLE, Phase.FROZEN})
"""No key change is in flight."""


def next_phase(phase: Phase, event: Event) -> Phase:
    """The phase after an event; an event that means nothing in a phase leaves it as it is."""
    return TRANSITIONS.get((phase, event), phase)


def begun(status: BindingStatus, baseline: str, change: Change, now: datetime) -> BindingStatus:
    """Begin a key change, unless it is in flight already or is a way back; note what the Secret takes from the agents.

    Args:
        status: as it is.
        baseline: digest of the data that running pods have.
        change: what is to be.
        now: wall time.
    """
    agents = tuple(records.diverged(agent, change.digest, now) for agent in status.agents)
    return _begun(status if agents == status.agents else replace(status, agents=agents), baseline, change, now)


def _begun(status: BindingStatus, baseline: str, change: Change, now: datetime) -> BindingStatus:
    identity = f"v{change.version}-{change.digest[:8]}"
    current = status.rotation
    before = status.key.version if status.key else change.version
    other = False  # whether a change to another data is in flight
    if current is not None and current.phase not in AT_REST:
        if current.id == identity:
            return status
        other = not current.id.endswith(f"-{change.digest[:8]}")
        # What no pod has served with yet is nothing to go back to.
        before = before if current.phase is Phase.DRAINING else current.from_version
    if change.refused or (baseline == change.digest and not other):
        return status
    if current is not None and current.phase not in AT_REST:
        status = ended(status, Outcome.SUPERSEDED, now)
    phase = next_phase(current.phase if current else Phase.IDLE, Event.KEY_CHANGED)
    new = RotationStatus(identity, phase, before, change.version, now.replace(microsecond=0))
    return replace(_forgiven(status), rotation=new)


def not_ahead(status: BindingStatus, now: datetime) -> BindingStatus:
    """Take times that the clock of a former leader put into the future for now: nothing waits for such a clock."""
    moment = now.replace(microsecond=0) + timedelta(seconds=1)  # the Secret's time is rounded up
    secret, agents = status.secret, status.agents
    if secret is not None and secret.written_time is not None and secret.written_time > moment:
        status = replace(status, secret=replace(secret, written_time=moment))
    if any(one.patched_time is not None and one.patched_time > moment for one in agents):
        status = replace(status, agents=tuple(_patched_by(one, moment) for one in agents))
    return status


def _patched_by(agent: AgentStatus, moment: datetime) -> AgentStatus:
    return replace(agent, patched_time=min(agent.patched_time, moment)) if agent.patched_time is not None else agent


def counted(status: BindingStatus) -> BindingStatus:
    """Note how many pods the change in flight has to wait for, before the first of them ends."""
    change = status.rotation
    if change is None or change.phase in AT_REST:
        return status
    held = sum(len(agent.old_pods) for agent in status.agents)
    return replace(status, rotation=replace(change, pods=max(change.pods or 0, held)))


def forced(status: BindingStatus, calls: int, pod: str, now: datetime) -> BindingStatus:
    """Note that calls were cut; no further restart begins until `approved`.

    Args:
        status: as it is.
        calls: how many, one at least.
        pod: whose end cut them.
        now: wall time.
    """
    before = status.frozen
    since = before.since if before is not None else now.replace(microsecond=0)
    return replace(status, frozen=Frozen(since, min((before.calls if before is not None else 0) + calls, MOST), pod))


def tallied(agent: AgentStatus, ended: Ended) -> AgentStatus:
    """Add the calls of pods that have ended to those of the change in flight."""
    return replace(
        agent,
        completed=_capped((agent.completed or 0) + ended.completed),
        forced=_capped((agent.forced or 0) + ended.forced),
        aborted=_capped((agent.aborted or 0) + ended.aborted),
    )


def _capped(calls: int) -> int | None:
    return min(calls, MOST) or None


def approved(status: BindingStatus) -> BindingStatus:
    """Let restarts begin again."""
    change = status.rotation
    if change is not None:
        change = replace(change, phase=next_phase(change.phase, Event.APPROVED))
    return replace(status, frozen=None, rotation=change)


def retried(status: BindingStatus, now: datetime) -> BindingStatus:
    """Forget that a key was refused, so that it is tried once more, also where the way back is being taken."""
    status, change = _forgiven(status), status.rotation
    if change is None or change.refused_digest is None:
        return status
    if change.phase is not Phase.ROLLING_BACK:
        return replace(status, rotation=replace(change, refused_digest=None))
    agents = tuple(_once_more(one, change.refused_digest, now.replace(microsecond=0)) for one in status.agents)
    phase = next_phase(change.phase, Event.KEY_CHANGED)
    return replace(status, rotation=replace(change, phase=phase, refused_digest=None), agents=agents)


def _forgiven(status: BindingStatus) -> BindingStatus:
    """Forget who took triggers off."""
    if all(one.strips is None for one in status.agents):
        return status
    return replace(status, agents=tuple(replace(one, strips=None) for one in status.agents))


def _once_more(agent: AgentStatus, refused: str, moment: datetime) -> AgentStatus:
    if agent.patched_time is None:
        return agent
    # A container of the refused template that crashed has read the Secret anew, and with it the key of before (K13).
    reread = agent.digest == refused and agent.diverged_time is not None
    return replace(records.doubted(agent) if reread else agent, patched_time=moment)


def is_urgent(status: BindingStatus) -> bool:
    """Whether the change in flight is the one that takes a leaked key out of use."""
    change = status.rotation
    return change is not None and change.phase not in AT_REST and _is_answered(status)


def _is_answered(status: BindingStatus) -> bool:
    """Whether the Secret holds another key than the leaked one, which may be rendered anew, or put a second time."""
    leak, key = status.emergency, status.key
    if leak is None or key is None or key.fingerprint == leak.fingerprint:
        return False
    return key.version != leak.version or leak.created_time not in {None, key.created_time}


def ended(status: BindingStatus, outcome: Outcome, now: datetime) -> BindingStatus:
    """Put the change in flight into the history, of which the last five are kept."""
    change = status.rotation
    if change is None:
        return status
    entry = HistoryEntry(
        id=change.id,
        from_version=change.from_version,
        to_version=change.to_version,
        started_time=change.started_time,
        finished_time=now.replace(microsecond=0),
        outcome=outcome,
        pods=change.pods or 0,
        unwitnessed=sum(agent.unwitnessed or 0 for agent in status.agents),
        completed=_capped(sum(agent.completed or 0 for agent in status.agents)),
        forced=_capped(sum(agent.forced or 0 for agent in status.agents)),
        aborted=_capped(sum(agent.aborted or 0 for agent in status.agents)),
    )
    agents = tuple(
        replace(agent, unwitnessed=None, completed=None, forced=None, aborted=None) for agent in status.agents
    )
    phase = Phase.IDLE if status.frozen is None else next_phase(Phase.IDLE, Event.FORCED)
    rotation = replace(change, phase=phase, pods_on_old_key=None)
    emergency = None if outcome is Outcome.COMPLETED and _is_answered(status) else status.emergency
    history = (*status.history, entry)[-MAX_HISTORY:]
    return replace(status, rotation=rotation, agents=agents, history=history, emergency=emergency)
