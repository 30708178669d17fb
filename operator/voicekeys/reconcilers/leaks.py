"""A person says that the key in use has leaked: acted on once, and told until the next key has reached every pod."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.api.status import Handled
from voicekeys.policies import leaks as policy
from voicekeys.policies.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicekeys.reconcilers.gather import Observed
    from voicekeys.reconcilers.outcome import Draft, Outcome


def obey(observed: Observed, draft: Draft, outcome: Outcome) -> None:
    """Act once on the leaked annotation, which may be given again, or taken back, by taking it off.

    Before any key is known there is none that could have leaked: the word then counts for the first one.
    """
    asked, status = observed.record.orders.leaked, draft.status
    handled = status.handled or Handled()
    if asked and asked != handled.leaked and status.key is not None:
        draft.status = policy.said(replace(status, handled=replace(handled, leaked=asked)), observed.now)
    elif not asked:
        if handled.leaked:
            draft.status = replace(status, handled=replace(handled, leaked=None))
        draft.status = policy.withdrawn(draft.status)
        if draft.status.emergency is not status.emergency:
            outcome.event(observed.record, "Warning", "LeakWithdrawn", "the key is no longer said to have leaked")
    tell(observed, draft)


def is_new(observed: Observed, draft: Draft) -> bool:
    """Whether a leak was said since the last look."""
    noted, before = draft.status.handled or Handled(), observed.status.handled or Handled()
    return noted.leaked not in {None, before.leaked}


def is_pending(observed: Observed) -> bool:
    """Whether a leak was said that nobody has acted on."""
    handled = observed.status.handled or Handled()
    return observed.record.orders.leaked not in {"", handled.leaked}


def tell(observed: Observed, draft: Draft) -> None:
    """Note where a leaked key stands, with what its restarts may cut."""
    unarmed = list(_unarmed(observed, draft))
    verdict = policy.verdict(draft.status, observed.spec.source.path, unarmed, list(draft.may_cut.values()))
    if verdict is not None:
        draft.true(Is.KEY_LEAKED, *verdict)
    else:
        draft.findings.pop(Is.KEY_LEAKED, None)


def _unarmed(observed: Observed, draft: Draft) -> Iterator[str]:
    known = {(status.kind, status.name): status for status in draft.status.agents}
    for agent in observed.spec.agents:
        workload, status = observed.workload_id(agent), known.get((agent.kind, agent.name))
        if agent.drain is None:
            yield f"{workload}, which has no drain"
        elif status is None or status.unarmed is None:
            yield f"{workload}, whose pods were not counted yet"
        elif status.unarmed:
            yield f"{workload}, which has {count(status.unarmed, 'pod')} without a drain hook"
