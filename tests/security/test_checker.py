"""The checker of the canary test, checked: a leak planted in each channel of a real process and cluster is seen."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.security import material
from tests.security.evidence import Evidence
from tests.security.planting import OBJECTS, PROCESS, seen

if TYPE_CHECKING:
    from tests.security.planting import Plants


@pytest.mark.parametrize("place", [*PROCESS, *OBJECTS])
def test_a_leak_is_seen(plants: Plants, place: str) -> None:
    assert seen(plants.evidence, plants.keys, place)


def test_a_key_that_did_not_leak_is_not_found(plants: Plants) -> None:
    other = material.needles("other", {"api_key": f"other{secrets.token_hex(24)}"})

    assert [leak for leak in plants.evidence.leaks(other) if "other" in leak] == []


@pytest.mark.parametrize("shape", [*material.shapes()])
def test_every_shape_is_found_where_it_is(shape: str) -> None:
    fields = material.shapes()[shape]
    for name, value in material.needles(shape, fields).items():
        evidence = Evidence({"log": f"before {value!r} after"})
        assert evidence.leaks({name: value}), name


@pytest.mark.parametrize(
    "token", ["hvs.CAESIJ0123456789abcdefghij", "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsidmF1bHQiXX0.abc"]
)
def test_a_token_that_nobody_knows_is_found_by_its_shape(token: str) -> None:
    assert Evidence({"log": f"X-Vault-Token: {token}"}).leaks({})


def test_findings_never_show_the_value(plants: Plants) -> None:
    everything = {
        name: text for place, key in plants.keys.items() for name, text in material.pieces(place, key.encode()).items()
    }
    said = Evidence({"said": "\n".join(plants.evidence.leaks(everything))})

    assert said.leaks(everything) == []
