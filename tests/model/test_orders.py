"""One-shot annotations of a binding."""

from __future__ import annotations

import pytest

from voicekeys.model.orders import NO_ORDERS, Orders, parse_orders


def test_each_annotation_has_its_place() -> None:
    values = {"sync-now": "1", "arm": "now", "release": "pod-1", "approve": "seen", "leaked": "yes", "else": "x"}
    metadata = {"annotations": {f"voicekeys.dev/{name}": value for name, value in values.items()}}
    everything = Orders(sync_now="1", arm="now", release="pod-1", approve="seen", leaked="yes")
    assert parse_orders(metadata) == everything


@pytest.mark.parametrize("metadata", [{}, {"annotations": None}, {"annotations": {}}, {"annotations": {"a": "b"}}])
def test_most_bindings_share_one_that_asks_nothing(metadata: dict[str, object]) -> None:
    assert parse_orders(metadata) is NO_ORDERS
