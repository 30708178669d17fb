"""What agents import: no call is cut by a key change, and no agent waits longer than its calls.

::

    from voicekeys import agent

    agent.serve()                       # the drain contract, on port 9909
    agent.guard()                       # SIGTERM waits for the last call

    async def on_call(call_id):
        async with agent.call(call_id): # Refused: answer 503 with Retry-After
            ...

Without dependencies; for threads, asyncio and prefork workers. The page ``operator/docs/agent-library.md`` has recipes.
"""

from __future__ import annotations

from voicekeys.agent.agent import Agent
from voicekeys.agent.asgi import CallMiddleware
from voicekeys.agent.call import Call
from voicekeys.agent.core import Settings
from voicekeys.agent.errors import AgentError, PortTaken, Refused, ServeError, Unjoined
from voicekeys.agent.key import Key
from voicekeys.agent.server import Limits
from voicekeys.agent.shared import active, call, close, guard, is_taking_calls, on_deadline, serve
from voicekeys.agent.webhook import (
    TELER,
    TWILIO,
    BadSignature,
    HmacProfile,
    MissingSignature,
    Replayed,
    ReplayWindow,
    Stale,
    TwilioProfile,
    WebhookError,
    verify_webhook,
)

__all__ = [
    "TELER",
    "TWILIO",
    "Agent",
    "AgentError",
    "BadSignature",
    "Call",
    "CallMiddleware",
    "HmacProfile",
    "Key",
    "Limits",
    "MissingSignature",
    "PortTaken",
    "Refused",
    "ReplayWindow",
    "Replayed",
    "ServeError",
    "Settings",
    "Stale",
    "TwilioProfile",
    "Unjoined",
    "WebhookError",
    "active",
    "call",
    "close",
    "guard",
    "is_taking_calls",
    "on_deadline",
    "serve",
    "verify_webhook",
]
