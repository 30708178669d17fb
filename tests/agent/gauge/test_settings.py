"""Settings from the environment: wrong ones are told, not repeated, and end nothing."""

from __future__ import annotations

import pytest

from voicekeys.agent.gauge.number import Metric, Pointer
from voicekeys.agent.gauge.settings import from_environment

RIGHT = {
    "VOICEKEYS_GAUGE_URL": "http://127.0.0.1:8021/status?key=secret-in-the-query",
    "VOICEKEYS_GAUGE_JSON_POINTER": "/sessions/active",
    "VOICEKEYS_GAUGE_AUTHORIZATION": "Bearer secret-of-the-agent",
    "VOICEKEYS_DRAIN_TOKEN": "secret-token",
    "VOICEKEYS_DRAIN_PORT": "9910",
    "VOICEKEYS_SETTLE_SECONDS": "0",
    "VOICEKEYS_GRACE_SECONDS": "1845",
}


def test_all_of_it() -> None:
    settings = from_environment(RIGHT)
    assert settings.wrong is None
    assert (settings.port, settings.settle, settings.grace, settings.token) == (9910, 0.0, 1845.0, "secret-token")
    assert settings.source is not None
    assert settings.source.where == Pointer(("sessions", "active"))
    assert settings.source.authorization == "Bearer secret-of-the-agent"
    assert settings.source.witness is None
    assert settings.source.url.target == "/status?key=secret-in-the-query"
    assert "secret" not in repr(settings)


def test_defaults() -> None:
    settings = from_environment({"VOICEKEYS_GAUGE_URL": "http://127.0.0.1:1/", "VOICEKEYS_GAUGE_METRIC": "calls"})
    assert (settings.port, settings.settle, settings.grace, settings.token) == (9909, 5.0, None, None)
    assert (settings.quiet, settings.busy) == (1.0, 0.2)
    assert settings.source is not None
    assert settings.source.timeout == 5.0
    assert settings.source.authorization is None


def test_an_empty_pointer_is_the_whole_document_and_gives_way_to_a_metric() -> None:
    url = {"VOICEKEYS_GAUGE_URL": "http://127.0.0.1:1/", "VOICEKEYS_GAUGE_JSON_POINTER": ""}
    whole = from_environment(url).source
    series = from_environment({**url, "VOICEKEYS_GAUGE_METRIC": "calls"}).source
    assert whole is not None
    assert whole.where == Pointer(())
    assert series is not None
    assert series.where == Metric("calls")


def test_the_witness_is_of_the_same_kind() -> None:
    pointer = from_environment({**RIGHT, "VOICEKEYS_GAUGE_ZERO_IF_PRESENT": "/version"}).source
    series = from_environment(
        {
            "VOICEKEYS_GAUGE_URL": "http://127.0.0.1:1/",
            "VOICEKEYS_GAUGE_METRIC": "calls",
            "VOICEKEYS_GAUGE_ZERO_IF_PRESENT": "up",
        }
    ).source
    assert pointer is not None
    assert pointer.witness == Pointer(("version",))
    assert series is not None
    assert series.witness == Metric("up")


def test_a_secrets_last_line_break_is_not_part_of_the_header() -> None:
    source = from_environment({**RIGHT, "VOICEKEYS_GAUGE_AUTHORIZATION": "Basic YTpi\n"}).source
    assert source is not None
    assert source.authorization == "Basic YTpi"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"VOICEKEYS_GAUGE_URL": ""}, "VOICEKEYS_GAUGE_URL is not set"),
        ({"VOICEKEYS_GAUGE_URL": "secret://x"}, "the URL must be like"),
        ({"VOICEKEYS_GAUGE_METRIC": "calls"}, "both set"),
        ({"VOICEKEYS_GAUGE_JSON_POINTER": "secret"}, "a JSON pointer is empty or begins with a slash"),
        ({"VOICEKEYS_GAUGE_ZERO_IF_PRESENT": "secret"}, "a JSON pointer"),
        ({"VOICEKEYS_GAUGE_AUTHORIZATION": "secret\r\nX: y"}, "VOICEKEYS_GAUGE_AUTHORIZATION is no header value"),
        ({"VOICEKEYS_SETTLE_SECONDS": "secret"}, "VOICEKEYS_SETTLE_SECONDS is no number"),
        ({"VOICEKEYS_GRACE_SECONDS": "nan"}, "VOICEKEYS_GRACE_SECONDS is no number"),
        ({"VOICEKEYS_GAUGE_QUIET_SECONDS": "-1"}, "VOICEKEYS_GAUGE_QUIET_SECONDS is below zero"),
        ({"VOICEKEYS_GAUGE_TIMEOUT_SECONDS": "inf"}, "VOICEKEYS_GAUGE_TIMEOUT_SECONDS is no number"),
    ],
)
def test_what_is_wrong_is_said_without_its_value(changes: dict[str, str], message: str) -> None:
    settings = from_environment({**RIGHT, **changes})
    assert settings.source is None
    assert message in (settings.wrong or "")
    assert "secret" not in (settings.wrong or "")
    assert settings.token == "secret-token"


def test_without_a_place_for_the_number() -> None:
    assert "set VOICEKEYS_GAUGE_METRIC, or" in (from_environment({"VOICEKEYS_GAUGE_URL": "http://a/"}).wrong or "")
