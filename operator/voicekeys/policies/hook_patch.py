"""What is told of agents whose pods have no drain hook: how to get one, and where the patch for the manifest stands."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from voicekeys.api.names import ARM_ANNOTATION
from voicekeys.api.status import MAX_HOOK_PATCH
from voicekeys.model.verdict import Verdict
from voicekeys.policies.arming import PLACEHOLDER
from voicekeys.policies.conditions import MAX_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    from voicekeys.api.status import AgentStatus
    from voicekeys.model.identity import Name

    Key = TypeVar("Key")

_ROOM: Final = MAX_MESSAGE - len("DrainArmed: ")
"""Bytes of a message that is a condition's and, with the condition before it, an event's."""


def unarmed(who: str, pods: int) -> Verdict:
    """Say that pods have no hook, where the next ones get theirs without anybody's help.

    Args:
        who: kind, namespace and name of the workload.
        pods: how many.
    """
    return Verdict(
        "UnarmedPods",
        f"{_lead(who, pods)}. Roll the workload out once by yourself, when that harms least. Else the next change of "
        f"the key waits until none of them has a live call; set {ARM_ANNOTATION} of the binding to a new value, and it "
        "goes on whatever calls they have",
    )


def to_commit(who: str, pods: int, patch: str, command: str) -> Verdict:
    """Say what the manifest lacks, where the operator must not write it: the command that prints it, and it if it fits.

    Args:
        who: see `unarmed`.
        pods: how many have no hook.
        patch: what to commit.
        command: that prints it.
    """
    if len(patch) > MAX_HOOK_PATCH:
        how = (
            f"What to add to the manifest is too long to be shown ({len(patch)} characters): put a shorter command "
            "into drain.command, such as the name of a script"
        )
        return Verdict("ManifestNeedsHook", f"{_lead(who, pods)}. {how}")
    first = f", with {PLACEHOLDER} in its place" if PLACEHOLDER in patch else ""
    text = f"{_lead(who, pods)}. Add to the manifest what this prints{first}: {command}"
    whole = f"{text} : {patch}"
    return Verdict("ManifestNeedsHook", whole if len(whole.encode()) <= _ROOM else text)


def command(binding: Name, status: AgentStatus, agents: Sequence[AgentStatus]) -> str:
    """Return the command that prints an agent's patch.

    Args:
        binding: whose status has it.
        status: the agent's.
        agents: all that the status has; a Deployment and a StatefulSet of them may have one name.
    """
    alone = Counter(one.name for one in agents)[status.name] <= 1
    which = f'@.name=="{status.name}"' if alone else f'@.uid=="{status.uid}"'
    path = f"{{.status.agents[?({which})].hookPatch}}"
    return f"kubectl get vkb {binding.name} -n {binding.namespace} -o jsonpath='{path}'"


def fitting(patches: Mapping[Key, str]) -> dict[Key, str]:
    """Return those patches, in their order, that a status has room for; the others follow when these are committed."""
    room, shown = MAX_HOOK_PATCH, {}
    for key, patch in patches.items():
        if len(patch) <= room:
            shown[key] = patch
            room -= len(patch)
    return shown


def _lead(who: str, pods: int) -> str:
    return f"{who}, {pods} pod(s): no drain hook, or no grace for it, so that calls are cut when they end"
