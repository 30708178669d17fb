"""The table of conditions says something about each, and holds to kstatus."""

from __future__ import annotations

import pytest

from voicekeys.api.conditions import (
    BINDING_CONDITIONS,
    STORE_CONDITIONS,
    BindingCondition,
    ConditionDoc,
    Polarity,
    StoreCondition,
)

_TABLES = [(BINDING_CONDITIONS, BindingCondition), (STORE_CONDITIONS, StoreCondition)]


@pytest.mark.parametrize(("table", "types"), _TABLES, ids=["binding", "store"])
def test_every_type_has_one_row_in_the_order_of_its_enum(
    table: tuple[ConditionDoc, ...], types: type[BindingCondition | StoreCondition]
) -> None:
    assert [row.type for row in table] == list(types)
    assert all(row.meaning and row.owner for row in table)


@pytest.mark.parametrize(("table", "types"), _TABLES, ids=["binding", "store"])
def test_the_three_of_kstatus_have_its_polarity(
    table: tuple[ConditionDoc, ...], types: type[BindingCondition | StoreCondition]
) -> None:
    rows = {row.type: row for row in table}
    assert rows[types("Ready")].polarity is Polarity.NORMAL_TRUE
    assert rows[types("Reconciling")].polarity is Polarity.ABNORMAL_TRUE
    assert rows[types("Stalled")].polarity is Polarity.ABNORMAL_TRUE
    assert all(rows[types(name)].feeds_ready for name in ("Ready", "Reconciling", "Stalled"))


def test_neither_an_unreachable_vault_nor_finishing_calls_make_a_binding_unready() -> None:
    quiet = {row.type for row in BINDING_CONDITIONS if not row.feeds_ready}
    assert {BindingCondition.SOURCE_REACHABLE, BindingCondition.CALLS_DRAINED, BindingCondition.KEY_FRESH} <= quiet
