"""A binding that moves to another Secret, which may hold another key: what the pods there have read is not believed."""

from __future__ import annotations

import base64

from tests.regressions.small import NS, Small
from voicekeys.model.identity import Name

ONE = b"key-one-0123456789"


def moved(small: Small, value: bytes) -> None:
    """The agents' owner lets them read a Secret of his own, rolls them out, and then hands that Secret over."""
    data = {"api_key": base64.b64encode(value).decode()}
    metadata = {"name": "legacy", "namespace": NS, "uid": "s-legacy", "resourceVersion": "5", "labels": {}}
    small.cluster.secrets[Name(NS, "legacy")] = {"metadata": metadata, "type": "Opaque", "data": data}
    container = small.workload["spec"]["template"]["spec"]["containers"][0]
    container["envFrom"] = [{"secretRef": {"name": "legacy"}}]
    small.end("old")
    small.pod("on-legacy")
    small.bind(target={"secretName": "legacy", "adopt": True})
    small.pass_by(60)


def test_to_another_key_restarts_the_agents_once(small: Small) -> None:
    moved(small, b"another-key-0123456789")
    assert len(small.patches) == 1
    assert not small.is_true("Ready")
    small.pod("new")
    small.controller()
    small.end("on-legacy")
    small.pass_by(60)
    assert small.is_true("Ready")
    assert len(small.patches) == 1


def test_to_the_same_key_restarts_nothing(small: Small) -> None:
    moved(small, ONE)
    assert not small.patches
    assert small.is_true("Ready")


def test_killed_before_the_secret_was_written_it_comes_to_the_same_end(small: Small) -> None:
    moved(small, b"another-key-0123456789")
    before = list(small.patches)
    small.boot()
    small.pass_by(60)
    assert small.patches == before
    assert not small.is_true("Ready"), "the pod that read the other key serves still"
