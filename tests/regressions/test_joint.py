"""Two bindings of one workload: what they change together, they change back together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.regressions.small import Small

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small() -> Iterator[Small]:
    with Small() as made:
        made.put("one", path="voice/c")
        made.deploy("b", "c")
        made.pod("old")
        made.bind("b")
        made.bind("c", source={"path": "voice/c"})
        made.pass_by(5)
        yield made


def test_a_joint_restart_goes_back_in_one_patch_and_says_whose_it_was(small: Small) -> None:
    small.put("two", path="voice/c")
    small.put("two")
    small.pass_by(30)
    (together,) = small.patches
    assert len(together) == 2
    small.pod("new", ready=False)
    small.controller(updated=1, available=1)
    small.pass_by(700, 5)
    small.pass_by(30)
    assert small.annotations == {}
    assert len(small.patches) == 2
    assert len(small.patches[1]) == 2
    assert "VoiceKeyBinding c" in small.message("Stalled", "b")
    assert "VoiceKeyBinding b" in small.message("Stalled", "c")
    assert [small.secret("b"), small.secret("c")] == ["one", "one"]
