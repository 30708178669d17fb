"""The images that pods of real nodes are made of: pause, and on a base with Python the operator and the test agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.nodes.oci import Image, write_archive, write_layer
from tests.lab.nodes.settings import PAUSE

if TYPE_CHECKING:
    from pathlib import Path


def pause(binary: Path, folder: Path) -> Path:
    """Write the image of a pod's sandbox, one static binary, and return its archive."""
    layer = write_layer({"/pause": binary}, folder / "pause-layer.tar")
    return write_archive(Image(PAUSE, [layer], ["/pause"], user="65535:65535"), folder / "pause.tar")
