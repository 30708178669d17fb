"""The manifests of `deploy/examples/agents/gauge/`: each reads its system's number, by what is written in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.agent.gauge.shapes import SYSTEMS
from tests.agent.support import RECIPES
from voicekeys.agent.gauge.errors import Unread
from voicekeys.agent.gauge.number import Where, parse_metric, parse_pointer
from voicekeys.agent.gauge.settings import from_environment
from voicekeys.api.binding import parse_binding_spec

FILES = sorted((RECIPES / "gauge").glob("*.yaml"))
MANIFESTS = {file.stem: list(yaml.safe_load_all(file.read_text())) for file in FILES}

WITHOUT_EXAMPLE = {
    "livekit-agents": "they drain by themselves: mode Signal",
}


def drain_of(name: str) -> dict[str, Any]:
    (agent,) = MANIFESTS[name][1]["spec"]["agents"]
    return dict(agent["drain"])


def where_of(name: str) -> Where:
    gauge = drain_of(name)["gauge"]
    assert len({"jsonPointer", "metric"} & gauge.keys()) == 1
    return parse_pointer(gauge["jsonPointer"]) if "jsonPointer" in gauge else parse_metric(gauge["metric"])


def test_each_system_has_an_example_or_a_reason() -> None:
    assert MANIFESTS.keys() == SYSTEMS.keys() - WITHOUT_EXAMPLE.keys()


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_example_reads_its_systems_number(name: str) -> None:
    shape, gauge = SYSTEMS[name], drain_of(name)["gauge"]
    assert gauge.get("path", "/metrics") == shape.path
    assert ("authorizationSecret" in gauge) == (shape.authorization is not None)
    for calls in (0, 1, 2, 7):
        assert where_of(name).find(shape.body(calls).encode(), None) == calls
    with pytest.raises(Unread):
        where_of(name).find(b"", None)


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_settings_that_arming_makes_of_it_are_right(name: str) -> None:
    drain = drain_of(name)
    gauge = drain["gauge"]
    environment = {
        "VOICEKEYS_GAUGE_URL": f"http://127.0.0.1:{drain['port']}{gauge.get('path', '/metrics')}",
        **({"VOICEKEYS_GAUGE_METRIC": gauge["metric"]} if "metric" in gauge else {}),
        **({"VOICEKEYS_GAUGE_JSON_POINTER": gauge["jsonPointer"]} if "jsonPointer" in gauge else {}),
    }
    assert from_environment(environment).wrong is None


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_binding_is_of_the_agent_beside_it(name: str) -> None:
    deployment, binding = MANIFESTS[name]
    assert (deployment["kind"], binding["kind"]) == ("Deployment", "VoiceKeyBinding")
    assert deployment["metadata"]["namespace"] == binding["metadata"]["namespace"]
    (agent,) = binding["spec"]["agents"]
    assert (agent["kind"], agent["name"]) == ("Deployment", deployment["metadata"]["name"])
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    assert agent["drain"]["port"] in {port["containerPort"] for port in container["ports"]}
    assert container["envFrom"] == [{"secretRef": {"name": binding["spec"]["target"]["secretName"]}}]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_api_takes_the_binding(name: str) -> None:
    drain = parse_binding_spec(MANIFESTS[name][1]["spec"]).agents[0].drain
    assert drain is not None
    assert drain.max_call_duration is not None
    gauge = drain_of(name)["gauge"]
    assert drain.gauge is not None
    assert (drain.gauge.json_pointer, drain.gauge.metric) == (gauge.get("jsonPointer"), gauge.get("metric"))
    assert drain.gauge.url(8000) == f"http://127.0.0.1:8000{SYSTEMS[name].path}"


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_comment_says_where_the_number_comes_from(name: str) -> None:
    text = (RECIPES / "gauge" / f"{name}.yaml").read_text()
    comment = re.sub(r"\s*\n#\s*", " ", text.partition("apiVersion")[0])
    gauge = drain_of(name)["gauge"]
    named = gauge["jsonPointer"].rpartition("/")[2] if "jsonPointer" in gauge else gauge["metric"].partition("{")[0]
    number = named or gauge["path"]  # the whole document
    assert number in comment
