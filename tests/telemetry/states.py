"""States to scrape: a `StateView` of given rows, and one of many made-up ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voicekeys.telemetry.state import BindingRow, StoreRow

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Rows:
    """A view of fixed rows."""

    binding_rows: list[BindingRow] = field(default_factory=list)
    store_rows: list[StoreRow] = field(default_factory=list)
    leads: bool = True

    def bindings(self) -> list[BindingRow]:
        return self.binding_rows

    def stores(self) -> list[StoreRow]:
        return self.store_rows

    def leader(self) -> bool:
        return self.leads


@dataclass
class Many:
    """A view that makes its rows as they are asked for.

    Args:
        count: bindings.
    """

    count: int

    def bindings(self) -> Iterator[BindingRow]:
        for number in range(self.count):
            yield BindingRow(
                namespace=f"voice-production-{number % 100}",
                name=f"binding-{number}",
                store="vault",
                environment="production",
                key_created=1_750_000_000.123 + number,
                rotate_by=1_757_776_000.123 + number,
                last_success=1_750_000_100.5 + number,
                pods_on_old_key=number % 3,
                ready=True,
                source_last_read=1_750_001_000.25 + number,
                pod_kill_deadline=1_750_002_000.0 if number % 3 else None,
            )

    def stores(self) -> list[StoreRow]:
        return [StoreRow("vault", reachable=True, logged_in=True, bindings=self.count, identities=100)]

    def leader(self) -> bool:
        return True
