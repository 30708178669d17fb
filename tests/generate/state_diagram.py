"""Writes ``operator/STATES.md`` from the transition table of a key change (``policies/rotation.py``)."""

from __future__ import annotations

from voicekeys.api.status import Phase
from voicekeys.policies.rotation import TRANSITIONS

PAGE = "operator/STATES.md"

_HEAD = """\
# Phases of a key change

Generated from `TRANSITIONS` in `operator/voicekeys/policies/rotation.py` by `hatch run generate`.

`status.rotation.phase` of a VoiceKeyBinding. The table is all there is: an event without an arrow in a phase leaves
the phase as it is.

"""


def render() -> dict[str, str]:
    """Give the generated file's text by its path below the repository's root."""
    return {PAGE: f"{_HEAD}{_diagram()}\n{_table()}{_reserved()}"}


def _diagram() -> str:
    arrows = "".join(f"    {start} --> {end}: {event}\n" for (start, event), end in TRANSITIONS.items())
    return f"```mermaid\nstateDiagram-v2\n    [*] --> {Phase.IDLE}\n{arrows}```\n"


def _table() -> str:
    rows = "".join(f"| {start} | {event} | {end} |\n" for (start, event), end in TRANSITIONS.items())
    return f"| phase | what happens | next phase |\n|---|---|---|\n{rows}"


def _reserved() -> str:
    reached = {Phase.IDLE, *TRANSITIONS.values()}
    names = ", ".join(f"`{phase}`" for phase in Phase if phase not in reached)
    return f"\nIn the API already, but nothing leads there yet: {names}.\n" if names else ""
