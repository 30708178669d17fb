"""One agent in the middle of a key change, for the tests of the rollout's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests import gen
from voicekeys.api.binding import Rollout
from voicekeys.model.verdict import Verdict
from voicekeys.policies.rollout import Progress

if TYPE_CHECKING:
    from datetime import datetime

    from voicekeys.api.status import AgentStatus

SETTINGS = Rollout()
BLOCK = Verdict("SecretNotUsed", "add a secretKeyRef")
ADOPTED = gen.agent_status()
PATCHED = gen.agent_status(
    trigger="d2", digest="d2", previous_trigger="", previous_digest="d1", patched_time=gen.NOW, restarts=(gen.NOW,)
)


def progress(status: AgentStatus = ADOPTED, **fields: Any) -> Progress:
    """An adopted, healthy Deployment that is to have the digest ``d2``, which every node can read by now."""
    base: dict[str, Any] = {
        "workload": gen.deployment(),
        "desired": "d2",
        "ready_at": gen.NOW,
        "settings": SETTINGS,
        "spent": [],
        "old_serving": 3,
        "troubled": [],
        "rolling_back": False,
        "now": gen.NOW,
    }
    return Progress(status=status, **(base | fields))


def restarts(*minutes: float) -> list[datetime]:
    return [gen.at(-60 * ago) for ago in minutes]
