"""From findings to kstatus conditions: Ready, Reconciling and Stalled follow from the rest, never contradict it.

The invariants (checked by the tests after every reconcile): Stalled=True excludes Ready=True; so does
Reconciling=True; Stalled and Reconciling are never True together; a condition's time moves only with its status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from voicekeys.api.status import Condition, ConditionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from voicekeys.model.verdict import Verdict

READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
MAX_MESSAGE = 1024  # a condition is read in a terminal; metav1.Condition would take 32768


class Finding(NamedTuple):
    """One condition without its time."""

    status: ConditionStatus
    reason: str
    message: str


def summarise(stalled: Verdict | None, progressing: Verdict | None, ready: Verdict) -> dict[str, Finding]:
    """Ready, Reconciling and Stalled.

    Args:
        stalled: what a person must mend.
        progressing: what is on its way.
        ready: what to say when neither holds.
    """
    if stalled is not None:
        return {
            READY: Finding(ConditionStatus.FALSE, *stalled),
            STALLED: Finding(ConditionStatus.TRUE, *stalled),
        }
    if progressing is not None:
        return {
            READY: Finding(ConditionStatus.FALSE, *progressing),
            RECONCILING: Finding(ConditionStatus.TRUE, *progressing),
        }
    return {READY: Finding(ConditionStatus.TRUE, *ready)}


def merge(
    previous: Sequence[Condition], findings: Mapping[str, Finding], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Make conditions of findings; one that was there with the same status keeps its time.

    Args:
        previous: the conditions as they were last written.
        findings: by condition type; a type that is not in here goes away.
        generation: the object's generation that the findings are about.
        now: wall time, for those that changed.
    """
    before = {condition.type: condition for condition in previous}
    merged = []
    for kind in sorted(findings):
        finding, old = findings[kind], before.get(kind)
        since = old.last_transition_time if old and old.status == finding.status else now.replace(microsecond=0)
        message = finding.message if len(finding.message) <= MAX_MESSAGE else finding.message[: MAX_MESSAGE - 1] + "…"
        merged.append(Condition(kind, finding.status, finding.reason, message, since, generation))
    return tuple(merged)
