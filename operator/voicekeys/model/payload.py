"""The one type that holds key material. It cannot be printed, pickled, hashed or compared by accident."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime


class Payload:
    """Named secret values: a Vault key's fields, or a Secret's data.

    ``repr``, ``str`` and ``format`` show the names only. Equality is constant-time. Pickling and hashing are refused.

    Args:
        values: name to value, bytes as they are (not base64).
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = dict(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def reveal(self, name: str) -> bytes:
        """Give one value in the clear; KeyError (with the name only) when there is none."""
        return self._values[name]

    def size(self) -> int:
        """Bytes of all values together, as the API server counts a Secret's data: names are free."""
        return sum(len(value) for value in self._values.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Payload) or set(self) != set(other):
            return False
        same = [hmac.compare_digest(value, other.reveal(name)) for name, value in self._values.items()]
        return all(same)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Payload({', '.join(sorted(self._values))})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        message = "a Payload holds key material and is never pickled or copied out"
        raise TypeError(message)

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key as Vault's KV v2 gave it.

    Args:
        version: Vault's version number, from 1.
        created_time: when this version was written (UTC): the key's age counts from here.
        fields: the key's fields.
    """

    version: int
    created_time: datetime
    fields: Payload
