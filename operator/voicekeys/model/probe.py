"""What was found out about a pod's drain hook by asking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicekeys.model.calls import CallsReport


@dataclass(frozen=True, slots=True)
class Probe:
    """An answer to a probe.

    Args:
        report: the contract answers with it.
        checks_token: a wrong token was refused.
        takes_token: what the hook sends is let in: else the kubelet's own call is refused, which ends the agent at
            once (facts K2, K4).
    """

    report: CallsReport
    checks_token: bool
    takes_token: bool
