"""The Secret that a binding wants, whether the one in place differs, and whose it is."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from voicekeys.api import names
from voicekeys.api.binding import DeletionPolicy
from voicekeys.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from voicekeys.api.binding import Target
    from voicekeys.model.identity import Name
    from voicekeys.model.payload import Payload
    from voicekeys.model.secret import SecretView


class Claim(NamedTuple):
    """A binding's claim on a Secret: the oldest binding owns it, its name decides between equals."""

    created: str  # creationTimestamp, RFC 3339: sorts as text
    name: str


class Stamp(NamedTuple):
    """What is written beside the data, so that a person can tell which key a Secret holds."""

    version: int
    created_time: datetime
    digest: str


def metadata(binding: Name, uid: str, target: Target, stamp: Stamp) -> dict[str, Any]:
    """The Secret's metadata: name, labels, annotations, owner.

    Args:
        binding: the binding's name.
        uid: the binding's UID, for the owner reference of ``deletionPolicy: Delete``.
        target: the binding's target.
        stamp: which key it holds.
    """
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.BINDING_LABEL: binding.name}
    annotations = {
        names.KEY_VERSION_ANNOTATION: str(stamp.version),
        names.KEY_CREATED_ANNOTATION: f"{stamp.created_time:%Y-%m-%dT%H:%M:%SZ}",
        names.DIGEST_ANNOTATION: stamp.digest,
    }
    wanted: dict[str, Any] = {
        "name": target.effective_secret_name(binding.name),
        "namespace": binding.namespace,
        "labels": {**(target.labels or {}), **labels},
        "annotations": {**(target.annotations or {}), **annotations},
    }
    if target.deletion_policy is DeletionPolicy.DELETE:
        owner = {"apiVersion": names.API_VERSION, "kind": names.BINDING_KIND, "name": binding.name, "uid": uid}
        wanted["ownerReferences"] = [owner]
    return wanted


def manifest(wanted: Mapping[str, Any], secret_type: str, data: Payload, uid: str) -> dict[str, Any]:
    """The whole Secret, for server-side apply. It holds the values: hand it to the client, keep no reference.

    Args:
        wanted: see `metadata`.
        secret_type: the Secret's type.
        data: the rendered values.
        uid: UID of the Secret in place, so that one deleted meanwhile is not mistaken for it; empty makes a new one.
    """
    encoded = {key: base64.b64encode(data.reveal(key)).decode() for key in data}
    meta = dict(wanted) | ({"uid": uid} if uid else {})
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": secret_type, "data": encoded}


def is_ours(view: SecretView | None) -> bool:
    """Whether voicekeys made (or was allowed to adopt) this Secret for a binding."""
    ours = view is not None and view.labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
    return ours and view is not None and bool(view.labels.get(names.BINDING_LABEL))


def is_written_by_us(raw: Mapping[str, Any]) -> bool:
    """Whether a Secret of the API server holds fields that we have applied."""
    fields = raw["metadata"].get("managedFields") or ()
    return any(one.get("manager") == names.FIELD_MANAGER and one.get("operation") == "Apply" for one in fields)


def difference(view: SecretView | None, wanted: Mapping[str, Any], digests: Mapping[str, str]) -> Verdict | None:
    """Say how the Secret in place differs from the wanted one; None when it does not.

    Keys, labels and annotations of others in the same Secret are theirs and no difference.

    Args:
        view: the Secret in place.
        wanted: see `metadata`.
        digests: keyed digest of each rendered value.
    """
    if view is None:
        return Verdict("SecretMissing", "the Secret does not exist")
    if any(view.digests.get(key) != digest for key, digest in digests.items()):
        return Verdict("PayloadDiffers", "the Secret's data differs from the key")
    for field, present in (("labels", view.labels), ("annotations", view.annotations)):
        if not wanted[field].items() <= present.items():
            return Verdict("MetadataDiffers", f"the Secret's {field} differ from the binding")
    if any(owner["uid"] not in view.owners for owner in wanted.get("ownerReferences", [])):
        return Verdict("MetadataDiffers", "the Secret's owner differs from the binding")
    return None


def reserved(secret: str) -> Verdict | None:
    """The operator's own Secrets are no target, whatever they are labelled."""
    if secret not in {names.FINGERPRINT_SECRET, names.NOTIFY_SECRET}:
        return None
    return Verdict(
        "SecretReserved",
        f"Secret {secret} is a name of the operator's own: choose another spec.target.secretName",
    )


def not_ours(secret: str, binding: str) -> Verdict:
    """The Secret exists and is somebody else's."""
    return Verdict(
        "SecretExists",
        f"Secret {secret} exists and was not made by voicekeys: choose another spec.target.secretName, delete the "
        f"Secret, or take it over with spec.target.adopt: true and the label {names.ADOPT_LABEL}={binding} on it",
    )


def type_differs(secret: str, present: str, wanted: str) -> Verdict | None:
    """The type of a Secret can never change."""
    if present == wanted:
        return None
    return Verdict(
        "SecretTypeDiffers",
        f"Secret {secret} has type {present}, spec.target.type wants {wanted}, and Kubernetes lets no Secret change "
        "its type: choose another spec.target.secretName, or delete the Secret",
    )


def conflict(secret: str, mine: Claim, rivals: Sequence[Claim]) -> Verdict | None:
    """Say that another binding owns the Secret that this one names, too; the oldest owns it."""
    owner = min([mine, *rivals])
    if owner == mine:
        return None
    return Verdict(
        "TargetConflict",
        f"Secret {secret} belongs to the older VoiceKeyBinding {owner.name}: choose another spec.target.secretName",
    )
