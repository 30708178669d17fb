"""Loads the profiles of hypothesis; `--hypothesis-profile=few` is for where only branches are counted."""

from tests.gen import examples

__all__ = ["examples"]
