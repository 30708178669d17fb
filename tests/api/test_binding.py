"""The binding's spec: three lines are enough, what is left out has the value that the documentation promises."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from tests.crds.objects import binding
from voicekeys.api.binding import (
    Agent,
    AgentKind,
    AuthorizationSecret,
    BindingSpec,
    DeletionPolicy,
    Drain,
    DrainMode,
    Gauge,
    GaugeScheme,
    Inject,
    Rollout,
    Rotation,
    Source,
    StoreRef,
    Target,
    parse_binding_spec,
)

_SHORT = {"environment": "staging", "source": {"path": "voice/frejun"}}


def test_a_short_spec_is_filled_with_defaults() -> None:
    assert parse_binding_spec(_SHORT) == BindingSpec(
        environment="staging",
        source=Source(path="voice/frejun", store_ref=StoreRef(name="default"), service_account_name="voicekeys-reader"),
        target=Target(type="Opaque", adopt=False, deletion_policy=DeletionPolicy.RETAIN),
        agents=(),
        rollout=Rollout(timeout=timedelta(minutes=10), propagation=timedelta(seconds=5), max_restarts_per_hour=6),
        rotation=Rotation(),
    )


def test_every_field_is_read_from_bytes_as_from_a_mapping() -> None:
    raw = binding()["spec"]
    spec = parse_binding_spec(orjson.dumps(raw))
    assert spec == parse_binding_spec(raw)
    assert spec.source == Source(path="voice/production/frejun", store_ref=StoreRef(name="vault"), version=7)
    assert spec.target == Target(
        secret_name="frejun-api-key",
        data={"FREJUN_API_KEY": "api_key", "ca.crt": "ca"},
        base64_decode=("ca.crt",),
        labels={"team": "voice", "example.com/tier": "1"},
        annotations={"example.com/note": "the telephone key"},
    )
    drain = Drain(
        mode=DrainMode.HTTP,
        inject=Inject.POD,
        port=9909,
        max_call_duration=timedelta(minutes=30),
        settle=timedelta(seconds=5),
        teardown=timedelta(seconds=10),
    )
    assert spec.agents == (Agent(kind=AgentKind.DEPLOYMENT, name="receptionist", container="agent", drain=drain),)
    assert spec.rotation == Rotation(max_age=timedelta(days=90), warn_before=timedelta(days=14))


def test_a_field_of_a_newer_crd_is_ignored() -> None:
    assert parse_binding_spec(_SHORT | {"rotation": {"providerRef": {"name": "teler"}}}) == parse_binding_spec(_SHORT)


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/.."])
def test_a_path_that_could_leave_its_prefix_is_refused_whatever_the_crd_says(path: str) -> None:
    with pytest.raises(ValidationError, match=r"no empty, '\.' or '\.\.' segment"):
        parse_binding_spec(_SHORT | {"source": {"path": path}})


@pytest.mark.parametrize("path", ["a", "a/b", "a/..b/c..", ".a/...", "a.b/c-d_e"])
def test_a_path_with_dots_in_its_names_is_none_of_those(path: str) -> None:
    assert parse_binding_spec(_SHORT | {"source": {"path": path}}).source.path == path


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": {"path": "a"}},
        {"environment": "e"},
        _SHORT | {"rollout": {"timeout": "ten minutes"}},
        _SHORT | {"agents": [{"kind": "Job", "name": "a"}]},
        _SHORT | {"agents": [{"kind": "Deployment"}]},
    ],
)
def test_what_the_crd_refuses_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_binding_spec(wrong)


def test_the_secret_is_named_like_the_binding_unless_said_otherwise() -> None:
    assert Target().effective_secret_name("frejun") == "frejun"
    assert Target(secret_name="key").effective_secret_name("frejun") == "key"


@pytest.mark.parametrize(
    ("drain", "port", "contract"),
    [
        (Drain(mode=DrainMode.HTTP), 9909, 9909),
        (Drain(mode=DrainMode.HTTP, port=8080), 8080, 8080),
        (Drain(mode=DrainMode.GAUGE, port=9090), 9090, 9909),
        (Drain(mode=DrainMode.SIGNAL), None, None),
    ],
)
def test_the_drain_port(drain: Drain, port: int | None, contract: int | None) -> None:
    assert drain.effective_port == port
    assert drain.contract_port == contract


@pytest.mark.parametrize(
    ("drain", "seconds"),
    [
        (Drain(mode=DrainMode.HTTP), None),
        (Drain(mode=DrainMode.HTTP, max_call_duration=timedelta(minutes=30)), 1800 + 5 + 10 + 30),
        (Drain(mode=DrainMode.HTTP, max_call_duration=timedelta(1), settle=timedelta(), teardown=timedelta()), 86_430),
    ],
)
def test_the_grace_that_a_promised_call_needs(drain: Drain, seconds: int | None) -> None:
    assert drain.needed_grace == (None if seconds is None else timedelta(seconds=seconds))


def test_a_gauge_reads_the_loopback() -> None:
    assert Gauge(metric="calls").url(8080) == "http://127.0.0.1:8080/metrics"
    assert Gauge(path="/s?a=b", scheme=GaugeScheme.HTTPS).url(443) == "https://127.0.0.1:443/s?a=b"


def test_a_gauges_number_and_its_secret_are_read() -> None:
    drain = parse_binding_spec(binding("gauge")["spec"]).agents[0].drain
    assert drain is not None
    assert drain.gauge == Gauge(
        path="/status.json",
        scheme=GaugeScheme.HTTP,
        json_pointer="/sessions/active",
        authorization_secret=AuthorizationSecret(name="livekit-metrics", key="authorization"),
    )


@pytest.mark.parametrize("given", [None, *Inject])
def test_without_a_wish_pods_are_armed_by_admission_where_the_cluster_can(given: Inject | None) -> None:
    drain = Drain(mode=DrainMode.SIGNAL, inject=given)
    assert drain.effective_inject(admission=True) == (given or Inject.POD)
    assert drain.effective_inject(admission=False) == (given or Inject.TEMPLATE)
    command = Drain(mode=DrainMode.EXEC, command=("/wait",), inject=given)
    assert command.effective_inject(admission=True) == (given or Inject.POD)
    assert command.effective_inject(admission=False) == (given or Inject.OFF)


def test_the_longest_call_is_what_the_user_said_or_unknown() -> None:
    half_an_hour = timedelta(minutes=30)
    drain = Drain(mode=DrainMode.HTTP, max_call_duration=half_an_hour)
    assert Agent(kind=AgentKind.DEPLOYMENT, name="a", drain=drain).max_call_duration == half_an_hour
    assert Agent(kind=AgentKind.DEPLOYMENT, name="a", drain=Drain(mode=DrainMode.HTTP)).max_call_duration is None
    assert Agent(kind=AgentKind.DEPLOYMENT, name="a").max_call_duration is None


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_binding_spec(_SHORT).suspend = True  # type: ignore[misc]
