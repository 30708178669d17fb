"""Where the lab's binaries come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.processes import LabError


def find_binaries(names: Sequence[str]) -> Mapping[str, Path]:
    """Return the paths of binaries by name."""
    folder = os.environ.get("VOICEKEYS_LAB_BIN")
    if not folder:
        raise LabError("set VOICEKEYS_LAB_BIN to a folder with the lab's binaries")
    return {name: Path(folder) / name for name in names}
