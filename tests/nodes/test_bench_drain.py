"""`hatch run bench drain`, small: no call of our arm is cut, calls of the others are, and the numbers add up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench import __main__ as bench
from tests.bench.drain import sipp

if TYPE_CHECKING:
    from pathlib import Path

ROTATIONS, REPLICAS = 1, 2


@pytest.mark.own_control_plane
@pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing()))
def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "drain.json"
    sizes = f"--rotations {ROTATIONS} --replicas {REPLICAS} --rate 2 --longest 15 --warm-up 6"
    monkeypatch.setattr("sys.argv", ["bench", "drain", *sizes.split(), "--json", str(file)])
    bench.main()
    run = json.loads(file.read_text())

    assert run["invalid"] is None
    assert run["failures"] == []
    ours = run["arms"]["voicekeys"]
    assert (ours["dropped"], ours["unplaced"], ours["auth_failures_on_live_calls"]) == (0, 0, 0)
    assert ours["sigterm_with_live_calls"] == 0
    assert ours["drain_latency_ms"]["samples"] == ROTATIONS * REPLICAS
    assert ours["min_available_ratio"] >= 1
    for arm in run["arms"].values():
        assert arm["calls_started"] == arm["completed"] + arm["dropped"] + arm["unplaced"]
        assert arm["key_checks"] > arm["completed"]
        assert all(kind["completed"] for kind in arm["by_kind"].values()), "one kind of call was never held"
    # sipp's own books, which know nothing of ours.
    sip = [arm["by_kind"]["sip"] for arm in run["arms"].values()]
    assert run["sipp"]["successful"] == sum(kind["completed"] for kind in sip)
    assert run["sipp"]["failed"] == sum(kind["started"] - kind["completed"] for kind in sip)
    assert run["arms"]["sleep_prestop"]["auth_failures_on_live_calls"] > 0, "the provider refuses nobody"
