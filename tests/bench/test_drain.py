"""The drain benchmark's arithmetic and its parts without nodes: what it would say of a run that went badly."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench.drain import report, results, world
from tests.bench.drain.agent.media import Meter, rtp, rtp_number
from tests.bench.drain.agent.sip import media_of, parse, sdp
from tests.bench.drain.arms import arms, objects
from tests.bench.drain.dispatcher import Dispatcher
from tests.bench.drain.provider import ProviderProcess
from tests.bench.drain.records import Book, Call, Outcome, Pods, read
from tests.bench.drain.rotations import Rotation
from tests.nodes.witness import Event

if TYPE_CHECKING:
    from pathlib import Path

ROTATION = Rotation("voicekeys", began=100.0, done=120.0, revoked=120.0, ended=121.0)


def a_call(began: float, ended: float, outcome: Outcome = Outcome.COMPLETED, **more: Any) -> Call:
    return Call("c", "voicekeys", "sip", began, began, ended, outcome, **more)


def test_a_call_counts_where_it_was_live_in_a_rotation() -> None:
    calls = [a_call(10, 99), a_call(10, 100), a_call(121, 140), a_call(122, 140), a_call(90, 200)]
    found = results.of_calls(calls, [ROTATION])
    assert found["calls_started"] == 5
    assert found["calls_live_during_rotations"] == 3
    assert found["drop_rate_below_at_95_percent"] == 1.0


def test_a_call_that_nobody_took_was_never_live() -> None:
    nobody = Call("c", "voicekeys", "sip", 105.0, 0.0, 110.0, Outcome.UNPLACED, retries=20)
    found = results.of_calls([nobody, a_call(101, 102, retries=2)], [ROTATION])
    assert (found["unplaced"], found["completed"], found["refused_then_retried"]) == (1, 1, 1)
    assert found["calls_live_during_rotations"] == 1


def test_with_a_dropped_call_there_is_a_rate_and_no_bound() -> None:
    found = results.of_calls([a_call(101, 110, Outcome.DROPPED), *[a_call(101, 110)] * 3], [ROTATION])
    assert sum(found["dropped_because"].values()) == 1
    assert (found["dropped"], found["drop_rate"], found["drop_rate_below_at_95_percent"]) == (1, 0.25, None)


def test_availability_is_taken_from_before_a_rotation_too() -> None:
    """Nothing changed within it: what was so when it began held all along."""
    pods = [Pods("voicekeys", 50, 9, 0), Pods("voicekeys", 90, 3, 2), Pods("voicekeys", 130, 9, 0)]
    assert results.of_pods(pods, [ROTATION], 2) == {"min_available_ratio": 1.0, "peak_pods_ratio": 1.5}


def ended(**details: Any) -> Event:
    return Event("p", "u", "agent", "sigterm", 0.0, {"live": 0, **details})


def test_drain_latency_counts_from_the_later_of_last_call_and_settle_window() -> None:
    ends = [
        ended(sigterm=110.1, last_end=110.0, settle_ended=105.0),
        ended(sigterm=105.3, last_end=101.0, settle_ended=105.0),
        ended(sigterm=300.0, last_end=1.0),  # without the library nobody drained
    ]
    found = results.of_drains(ends)
    assert found["drain_latency_ms"] == {"p50": 200.0, "p99": 300.0, "max": 300.0, "samples": 2}
    assert found["pods_ended"] == 3


def heard(gap_ms: float, frames: int = 100) -> Event:
    return Event("p", "u", "agent", "media", 0.0, {"gap_ms": gap_ms, "frames": frames})


@pytest.mark.parametrize(
    ("to_caller", "to_agent", "longest"),
    [
        ([20.1, 61.5], [20.4, 43.0], 61.5),
        ([20.1, 41.5], [20.4, 83.0], 83.0),
        ([55.0], [], 55.0),
        ([], [77.0], 77.0),
        ([], [], None),
    ],
    ids=["caller's", "agent's", "no agent told", "no caller heard", "nobody"],
)
def test_the_longest_gap_is_that_of_either_direction(
    to_caller: list[float], to_agent: list[float], longest: float | None
) -> None:
    calls = [a_call(101, 110, gap_ms=gap, frames=100, lost=1) for gap in to_caller]
    found = results.of_audio(calls, [heard(gap) for gap in to_agent])
    assert found["max_audio_gap_ms"] == longest
    assert found["audio_gap_ms"]["to_caller"]["max"] == max(to_caller, default=None)
    assert found["audio_gap_ms"]["to_agent"]["max"] == max(to_agent, default=None)
    assert (found["frames"], found["frames_lost"]) == (100 * len(to_caller), len(to_caller))


def test_who_heard_no_frame_at_all_tells_no_gap() -> None:
    """Such a call never had audio: it is counted as unplaced or dropped."""
    calls = [a_call(101, 110, gap_ms=9999.0), a_call(101, 110, gap_ms=30.0, frames=5)]
    found = results.of_audio(calls, [heard(8888.0, frames=0), heard(40.0)])
    assert found["max_audio_gap_ms"] == 40.0


def whole(ours: dict[str, Any], baseline_drops: int = 5) -> dict[str, Any]:
    good = {
        "rotations": 30,
        "dropped": 0,
        "unplaced": 0,
        "auth_failures_on_live_calls": 0,
        "min_available_ratio": 1.0,
        "drain_latency_ms": {"p99": 90.0, "samples": 90},
        "calls_live_during_rotations": 4000,
    }
    baselines = {name: {**good, "dropped": baseline_drops} for name in report.BASELINES}
    arms = {"voicekeys": good | ours, **baselines}
    return {"rotations": 30, "replicas": 3, "failures": [], "arms": arms}


@pytest.mark.parametrize(
    ("bad", "missed"),
    [
        ({}, []),
        ({"dropped": 1}, ["dropped"]),
        ({"unplaced": 1}, ["unplaced"]),
        ({"rotations": 29}, ["rotations"]),
        ({"auth_failures_on_live_calls": 1}, ["auth_failures_on_live_calls"]),
        ({"min_available_ratio": 0.667}, ["min_available_ratio"]),
        ({"drain_latency_ms": {"p99": 250.1, "samples": 90}}, ["drain_latency_ms.p99"]),
        ({"drain_latency_ms": {"p99": 90.0, "samples": 89}}, ["drain_latency_ms.samples"]),
        ({"drain_latency_ms": {"p99": None, "samples": 0}}, ["drain_latency_ms.p99", "drain_latency_ms.samples"]),
        ({"calls_live_during_rotations": 2999}, ["calls_live_during_rotations"]),
    ],
)
def test_each_target_can_be_missed(bad: dict[str, Any], missed: list[str]) -> None:
    verdicts = report.judged(whole(bad))
    assert [name for name, one in verdicts.items() if not one["met"]] == missed
    assert report.table(whole(bad)).count("MISSED") == len(missed)


def test_a_run_whose_baseline_dropped_no_call_is_invalid() -> None:
    assert report.invalid(whole({})) is None
    assert "rollout_restart and sleep_prestop dropped no call" in str(report.invalid(whole({}, baseline_drops=0)))
    assert "INVALID" in report.table(whole({}, baseline_drops=0))


def test_the_book_is_read_as_far_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "book"
    with file.open("w") as stream:
        book = Book(stream)
        book.write(a_call(1, 2, Outcome.DROPPED, why="BYE 481"))
        book.write(Pods("voicekeys", 3.0, 4, 3))
    file.write_text(file.read_text() + '{"is": "Call", "ca')
    calls, pods = read(file)
    assert (calls, pods) == ([a_call(1, 2, Outcome.DROPPED, why="BYE 481")], [Pods("voicekeys", 3.0, 4, 3)])
    assert calls[0].outcome is Outcome.DROPPED


def test_silence_up_to_the_end_is_a_gap_and_lost_frames_are_counted() -> None:
    meter = Meter()
    for number in (3, 4, 6):
        meter.take(rtp_number(rtp(number, 1)))
    meter.last = time.monotonic() - 2
    meter.end()
    assert 2.0 <= meter.gap < 2.5
    assert (meter.frames, meter.lost) == (3, 1)


def test_frames_are_numbered_beyond_what_rtp_numbers() -> None:
    assert rtp_number(rtp(200_000, 7)) == 200_000


def test_a_message_gets_other_media_and_keeps_the_rest() -> None:
    body = sdp(("10.0.0.1", 4000))
    head = f"INVITE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: {len(body)}\r\n\r\n"
    moved = Dispatcher._with_media((head + body).encode(), "127.0.0.1", 5000)
    first, headers, new = parse(moved)
    assert first == "INVITE sip:a@b SIP/2.0"
    assert media_of(new) == ("127.0.0.1", 5000)
    assert dict(headers) == {"Call-ID": "1", "Content-Length": str(len(new))}


def test_only_one_arm_has_a_hook_in_its_manifest_and_ours_is_armed_by_its_binding() -> None:
    specs = {arm.name: objects(arm, 3, {})[1]["spec"]["template"]["spec"] for arm in arms()}
    hooks = {name: spec["containers"][0].get("lifecycle", {}).get("preStop") for name, spec in specs.items()}
    assert hooks == {"voicekeys": None, "rollout_restart": None, "sleep_prestop": {"sleep": {"seconds": 10}}}
    assert specs["voicekeys"]["terminationGracePeriodSeconds"] == 30


def ask(address: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}", "X-Arm": "voicekeys", "X-Call": "1"}
    request = urllib.request.Request(f"http://{address}/turn", method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_provider_refuses_a_revoked_key_and_counts_it() -> None:
    with ProviderProcess("127.0.0.1") as provider:
        provider.add("old")
        provider.add("new")
        assert (ask(provider.address, "old"), ask(provider.address, "never")) == (200, 401)
        provider.revoke("old")
        assert (ask(provider.address, "old"), ask(provider.address, "new")) == (401, 200)
        assert provider.counts() == {"voicekeys": {"checks": 4, "refused": 2, "calls": {"1": 2}}}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "sip-tester" in str(world.missing())
