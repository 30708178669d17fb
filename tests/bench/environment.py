"""The interpreter that runs the operator: with what its image has, hash for hash, and nothing else.

The environment that runs the benchmark has pytest, rich and pykube as well, and kopf imports whatever it finds: that
costs a start a third of its time, and 4 MiB.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.binaries import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIREMENTS = Path(__file__).parents[2] / "deploy/requirements/operator.txt"


def image_python(say: Callable[[str], None] = print) -> str:
    """Give a Python with the image's packages; it is made once and kept beside the lab's binaries."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = cache_folder("bench")
    ready, unfinished = cache / key, cache / f"{key}.{os.getpid()}"
    if not (ready / "bin/python").exists():
        say("making an environment with what the operator's image has")
        _make(unfinished)
        shutil.rmtree(ready, ignore_errors=True)
        unfinished.rename(ready)
    return str(ready / "bin/python")


def _make(folder: Path) -> None:
    # The constraints of the environment that runs us are not about this one.
    env = {name: value for name, value in os.environ.items() if name not in {"UV_CONSTRAINT", "PYTHONPATH"}}
    uv = [sys.executable, "-m", "uv"]
    install = [
        "pip",
        "install",
        "-q",
        "--python",
        str(folder / "bin/python"),
        "--require-hashes",
        "-r",
        str(REQUIREMENTS),
    ]
    for arguments in (["venv", "-q", "--relocatable", "--python", sys.executable, str(folder)], install):
        subprocess.run([*uv, *arguments], env=env, check=True)
