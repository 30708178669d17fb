"""The operator's own namespace: the fingerprint key is made once, kept, and refused when it is of no use."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import pytest

from voicekeys.clients.kube.own import KEY_BYTES, OwnNamespace
from voicekeys.model.errors import Terminal

if TYPE_CHECKING:
    from tests.lab import Lab
    from voicekeys.clients.kube.session import KubeSession

SECRET = "voicekeys-fingerprint-key"


async def test_replicas_that_start_together_agree_on_one_key(session: KubeSession, namespace: str) -> None:
    keys = await asyncio.gather(*(OwnNamespace(session, namespace).fingerprint_key() for _ in range(4)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == KEY_BYTES
    assert await OwnNamespace(session, namespace).fingerprint_key() == keys[0]


@pytest.mark.parametrize("text", ["", base64.b64encode(b"too short").decode()])
async def test_a_key_of_no_use_says_what_to_do(session: KubeSession, lab: Lab, namespace: str, text: str) -> None:
    made = {"metadata": {"name": SECRET}, "data": {"key": text}}
    lab.api("POST", f"/api/v1/namespaces/{namespace}/secrets", made)
    with pytest.raises(Terminal, match=r"restore it from your backup, or delete it") as caught:
        await OwnNamespace(session, namespace).fingerprint_key()
    assert caught.value.reason == "FingerprintKeyUnusable"


async def test_a_namespace_that_is_not_there_says_what_to_do(session: KubeSession) -> None:
    words = "namespace nowhere does not exist: create it, or name another in VOICEKEYS_POD_NAMESPACE"
    with pytest.raises(Terminal, match=words) as caught:
        await OwnNamespace(session, "nowhere").fingerprint_key()
    assert caught.value.reason == "NamespaceMissing"
