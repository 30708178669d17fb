"""Secrets as the engine remembers them: metadata and digests, never a value."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import pytest

from tests import gen
from voicekeys.model.secret import SecretRecord, SecretView, parse_secret

VIEW = SecretView("u-1", "Opaque", {"team": "a"}, {"note": "b"}, ("u-owner",), {"KEY": "d"})
CANARY = base64.b64encode(gen.CANARY.encode()).decode()


def raw(*modifiers: gen.Modifier) -> gen.Object:
    base = {
        "metadata": {
            "uid": "u-1",
            "resourceVersion": "42",
            "labels": {"team": "a"},
            "annotations": {"note": "b"},
            "ownerReferences": [{"uid": "u-owner"}],
        },
        "type": "kubernetes.io/tls",
        "data": {"KEY": CANARY},
    }
    return gen.build(base, *modifiers)


DIGESTS = {"KEY": gen.DIGESTER.of_value(gen.CANARY.encode())}
FULL = replace(VIEW, type="kubernetes.io/tls", digests=DIGESTS)
PARSED = {
    "in full": (raw(), FULL),
    "without labels, annotations and owners": (
        raw(gen.put("metadata", {"uid": "u-1", "resourceVersion": "42"})),
        replace(FULL, labels={}, annotations={}, owners=()),
    ),
    "without a type": (raw(gen.drop("type")), replace(FULL, type="Opaque")),
    "without data": (raw(gen.drop("data")), replace(FULL, digests={})),
    "kubectl's copy of the data is dropped": (
        raw(gen.put("metadata.annotations", {"note": "b", "kubectl.kubernetes.io/last-applied-configuration": CANARY})),
        FULL,
    ),
}


@pytest.mark.parametrize(("secret", "view"), PARSED.values(), ids=PARSED)
def test_a_secret_is_parsed(secret: gen.Object, view: SecretView) -> None:
    record = parse_secret(secret, gen.DIGESTER)
    assert record.view() == view
    assert record.resource_version == 42
    assert CANARY.encode() not in zlib.decompress(record.packed)
    assert gen.CANARY.encode() not in zlib.decompress(record.packed)


def test_a_record_gives_back_its_view() -> None:
    assert SecretRecord(VIEW, 1).view() == VIEW


SAME = {
    "itself, as written again": (SecretRecord(VIEW, 2), True),
    "another label": (SecretRecord(replace(VIEW, labels={"team": "b"}), 1), False),
    "another value": (SecretRecord(replace(VIEW, digests={"KEY": "e"}), 1), False),
    "none": (None, False),
}


@pytest.mark.parametrize(("other", "same"), SAME.values(), ids=SAME)
def test_whether_nothing_differs(other: SecretRecord | None, same: bool) -> None:  # noqa: FBT001
    assert SecretRecord(VIEW, 1).same_as(other) is same


@pytest.mark.parametrize(("annotations", "stamp"), [({"voicekeys.dev/digest": "d7"}, "d7"), ({"note": "x"}, None)])
def test_the_stamp(annotations: dict[str, str], stamp: str | None) -> None:
    assert SecretView("u", "Opaque", {}, annotations, (), {}).stamp == stamp
