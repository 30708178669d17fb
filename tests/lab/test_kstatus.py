"""The kstatus tool gives kstatus' own verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.kstatus import compute
from tests.lab.processes import LabError


def custom(generation: int = 2, deleted: str | None = None, **status: Any) -> dict[str, Any]:
    """Return an object of a kind that kstatus knows nothing of, so that it goes by the conditions."""
    metadata = {"name": "x", "namespace": "default", "generation": generation}
    if deleted:
        metadata["deletionTimestamp"] = deleted
    made: dict[str, Any] = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata, "spec": {}}
    return made | ({"status": status} if status else {})


def condition(kind: str, status: str, message: str = "because") -> dict[str, str]:
    """Return a condition."""
    return {"type": kind, "status": status, "reason": "Why", "message": message}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (custom(), "Current"),
        (custom(observedGeneration=-1), "InProgress"),
        (custom(observedGeneration=1, conditions=[condition("Ready", "True")]), "InProgress"),
        (custom(observedGeneration=2, conditions=[condition("Ready", "True")]), "Current"),
        (custom(observedGeneration=2, conditions=[condition("Ready", "False")]), "InProgress"),
        (custom(observedGeneration=2, conditions=[condition("Reconciling", "True")]), "InProgress"),
        (custom(observedGeneration=2, conditions=[condition("Stalled", "True")]), "Failed"),
        (custom(deleted="2026-01-01T00:00:00Z"), "Terminating"),
    ],
)
def test_verdicts(obj: dict[str, Any], expected: str) -> None:
    assert compute(obj)[0] == expected


def test_the_message_is_the_condition_s() -> None:
    stalled = custom(observedGeneration=2, conditions=[condition("Stalled", "True", "edit spec.x")])
    assert compute(stalled) == ("Failed", "edit spec.x")


def test_what_is_no_object_is_refused_and_the_next_one_is_answered() -> None:
    with pytest.raises(LabError, match="Kind"):
        compute({"no": "object"})
    assert compute(custom())[0] == "Current"


def test_one_process_answers_many_large_objects() -> None:
    big = custom(observedGeneration=2, conditions=[condition("Ready", "True", "x" * 100_000)])
    assert {compute(big)[0] for _ in range(200)} == {"Current"}
