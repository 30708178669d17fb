"""Whatever a binding looks like, pods are made: the policy arms or does nothing.

The kind is installed without its schema here: an older version, or a careless upgrade, may leave objects behind that
today's rules would refuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.arming.conftest import ARMING
from tests.deploy.arming.pods import (
    BINDINGS,
    HOOK,
    IMAGE,
    TOKEN,
    agent,
    container,
    create,
    notes,
    pod_of,
    pre_stop,
    template,
)
from tests.deploy.manifests import DEPLOY
from tests.lab import Lab
from tests.lab.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]

HTTP = {"mode": "HTTP", "maxCallDuration": "30m"}
GAUGE = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}

AGENTS = {
    "no drain": agent(None),  # type: ignore[arg-type]
    "a drain that is a text": agent("HTTP"),  # type: ignore[arg-type]
    "a drain that is a list": agent([]),  # type: ignore[arg-type]
    "an empty drain": agent({}),
    "no mode": agent({"port": 9909}),
    "another mode": agent({"mode": "Magic"}),
    "a mode that is a number": agent({"mode": 7}),
    "another inject": agent(HTTP | {"inject": "Webhook"}),
    "an inject that is a number": agent(HTTP | {"inject": 1}),
    "a port beyond all ports": agent(HTTP | {"port": 70000}),
    "a port below": agent(HTTP | {"port": -1}),
    "a port that is a text": agent(HTTP | {"port": "http"}),
    "a port that is a fraction": agent(HTTP | {"port": 9909.5}),
    "a port that is huge": agent(HTTP | {"port": 2**62}),
    "a length that is a number": agent({"mode": "HTTP", "maxCallDuration": 30}),
    "a length that is none": agent({"mode": "HTTP", "maxCallDuration": "soon"}),
    "a length beyond all numbers": agent({"mode": "HTTP", "maxCallDuration": "9" * 18 + "d"}),
    "a long text of lengths": agent({"mode": "HTTP", "maxCallDuration": "999999d" * 5000}),
    "a settle that is a list": agent(HTTP | {"settle": []}),
    "a teardown below zero": agent(HTTP | {"teardown": "-5s"}),
    "a pause without a length": agent({"mode": "Sleep"}),
    "a pause of years": agent({"mode": "Sleep", "maxCallDuration": "999999d"}),
    "a command of no words": agent({"mode": "Exec", "command": []}),
    "a command that is a text": agent({"mode": "Exec", "command": "wait"}),
    "a command of numbers": agent({"mode": "Exec", "command": [1, None]}),
    "a gauge that is a text": agent({**GAUGE, "gauge": "calls"}),
    "a gauge of nothing": agent({**GAUGE, "gauge": {}}),
    "a gauge of a number": agent({**GAUGE, "gauge": {"metric": 3}}),
    "a gauge with a witness that is a list": agent({**GAUGE, "gauge": {"metric": "a", "zeroIfPresent": ["b"]}}),
    "a gauge at a number": agent({**GAUGE, "gauge": {"metric": "a", "path": 3}}),
    "a gauge with half a Secret": agent({**GAUGE, "gauge": {"metric": "a", "authorizationSecret": {"name": "x"}}}),
    "a gauge with no Secret's name": agent(
        {**GAUGE, "gauge": {"metric": "a", "authorizationSecret": {"name": "A B", "key": "x y"}}}
    ),
    "a gauge without a port": agent({"mode": "Gauge", "gauge": {"metric": "a"}}),
    "a gauge on a port that is a text": agent({**GAUGE, "port": "x"}),
    "a container that is a number": agent(HTTP, container=3),
    "an empty container": agent(HTTP, container=""),
}
STATUSES: dict[str, Any] = {
    "a status that is a text": "ok",
    "agents that are a text": {"agents": "x", "gaugeImage": IMAGE},
    "agents without names": {"agents": [{}], "gaugeImage": IMAGE},
    "a token that is a number": {"agents": [{"kind": "Deployment", "name": "agent", "drainToken": 7}]},
    "a token of two lines": {"agents": [{"kind": "Deployment", "name": "agent", "drainToken": "a\r\nHost: b"}]},
    "a token that is long": {"agents": [{"kind": "Deployment", "name": "agent", "drainToken": "a" * 100_000}]},
    "an image that is a number": {"gaugeImage": 7},
    "an image of two words": {"gaugeImage": "a b"},
    "an empty image": {"gaugeImage": ""},
}
SPECS: dict[str, Any] = {
    "no agents": {},
    "agents that are a text": {"agents": "agent"},
    "agents that are texts": {"agents": ["agent"]},
    "agents without names": {"agents": [{"drain": HTTP}]},
    "agents of no kind": {"agents": [{"name": "agent", "drain": HTTP}]},
    "the same agent twice": {"agents": [agent(HTTP), agent({"mode": "Signal"})]},
}
PODS = {
    "plain": template(),
    "rich": template(
        container("agent", env=[{"name": "A", "value": "b"}], lifecycle={"postStart": {"sleep": {"seconds": 1}}}),
        container("b"),
        annotations={"a": "b"},
        initContainers=[container("i")],
    ),
    "windows": template(os={"name": "windows"}),
}


@pytest.fixture(scope="module")
def lax(own_control_plane: None) -> Iterator[Lab]:  # noqa: ARG001
    """A lab whose VoiceKeyBinding may say anything."""
    with Lab.start(nodes=0, scheduler=False) as lab:
        crd = yaml.safe_load((DEPLOY.parent / "crds" / "voicekeys.dev_voicekeybindings.yaml").read_text())
        (version,) = crd["spec"]["versions"]
        free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version |= {"schema": {"openAPIV3Schema": free}, "additionalPrinterColumns": [], "subresources": {}}
        lab.apply(crd)
        lab.kubectl("apply", "-f", ARMING, "--server-side")
        lab.make_namespace("warm-up")
        _put(lab, "warm-up", {"agents": [agent(HTTP)]}, {})
        eventually(lambda: pre_stop(_pod(lab, "warm-up", template())), "the policy to arm pods", seconds=30, pause=0.1)
        yield lab


def _put(lab: Lab, namespace: str, spec: Any, status: Any) -> None:
    binding = {"apiVersion": "voicekeys.dev/v1alpha1", "kind": "VoiceKeyBinding", "metadata": {"name": "frejun"}}
    lab.api("POST", BINDINGS.format(namespace), {**binding, "spec": spec, "status": status})


def _pod(lab: Lab, namespace: str, made: Object) -> Object:
    return create(lab, namespace, pod_of("Deployment", "agent", made))


_GOOD = {"agents": [{"kind": "Deployment", "name": "agent", "drainToken": TOKEN}], "gaugeImage": IMAGE}
_ODD = [
    *((f"agent: {says}", {"agents": [one]}, _GOOD) for says, one in AGENTS.items()),
    *((f"spec: {says}", spec, _GOOD) for says, spec in SPECS.items()),
    *((f"status: {says}", {"agents": [agent(HTTP)]}, status) for says, status in STATUSES.items()),
    *((f"gauge, status: {says}", {"agents": [agent(GAUGE)]}, status) for says, status in STATUSES.items()),
    ("spec: a text", "x", _GOOD),
    ("spec: none", None, _GOOD),
]


@pytest.fixture(scope="module")
def odd(lax: Lab) -> Lab:
    """That lab with a namespace for each odd binding, once the API server has read them all."""
    for number, (_, spec, status) in enumerate(_ODD):
        lax.make_namespace(f"odd-{number}")
        _put(lax, f"odd-{number}", spec, status)
    lax.make_namespace("last")
    _put(lax, "last", {"agents": [agent(HTTP)]}, _GOOD)
    eventually(
        lambda: pre_stop(_pod(lax, "last", template())) == HOOK, "the bindings to be read", seconds=30, pause=0.1
    )
    return lax


@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize(("number", "says"), [(number, one[0]) for number, one in enumerate(_ODD)], ids=str)
def test_a_pod_is_made(odd: Lab, number: int, says: str, pod: str) -> None:  # noqa: ARG001
    made = _pod(odd, f"odd-{number}", PODS[pod])
    # Armed as a whole, or not at all.
    mode = notes(made).get("voicekeys.dev/armed")
    assert (pre_stop(made) is not None) == (mode not in {None, "Signal"})
    assert ("initContainers" in made["spec"] and made["spec"]["initContainers"][0]["name"] == "voicekeys-gauge") == (
        mode == "Gauge"
    )


def test_a_missing_kind_blocks_nothing(own_control_plane: None) -> None:  # noqa: ARG001
    """The policy without the CRD, as after a careless uninstall."""
    with Lab.start(nodes=0, scheduler=False) as lab:
        lab.kubectl("apply", "-f", ARMING, "--server-side")
        lab.make_namespace("tenant")
        for _ in range(20):
            assert notes(_pod(lab, "tenant", template())) == {}


def test_the_cases_show_both_outcomes(odd: Lab) -> None:
    armed = ["voicekeys.dev/armed" in notes(_pod(odd, f"odd-{number}", template())) for number in range(len(_ODD))]
    assert set(armed) == {True, False}
