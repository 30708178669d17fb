"""Overlays as the pages have them, written where kubectl can render them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import yaml

from tests.deploy.manifests import ROOT, Object
from tests.docs.markdown import blocks

if TYPE_CHECKING:
    from pathlib import Path


def of_the_page(page: Path) -> Object:
    """The first overlay that a page shows: what else it has is for special cases."""
    text = next(each.text for each in blocks(page) if each.language == "yaml")
    made: Object = yaml.safe_load(text)
    return made


def write(folder: Path, overlay: Object) -> Path:
    """Write an overlay whose paths lead from `my-cluster/` in a clone to this working tree; return the folder."""
    up = os.path.relpath(ROOT, folder.resolve())
    made = dict(overlay)
    for section in {"resources", "components"} & set(overlay):
        made[section] = [re.sub(r"^\.\.", up, each) for each in overlay[section]]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return folder
