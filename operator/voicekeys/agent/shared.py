"""The process's one `Agent`, whose methods are the functions of `voicekeys.agent`."""

from __future__ import annotations

from voicekeys.agent.agent import Agent

AGENT = Agent()

call = AGENT.call
active = AGENT.active
is_taking_calls = AGENT.is_taking_calls
on_deadline = AGENT.on_deadline
serve = AGENT.serve
guard = AGENT.guard
close = AGENT.close
