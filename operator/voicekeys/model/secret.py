"""Secrets of ours as the engine remembers them: metadata and one keyed digest a value, never a value."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from voicekeys.api.names import DIGEST_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicekeys.model.digest import Digester


@dataclass(frozen=True, slots=True)
class SecretView:
    """A Secret with its values replaced by keyed digests.

    Args:
        uid: the Secret's UID.
        type: ``Opaque`` or another Secret type.
        labels: all its labels.
        annotations: all its annotations, but for the one in which kubectl keeps a copy of the data.
        owners: UIDs of its owner references.
        digests: Secret key to the keyed digest of its value.
    """

    uid: str
    type: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[str, ...]
    digests: Mapping[str, str]

    @property
    def stamp(self) -> str | None:
        """Digest of the data that voicekeys wrote, as it wrote it beside them; None where it wrote none."""
        return self.annotations.get(DIGEST_ANNOTATION)


class SecretRecord:
    """A `SecretView` packed to some 350 bytes: 10,000 of them are kept.

    Args:
        view: what to remember.
        resource_version: of the API server, to tell our own echo from another's edit.
    """

    __slots__ = ("packed", "resource_version")

    def __init__(self, view: SecretView, resource_version: int) -> None:
        content = [view.uid, view.type, view.labels, view.annotations, view.owners, view.digests]
        self.packed = zlib.compress(orjson.dumps(content), 1)
        self.resource_version = resource_version

    def view(self) -> SecretView:
        """Unpack."""
        uid, kind, labels, annotations, owners, digests = orjson.loads(zlib.decompress(self.packed))
        return SecretView(uid, kind, labels, annotations, tuple(owners), digests)

    def same_as(self, other: SecretRecord | None) -> bool:
        """Whether nothing that we look at differs."""
        return other is not None and self.packed == other.packed


_KUBECTL_COPY = "kubectl.kubernetes.io/last-applied-configuration"


def parse_secret(raw: Mapping[str, Any], digester: Digester) -> SecretRecord:
    """Digest a Secret of the API server; its values are dropped here."""
    metadata = raw["metadata"]
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _KUBECTL_COPY}
    view = SecretView(
        uid=metadata["uid"],
        type=raw.get("type", "Opaque"),
        labels=metadata.get("labels") or {},
        annotations=annotations,
        owners=tuple(owner["uid"] for owner in metadata.get("ownerReferences") or []),
        digests={key: digester.of_value(base64.b64decode(value)) for key, value in (raw.get("data") or {}).items()},
    )
    return SecretRecord(view, int(metadata["resourceVersion"]))
