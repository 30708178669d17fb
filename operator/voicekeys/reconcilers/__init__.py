"""Orchestration: gather, decide, act, one outcome. The only layer that logs, emits events and measures."""
