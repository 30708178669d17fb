"""The Secret that a binding wants, what differs from it, and whose it is."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from tests import gen
from voicekeys.model.identity import Name
from voicekeys.model.secret import SecretView
from voicekeys.model.verdict import Verdict
from voicekeys.policies import secret as policy
from voicekeys.policies.secret import Claim, Stamp

BINDING = Name("voice", "frejun")
STAMP = Stamp(7, gen.NOW, "d7")
LABELS = {"app.kubernetes.io/managed-by": "voicekeys", "voicekeys.dev/binding": "frejun"}
ANNOTATIONS = {
    "voicekeys.dev/key-version": "7",
    "voicekeys.dev/key-created": "2026-03-01T12:00:00Z",
    "voicekeys.dev/digest": "d7",
}
OWNER = {"apiVersion": "voicekeys.dev/v1alpha1", "kind": "VoiceKeyBinding", "name": "frejun", "uid": "u-1"}
DIGESTS = {"KEY": "v7"}


def wanted(**target: Any) -> dict[str, Any]:
    return policy.metadata(BINDING, "u-1", gen.target(**target), STAMP)


METADATA = {
    "named after the binding": ({}, {"name": "frejun", "labels": LABELS, "annotations": ANNOTATIONS}),
    "with a name of its own": ({"secretName": "s"}, {"name": "s", "labels": LABELS, "annotations": ANNOTATIONS}),
    "with the user's labels and annotations": (
        {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        {"name": "frejun", "labels": LABELS | {"team": "a"}, "annotations": ANNOTATIONS | {"note": "b"}},
    ),
    "ours win over the user's": (
        {"labels": {"voicekeys.dev/binding": "x"}, "annotations": {"voicekeys.dev/digest": "x"}},
        {"name": "frejun", "labels": LABELS, "annotations": ANNOTATIONS},
    ),
    "deleted with the binding": (
        {"deletionPolicy": "Delete"},
        {"name": "frejun", "labels": LABELS, "annotations": ANNOTATIONS, "ownerReferences": [OWNER]},
    ),
}


@pytest.mark.parametrize(("target", "expected"), METADATA.values(), ids=METADATA)
def test_metadata(target: dict[str, Any], expected: dict[str, Any]) -> None:
    assert wanted(**target) == {"namespace": "voice"} | expected


def test_the_manifest() -> None:
    data = gen.payload(KEY=b"\x00\xff")
    made = policy.manifest(wanted(), "Opaque", data, "")
    assert made == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": wanted(),
        "type": "Opaque",
        "data": {"KEY": base64.b64encode(b"\x00\xff").decode()},
    }
    assert policy.manifest(wanted(), "Opaque", data, "u-9")["metadata"] == wanted() | {"uid": "u-9"}


IN_PLACE = SecretView("u-9", "Opaque", LABELS, ANNOTATIONS, (), DIGESTS)
PAYLOAD = Verdict("PayloadDiffers", "the Secret's data differs from the key")
DIFFERENCES = {
    "none": (IN_PLACE, {}, None),
    "keys, labels and annotations of others are theirs": (
        replace(
            IN_PLACE,
            digests=DIGESTS | {"OTHER": "x"},
            labels=LABELS | {"x": "y"},
            annotations=ANNOTATIONS | {"x": "y"},
            owners=("u-other",),
        ),
        {},
        None,
    ),
    "deleted": (None, {}, Verdict("SecretMissing", "the Secret does not exist")),
    "another value": (replace(IN_PLACE, digests={"KEY": "x"}), {}, PAYLOAD),
    "a key is missing": (replace(IN_PLACE, digests={}), {}, PAYLOAD),
    "our label was changed": (
        replace(IN_PLACE, labels=LABELS | {"voicekeys.dev/binding": "x"}),
        {},
        Verdict("MetadataDiffers", "the Secret's labels differ from the binding"),
    ),
    "the user's label is missing": (
        IN_PLACE,
        {"labels": {"team": "a"}},
        Verdict("MetadataDiffers", "the Secret's labels differ from the binding"),
    ),
    "a field was dropped, so that the digest is another": (
        replace(IN_PLACE, annotations=ANNOTATIONS | {"voicekeys.dev/digest": "d6"}),
        {},
        Verdict("MetadataDiffers", "the Secret's annotations differ from the binding"),
    ),
    "not ours to delete yet": (
        IN_PLACE,
        {"deletionPolicy": "Delete"},
        Verdict("MetadataDiffers", "the Secret's owner differs from the binding"),
    ),
    "owned by the binding": (replace(IN_PLACE, owners=("u-1",)), {"deletionPolicy": "Delete"}, None),
}


@pytest.mark.parametrize(("view", "target", "verdict"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_difference(view: SecretView | None, target: dict[str, Any], verdict: Verdict | None) -> None:
    assert policy.difference(view, wanted(**target), DIGESTS) == verdict


OURS = {
    "made by us": (IN_PLACE, True),
    "none": (None, False),
    "without our label": (replace(IN_PLACE, labels={}), False),
    "managed by Helm": (replace(IN_PLACE, labels={"app.kubernetes.io/managed-by": "Helm"}), False),
}


@pytest.mark.parametrize(("view", "ours"), OURS.values(), ids=OURS)
def test_whose_secret_it_is(view: SecretView | None, ours: bool) -> None:  # noqa: FBT001
    assert policy.is_ours(view) is ours


def test_a_foreign_secret_says_how_to_take_it_over() -> None:
    assert policy.not_ours("s", "frejun") == Verdict(
        "SecretExists",
        "Secret s exists and was not made by voicekeys: choose another spec.target.secretName, delete the Secret, or "
        "take it over with spec.target.adopt: true and the label voicekeys.dev/adopt=frejun on it",
    )


def test_a_secret_s_type() -> None:
    assert policy.type_differs("s", "Opaque", "Opaque") is None
    assert policy.type_differs("s", "Opaque", "kubernetes.io/tls") == Verdict(
        "SecretTypeDiffers",
        "Secret s has type Opaque, spec.target.type wants kubernetes.io/tls, and Kubernetes lets no Secret change its "
        "type: choose another spec.target.secretName, or delete the Secret",
    )


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
CLAIMS = {
    "alone": (Claim(NEW, "b"), [], None),
    "the oldest": (Claim(OLD, "b"), [Claim(NEW, "a")], None),
    "of the same second, the first by name": (Claim(OLD, "a"), [Claim(OLD, "b")], None),
    "younger": (Claim(NEW, "b"), [Claim(NEW, "c"), Claim(OLD, "a")], "a"),
    "of the same second, the second by name": (Claim(OLD, "b"), [Claim(OLD, "a")], "a"),
}


@pytest.mark.parametrize(("mine", "rivals", "owner"), CLAIMS.values(), ids=CLAIMS)
def test_the_oldest_binding_owns_the_secret(mine: Claim, rivals: list[Claim], owner: str | None) -> None:
    verdict = owner and Verdict(
        "TargetConflict",
        f"Secret s belongs to the older VoiceKeyBinding {owner}: choose another spec.target.secretName",
    )
    assert policy.conflict("s", mine, rivals) == verdict


def test_exactly_one_of_the_claimants_owns_the_secret() -> None:
    claims = [Claim(when, name) for when in (OLD, NEW) for name in "abc"]
    owners = [mine for mine in claims if policy.conflict("s", mine, [one for one in claims if one is not mine]) is None]
    assert owners == [Claim(OLD, "a")]


MANAGED = {
    "applied by us": ([{"manager": "voicekeys", "operation": "Apply"}], True),
    "applied by us and edited by hand": (
        [{"manager": "kubectl-edit", "operation": "Update"}, {"manager": "voicekeys", "operation": "Apply"}],
        True,
    ),
    "under our name, in another way": ([{"manager": "voicekeys", "operation": "Update"}], False),
    "a binding's own manager, which is that of workloads": (
        [{"manager": "voicekeys.frejun", "operation": "Apply"}],
        False,
    ),
    "nobody is known": (None, False),
}


@pytest.mark.parametrize(("fields", "expected"), MANAGED.values(), ids=MANAGED)
def test_is_written_by_us(fields: list[dict[str, str]] | None, *, expected: bool) -> None:
    assert policy.is_written_by_us({"metadata": {"managedFields": fields}}) is expected


@pytest.mark.parametrize("secret", ["voicekeys-fingerprint-key", "voicekeys-notify-key"])
def test_the_operators_own_secrets_are_reserved(secret: str) -> None:
    verdict = policy.reserved(secret)
    assert verdict is not None
    assert verdict.reason == "SecretReserved"
    assert "spec.target.secretName" in verdict.message


def test_other_names_are_free() -> None:
    assert policy.reserved("frejun-api-key") is None
