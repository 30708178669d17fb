"""A binding's reconcile as a story: gather, grant access, read, render, place the Secret, move the agents, report."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import structlog

from voicekeys.api import names
from voicekeys.api.conditions import BindingCondition as Is
from voicekeys.model.errors import ApiError, Retryable, Terminal, Waiting
from voicekeys.model.verdict import Verdict
from voicekeys.reconcilers import leaks
from voicekeys.reconcilers.calls import pending_release
from voicekeys.reconcilers.outcome import Draft, Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.model.identity import Name
    from voicekeys.reconcilers.gather import Gatherer, Observed
    from voicekeys.reconcilers.ports import Clock
    from voicekeys.reconcilers.queue import WorkQueue
    from voicekeys.reconcilers.rollout import Rollouts
    from voicekeys.reconcilers.stores import Stores
    from voicekeys.reconcilers.sync import Sync

log = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 60.0
"""What a person mends does not always come as an event: a right that was granted, a foreign Secret that went away."""

_LEARNT_LATER = (
    Is.SECRET_SYNCED,
    Is.SOURCE_REACHABLE,
    Is.AGENTS_CURRENT,
    Is.CALLS_DRAINED,
    Is.KEY_FRESH,
    Is.HOOK_FAILED,
)


class BindingReconciler:
    """Reconciles one binding at a time.

    Args:
        gatherer: reads.
        sync: Vault to Secret.
        rollouts: Secret to pods.
        outcome: the one exit.
        stores: let go of what a deleted binding read.
        clock: time.
        queue: lets the Secrets of other bindings go before this one's status.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        sync: Sync,
        rollouts: Rollouts,
        outcome: Outcome,
        stores: Stores,
        clock: Clock,
        queue: WorkQueue,
    ) -> None:
        self._gatherer = gatherer
        self._sync = sync
        self._rollouts = rollouts
        self._outcome = outcome
        self._stores = stores
        self._clock = clock
        self._queue = queue

    async def reconcile(self, name: Name) -> datetime | None:
        """Bring one binding a step further.

        Returns:
            When to look again although no event came; None for never.

        Raises:
            Retryable: try again with backoff; what is known is in the status already.
            ValueError: the object cannot be used at all.
        """
        observed = self._gatherer.binding(name)
        if observed is None:
            self._stores.release(name)
            self._rollouts.forget(name)
            return None
        draft = Draft(observed)
        again: Retryable | None = None
        try:
            if not await self._steps(observed, draft):
                return None
        except Waiting as waiting:
            if waiting.reason == "Reading":
                return draft.wake  # nothing is known yet, and nothing is said; the poller wakes us
            _fault(observed, draft, waiting)
            draft.progress(Verdict(waiting.reason, waiting.message))
        except Terminal as terminal:
            _fault(observed, draft, terminal)
            draft.stall(Verdict(terminal.reason, terminal.message))
            draft.wake_in(LOOK_AGAIN_SECONDS, observed.now)
        except ApiError as error:
            again = error
            told = Verdict(error.reason, f"{error.message}; wait, it is tried again")
            _fault(observed, draft, told)
            draft.progress(told)
        if await self._outcome.finish(observed.record, draft, self._clock.now()):
            log.info("status written", binding=str(name), **_summary(draft))
        if again is not None:
            raise again
        return draft.wake

    async def _steps(self, observed: Observed, draft: Draft) -> bool:
        """Take them in order; False when the rest of them was put off."""
        self._rollouts.prepare(observed, draft)
        if observed.suspended:
            _suspended(observed, draft)
            self._rollouts.witness(observed, draft)
            return True
        leaks.obey(observed, draft, self._outcome)
        source = None
        try:
            source = self._sync.source(observed, draft)
            wanted = self._sync.wanted(observed, draft, source)
            made = await self._sync.place(observed, draft, wanted)
        except (Terminal, Waiting) as fault:
            if fault.reason != "Reading":
                if isinstance(fault, Terminal):
                    draft.stall(Verdict(fault.reason, fault.message))  # before all that follows from it
                await self._go_on(observed, draft, readable=source is not None)
                draft.false(Is.SECRET_SYNCED, fault.reason, fault.message)
            raise
        # In a rush, as after an installation or a restored cluster, agents wait for Secrets and nobody for a status.
        if made and self._queue.defer(observed.name):
            return False
        await self._rollouts.advance(observed, draft, wanted)
        return True

    async def _go_on(self, observed: Observed, draft: Draft, *, readable: bool) -> None:
        """Take the agents on to the key that the Secret holds, or back from it, though the wanted one cannot be had."""
        with contextlib.suppress(Waiting, Terminal):  # what was raised before is what to say
            wanted = self._sync.way_back.known(observed, draft, readable=readable)
            if wanted is None:
                return
            if wanted.data is not None:
                await self._sync.place(observed, draft, wanted)
            await self._rollouts.advance(observed, draft, wanted)


def _suspended(observed: Observed, draft: Draft) -> None:
    """Say so, and leave all else as it was found last."""
    what = (
        "spec.suspend" if observed.spec.suspend else f"suspend of VoiceKeyStore {observed.spec.source.store_ref.name}"
    )
    message = f"{what} stops every act: nothing is read, written or restarted until it is taken back"
    if asked := pending_release(observed, draft):
        message = f"{message}; to let go {asked}, which {names.RELEASE_ANNOTATION} names, is tried then"
    if leaks.is_pending(observed):
        message = f"{message}; {names.LEAKED_ANNOTATION} is acted on then"
    draft.true(Is.SUSPENDED, "Suspended", message)
    if observed.status.observed_generation != observed.generation and observed.status.secret is not None:
        edited = "the binding was edited since: take the suspend back, and its Secret follows"
        draft.unknown(Is.SECRET_SYNCED, "Suspended", edited)
    draft.keep(*(kind for kind in Is if kind not in {Is.READY, Is.RECONCILING, Is.STALLED, Is.SUSPENDED}))
    was_ready = any(old.type == Is.READY and old.status == "True" for old in observed.status.conditions)
    if was_ready:
        draft.ready = Verdict("Suspended", "suspended; the key that was current then is in place")
    else:
        draft.stall(Verdict("Suspended", message))


def _fault(observed: Observed, draft: Draft, error: Terminal | Waiting | Verdict) -> None:
    """Put an error on the condition of the step that raised it; what later steps would have said stays as it was."""
    if Is.SECRET_SYNCED not in draft.findings:
        draft.false(Is.SECRET_SYNCED, error.reason, error.message)
    elif observed.spec.agents and Is.AGENTS_CURRENT not in draft.findings:
        draft.false(Is.AGENTS_CURRENT, error.reason, error.message)
    draft.keep(*_LEARNT_LATER)


def _summary(draft: Draft) -> dict[str, str]:
    verdict = draft.stalled or draft.progressing or draft.ready
    rotation = draft.status.rotation
    return {"reason": verdict.reason, "phase": rotation.phase.value if rotation else "Idle"}
