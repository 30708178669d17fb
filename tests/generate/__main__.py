"""Write every generated file, or with ``--check`` fail where one is stale.

Run as ``hatch run generate``.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tests.generate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


def rendered() -> Iterator[tuple[Path, str]]:
    """Every generated file's path and text: each module of this package that has a ``render``."""
    for module in pkgutil.iter_modules(tests.generate.__path__):
        found = importlib.import_module(f"tests.generate.{module.name}") if module.name != "__main__" else None
        if found is not None and hasattr(found, "render"):
            for path, text in sorted(found.render().items()):
                yield ROOT / path, text


def main(arguments: list[str]) -> int:
    """Write or check; 1 where a checked file is stale."""
    parser = argparse.ArgumentParser(prog="hatch run generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is stale")
    check = parser.parse_args(arguments).check
    stale = 0
    for path, text in rendered():
        name = path.relative_to(ROOT)
        if path.exists() and path.read_text() == text:
            print(f"  current  {name}")
            continue
        stale += 1
        if check:
            print(f"  STALE    {name}: run `hatch run generate` and commit")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"  written  {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
