"""A key that has leaked: which one it is, and what is told of the change that takes it out of use.

The invariant: from the word of a person until the next key has reached every pod, nothing that guards calls holds that
key up, what it may cut is told before, and the leaked key is not put back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from voicekeys.api import names
from voicekeys.api.status import Emergency, Phase
from voicekeys.model.verdict import Verdict
from voicekeys.policies import rotation
from voicekeys.policies.drain import live_text
from voicekeys.policies.words import count, do, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from voicekeys.api.status import BindingStatus, HistoryEntry
    from voicekeys.policies.sights import Sight


def said(status: BindingStatus, now: datetime) -> BindingStatus:
    """Begin the emergency of the key in use, and try a refused key again: nothing else can replace it.

    ::

        no change in flight        the key in the Secret has leaked; the next one answers it
        a change in flight         the key that it replaces has leaked; the change answers it
        said again in Draining     every pod that takes calls has the new key, so that this one is meant now

    Args:
        status: as it is; without a key nothing has leaked.
        now: wall time.
    """
    before, change = status.emergency, status.rotation
    if status.key is None:
        return status
    key, version = status.key, status.key.version
    if change is not None and change.phase not in rotation.AT_REST:
        again = before is not None and change.phase is Phase.DRAINING
        version = change.to_version if again else change.from_version
    if before is None or before.version != version:
        leak = Emergency(now.replace(microsecond=0), version)
        if key.version == version:
            leak = replace(leak, created_time=key.created_time, fingerprint=key.fingerprint)
        status = replace(status, emergency=leak)
    return rotation.retried(status, now)


def withdrawn(status: BindingStatus) -> BindingStatus:
    """Take the word back, as long as no change answers it: a leaked key that is being replaced is replaced."""
    return status if rotation.is_urgent(status) else replace(status, emergency=None)


def may_cut(workload: str, bare: Mapping[str, Sight], broken: Verdict | None, silent: Sequence[str] = ()) -> str:
    """Say what the restart of a workload may cut.

    Args:
        workload: kind and name.
        bare: its pods that nothing protects, with what each says of its calls, by its name.
        broken: why the hooks of others would not work; None where they do.
        silent: pods with a hook that do not answer: their kubelet may reach them all the same.
    """
    if not bare and broken is None and not silent:
        return f"{workload} restarts because of the leak: each of its pods is to let its calls end before it does"
    told = [broken.message] if broken is not None else []
    if silent and broken is None:
        told.append(f"whether the hook of {listed(silent)} works, and how many calls wait for it, is not known")
    if bare:
        busy = {pod: sight for pod, sight in bare.items() if not sight.none_live}
        hooks = f"{count(len(bare), 'pod')} of it {do(len(bare), 'have')} no drain hook, or no grace for it"
        told.insert(0, f"{hooks}: {live_text(busy)}")
    return f"{workload} restarts because of the leak whatever calls that cuts: {'; '.join(told)}"


def verdict(status: BindingStatus, path: str, unarmed: Sequence[str], cuts: Sequence[str]) -> Verdict | None:
    """Say where a leaked key stands, and what to do; None where none has leaked.

    Args:
        status: of the binding.
        path: of the key in Vault.
        unarmed: a phrase for each workload that has pods without a drain hook.
        cuts: what the restarts that are still to come may cut, by `may_cut`.
    """
    leak, change = status.emergency, status.rotation
    if leak is None:
        return None
    if change is None or not rotation.is_urgent(status):
        guess = f". It may cut calls of {', '.join(unarmed)}; how many, is told before the restart" if unarmed else ""
        return Verdict(
            "NewKeyAwaited",
            f"version {leak.version} of the key is said to have leaked: put a new one into Vault at {path}, and it "
            f"goes to every pod whatever calls that cuts; if it was said in error, take {names.LEAKED_ANNOTATION} off"
            f"{guess}",
        )
    told = "".join(f". {text}" for text in cuts)
    return Verdict(
        "NewKeyOnItsWay",
        f"version {leak.version} of the key has leaked: version {change.to_version} goes to every pod whatever calls "
        f"that cuts, and there is no way back. Delete version {leak.version} at its provider when CallsDrained is "
        f"True, or now, at the price of the calls that still use it{told}",
    )


def over_text(leak: Emergency, entry: HistoryEntry, *, agents: bool) -> str:
    """Say that a leaked key is out of use, and what that cut.

    Args:
        leak: the key.
        entry: of the change that took it out.
        agents: whether the binding names workloads: nobody looks at pods of others.
    """
    leaked = f"version {leak.version} of the key, which leaked, is in no"
    if not agents:
        return f"{leaked} Secret any more. Which pods use it still, nobody has looked: spec.agents names none"
    text = f"{leaked} pod any more: delete it at its provider, and take {names.LEAKED_ANNOTATION} off"
    if entry.forced:
        text += f"; {count(entry.forced, 'call')} {'was' if entry.forced == 1 else 'were'} cut"
    if entry.unwitnessed:
        text += f"; {count(entry.unwitnessed, 'pod')} ended without anyone having seen it"
    return text
