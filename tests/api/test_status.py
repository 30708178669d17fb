"""Statuses: what is written is read back the same, and what is not known is not written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.api.samples import BINDING_STATUS, NOW, READY, STORE_STATUS
from voicekeys.api.binding import AgentKind
from voicekeys.api.status import (
    AgentStatus,
    BindingStatus,
    Handled,
    StoreStatus,
    dump_status,
    parse_binding_status,
    parse_store_status,
)


def test_an_object_that_nobody_has_seen() -> None:
    for raw in (None, {}, b"{}", {"observedGeneration": -1}):
        assert parse_binding_status(raw) == BindingStatus(observed_generation=-1)
        assert parse_store_status(raw) == StoreStatus(observed_generation=-1)


def test_statuses_survive_their_json() -> None:
    for read in (dump_status, lambda status: orjson.dumps(dump_status(status))):
        assert parse_binding_status(read(BINDING_STATUS)) == BINDING_STATUS
        assert parse_store_status(read(STORE_STATUS)) == STORE_STATUS


def test_what_is_not_known_is_left_out() -> None:
    assert dump_status(BindingStatus()) == {"observedGeneration": -1}
    assert dump_status(StoreStatus(observed_generation=2)) == {"observedGeneration": 2}
    bare = AgentStatus(kind=AgentKind.DEPLOYMENT, name="a")
    assert dump_status(BindingStatus(agents=(bare,), handled=Handled())) == {
        "observedGeneration": -1,
        "agents": [{"kind": "Deployment", "name": "a"}],
    }


def test_a_drain_token_is_written_and_never_shown() -> None:
    (token,) = [agent.drain_token for agent in BINDING_STATUS.agents if agent.drain_token]
    assert token == dump_status(BINDING_STATUS)["agents"][0]["drainToken"]
    assert token not in repr(BINDING_STATUS)


def test_zero_and_the_empty_string_are_known() -> None:
    agent = AgentStatus(kind=AgentKind.DEPLOYMENT, name="a", previous_trigger="", unwitnessed=0)
    dumped = dump_status(BindingStatus(agents=(agent,)))
    assert dumped["agents"] == [{"kind": "Deployment", "name": "a", "previousTrigger": "", "unwitnessed": 0}]
    assert parse_binding_status(dumped).agents == (agent,)
    assert dump_status(StoreStatus(bindings=0)) == {"observedGeneration": -1, "bindings": 0}


def test_a_condition_is_written_as_kubernetes_has_it() -> None:
    assert dump_status(StoreStatus(conditions=(READY,)))["conditions"] == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Current",
            "message": "Key version 7 is in the Secret frejun-api-key and in all 3 pods that take calls.",
            "lastTransitionTime": "2026-03-01T12:00:30Z",
            "observedGeneration": 3,
        },
    ]


@given(
    st.datetimes(
        min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis wants naive bounds
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
            lambda offset: timezone(timedelta(seconds=offset.total_seconds() // 60 * 60))
        ),
    )
)
def test_every_time_is_written_in_utc_and_whole_seconds(moment: datetime) -> None:
    status = BindingStatus(agents=(AgentStatus(kind=AgentKind.DEPLOYMENT, name="a", restarts=(moment,)),))
    (kept,) = status.agents[0].restarts
    assert kept == moment.astimezone(UTC).replace(microsecond=0)
    dumped = dump_status(status)
    assert dumped["agents"][0]["restarts"] == [kept.isoformat().replace("+00:00", "Z")]
    assert parse_binding_status(dumped) == status


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        AgentStatus(kind=AgentKind.DEPLOYMENT, name="a", restarts=(NOW.replace(tzinfo=None),))


def test_a_phase_of_a_newer_operator_is_refused_rather_than_guessed() -> None:
    dumped = dump_status(BINDING_STATUS)
    dumped["rotation"]["phase"] = "Quarantine"
    with pytest.raises(ValidationError, match="phase"):
        parse_binding_status(dumped)
