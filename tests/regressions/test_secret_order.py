"""The answer to a write of a Secret may come after the watch has shown what happened next."""

from __future__ import annotations

import pytest

from voicekeys.model.digest import Digester
from voicekeys.model.identity import Name
from voicekeys.model.secret import SecretRecord, parse_secret
from voicekeys.reconcilers.inventory import Inventory

NAME = Name("voice-prod", "frejun")
BINDING = {
    "metadata": {
        "namespace": "voice-prod",
        "name": "frejun",
        "uid": "u1",
        "generation": 1,
        "resourceVersion": "5",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"environment": "production", "source": {"path": "voice/frejun"}},
}


def record(version: int) -> SecretRecord:
    metadata = {"uid": "s1", "namespace": NAME.namespace, "name": NAME.name, "resourceVersion": str(version)}
    return parse_secret({"metadata": metadata, "data": {}}, Digester(b"k" * 32))


@pytest.fixture
def inventory() -> Inventory:
    made = Inventory()
    made.upsert(BINDING)
    return made


def test_an_edit_that_came_first_is_not_overwritten_by_our_older_answer(inventory: Inventory) -> None:
    inventory.secrets[NAME] = record(12)
    inventory.secret_written(NAME, record(11))
    assert inventory.secrets[NAME].resource_version == 12


def test_a_deletion_that_came_first_is_not_undone_by_our_older_answer(inventory: Inventory) -> None:
    assert inventory.secret_deleted(NAME, 12)
    inventory.secret_written(NAME, record(11))
    assert NAME not in inventory.secrets


def test_a_write_after_the_deletion_counts(inventory: Inventory) -> None:
    inventory.secret_deleted(NAME, 12)
    inventory.secret_written(NAME, record(13))
    assert inventory.secrets[NAME].resource_version == 13


def test_the_deletion_of_an_older_one_is_no_deletion(inventory: Inventory) -> None:
    inventory.secrets[NAME] = record(14)
    assert not inventory.secret_deleted(NAME, 12)
    assert NAME in inventory.secrets
