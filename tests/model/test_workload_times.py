"""What a pod's times and a workload's own part are parsed to, and a failed pod whose end nobody saw."""

from __future__ import annotations

from tests import gen


def test_a_pod_s_times() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": gen.text(gen.at(5))}
    times = (gen.put("metadata.creationTimestamp", gen.text(gen.NOW)), gen.put("status.conditions", [ready]))
    pod = gen.pod("a", *times)
    assert (pod.created, pod.ready_time, pod.ready) == (gen.NOW, gen.at(5), True)


def test_what_people_write_is_told_from_what_a_controller_counts() -> None:
    assert gen.deployment().spec_part == gen.deployment(gen.rolling(1, 1)).spec_part
    assert gen.deployment().spec_part != gen.deployment(gen.replicas(4)).spec_part


def test_a_pod_failed_for_a_lost_node_has_not_been_seen_to_end() -> None:
    """The pod garbage collector writes Failed; the containers were running at last sight."""
    assert not gen.pod("a", gen.put("status.phase", "Failed")).ended


def test_a_pod_that_was_just_made_has_no_times() -> None:
    pod = gen.pod("a", gen.drop("status"))
    assert (pod.created, pod.ready_time) == (None, None)
