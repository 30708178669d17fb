"""The folders of `deploy/` as the real kubectl renders them, and how to find an object among many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab import Lab

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAMESPACED = DEPLOY / "overlays" / "namespaced"
EXAMPLES = DEPLOY / "examples"

Object = dict[str, Any]


def render(lab: Lab, folder: Path) -> list[Object]:
    """Return what `kubectl kustomize` makes of a folder, in the order in which it would be applied."""
    return list(yaml.safe_load_all(lab.kubectl("kustomize", folder)))


def pick(objects: Sequence[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name."""
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
    return found
