"""VoiceKeyStores from a folder instead of the cluster: the namespaced mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from voicekeys.api import names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def stores_in(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Give the VoiceKeyStores of a folder's ``*.yaml``, by their names alone.

    Args:
        folder: where to look; None gives none.

    Raises:
        OSError: a file cannot be read.
        yaml.YAMLError: a file is no YAML.
    """
    for file in sorted(folder.glob("*.y*ml")) if folder else ():
        for raw in yaml.safe_load_all(file.read_text()):
            if raw and raw.get("kind") == names.STORE_KIND:
                yield raw | {"metadata": {"name": raw["metadata"]["name"]}}
