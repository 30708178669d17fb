"""How many examples hypothesis makes, and no deadline for each: a busy machine is no fault of the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("calm", deadline=None)
settings.register_profile("few", max_examples=5, deadline=None, database=None, derandomize=True)
settings.load_profile("calm")
