"""Image archives without a registry and without a builder: an OCI image layout in a tar file, written here.

The format is the OCI image specification's (image-layout, manifest, config); containerd's `ctr images import` and
buildah read it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image: its full name, its layers (uncompressed tar files, the lowest first) and its process."""

    name: str
    layers: Sequence[Path]
    entrypoint: Sequence[str]
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def write_archive(image: Image, archive: Path) -> Path:
    """Write an image as an OCI archive and return the file, which is whole or not there."""
    unfinished = archive.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w") as tar:
        layers = [_add_layer(tar, layer) for layer in image.layers]
        config = _add_json(tar, CONFIG, _config(image, [layer["digest"] for layer in layers]))
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        manifest = _add_json(tar, MANIFEST, document)
        names = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
        index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}
        _add(tar, "index.json", json.dumps(index).encode())
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    unfinished.replace(archive)
    return archive


def write_layer(files: Mapping[str, Path], layer: Path) -> Path:
    """Write a layer of a few files (path in the image: file here), owned by root, each readable and executable."""
    with tarfile.open(layer, "w") as tar:
        for target, source in sorted(files.items()):
            info = tarfile.TarInfo(target.lstrip("/"))
            info.size, info.mode = source.stat().st_size, 0o755
            with source.open("rb") as content:
                tar.addfile(info, content)
    return layer


def _config(image: Image, diff_ids: Sequence[str]) -> dict[str, Any]:
    machine = platform.machine()
    process = {"Entrypoint": list(image.entrypoint), "Env": [f"{key}={value}" for key, value in image.env.items()]}
    return {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": process | ({"User": image.user} if image.user else {}),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        # One a layer, or buildah refuses to build upon it.
        "history": [{"created_by": "voicekeys lab"} for _ in diff_ids],
    }


def _add_layer(tar: tarfile.TarFile, layer: Path) -> dict[str, Any]:
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        name = f"blobs/sha256/{digest}"
        if name not in tar.getnames():
            file.seek(0)
            _add_file(tar, name, size, file)
    return {"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size}


def _add_json(tar: tarfile.TarFile, kind: str, document: Any) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    _add(tar, f"blobs/sha256/{digest}", data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_file(tar, name, len(data), io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, content)
