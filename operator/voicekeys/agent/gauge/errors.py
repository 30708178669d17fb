"""Why the number of live calls is not known: one word, for ``/calls`` and the log, with nothing that the agent sent."""

from __future__ import annotations

UNREAD = "unread"
"""Not read yet."""
SETTINGS = "settings"
"""The sidecar's own settings are wrong: its log says which."""
REFUSED = "refused"
"""Nothing listens on the agent's port. It may still have calls."""
UNREACHABLE = "unreachable"
TIMEOUT = "timeout"
CUT = "cut"
"""The connection ended before the answer did."""
TLS = "tls"
UNAUTHORIZED = "unauthorized"
"""401 or 403."""
TOO_LARGE = "too-large"
MALFORMED = "malformed"
"""No HTTP, no JSON, no Prometheus text."""
ABSENT = "absent"
"""A proper answer, in which the number is not."""
NOT_A_NUMBER = "not-a-number"
"""It is there, and is negative, not finite, or something else."""
SLOW = "slow"
"""The agent has not answered yet, and the last number is too old."""


class Unread(Exception):
    """The number could not be read.

    Args:
        word: why, one of this module's.
    """

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def status(code: int) -> str:
    """The word for an answer that is not 200. A redirect is one: it is not followed, for it leads out of the pod."""
    return UNAUTHORIZED if code in {401, 403} else f"status-{code}"
