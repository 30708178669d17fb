"""Whether a pod can have its drain hook: each way in which it cannot, and what its user reads then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.arming.pods import HOOK, IMAGE, TOKEN, container, template
from voicekeys.api.binding import Agent, parse_binding_spec
from voicekeys.policies.hooks import contract_port, drain_token, hook_conflict, is_armed

Object = dict[str, Any]

EXEC = {"exec": {"command": ["/wait"]}}
GAUGE = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}
PORT, TOKEN_ENV = "VOICEKEYS_DRAIN_PORT", "VOICEKEYS_DRAIN_TOKEN"


def agent(drain: Object | None, **fields: Any) -> Agent:
    """Return an agent of the API's model."""
    entry = {"kind": "Deployment", "name": "agent", **fields} | ({"drain": drain} if drain else {})
    return parse_binding_spec({"environment": "e", "source": {"path": "p"}, "agents": [entry]}).agents[0]


def hooked(hook: Object, name: str = "agent") -> Object:
    """Return a container with a preStop."""
    return container(name, lifecycle={"preStop": hook})


def spec(*containers: Object, **more: Any) -> Object:
    """Return a pod spec."""
    found: Object = template(*containers, **more)["spec"]
    return found


def conflict(drain: Object | None, pod: Object, *, image: str | None = IMAGE, **fields: Any) -> str | None:
    """Return the reason of a conflict, after a look at its words."""
    found = hook_conflict("Deployment a/b", agent(drain, **fields), pod, token=TOKEN, gauge_image=image)
    if found is None:
        return None
    assert found.message.startswith("Deployment a/b")
    assert TOKEN not in found.message
    assert ": " in found.message
    return found.reason


@pytest.mark.parametrize(
    ("drain", "pod", "reason"),
    [
        (None, spec(hooked(EXEC)), None),
        ({"mode": "HTTP"}, spec(), None),
        ({"mode": "HTTP"}, spec(hooked(HOOK)), None),
        ({"mode": "HTTP"}, spec(hooked(EXEC)), "OtherHook"),
        ({"mode": "HTTP"}, spec(container("a"), hooked(EXEC, "b")), "OtherHook"),
        ({"mode": "HTTP"}, spec(container(env=[{"name": PORT, "value": "9909"}])), None),
        ({"mode": "HTTP"}, spec(container(env=[{"name": PORT, "value": "9908"}])), "OtherEnvironment"),
        ({"mode": "HTTP"}, spec(container(env=[{"name": TOKEN_ENV, "valueFrom": {}}])), "OtherEnvironment"),
        ({"mode": "HTTP"}, spec(container(env=[{"name": TOKEN_ENV, "value": "theirs"}])), None),
        ({"mode": "Sleep", "maxCallDuration": "9s"}, spec(), None),
        ({"mode": "Sleep", "maxCallDuration": "9s"}, spec(hooked({"sleep": {"seconds": 9}})), None),
        ({"mode": "Sleep", "maxCallDuration": "9s"}, spec(hooked({"sleep": {"seconds": 8}})), "OtherHook"),
        ({"mode": "Sleep", "maxCallDuration": "9s"}, spec(hooked(EXEC)), "OtherHook"),
        ({"mode": "Exec"}, spec(), "HookMissing"),
        ({"mode": "Exec"}, spec(hooked(EXEC)), None),
        ({"mode": "Exec", "command": ["/wait"]}, spec(), None),
        ({"mode": "Exec", "command": ["/wait"]}, spec(hooked(EXEC)), None),
        ({"mode": "Exec", "command": ["/other"]}, spec(hooked(EXEC)), "OtherHook"),
        ({"mode": "Exec", "command": ["/wait"]}, spec(container("a"), hooked(HOOK, "b")), None),
        ({"mode": "Signal"}, spec(hooked(EXEC)), None),
        (GAUGE, spec(), None),
        (GAUGE, spec(os={"name": "windows"}), "GaugeNotOnWindows"),
        (GAUGE, spec(os={"name": "linux"}), None),
        ({"mode": "Gauge", "port": 8080}, spec(), "GaugeUnknown"),
    ],
)
def test_what_stands_in_the_way(drain: Object | None, pod: Object, reason: str | None) -> None:
    assert conflict(drain, pod) == reason


@pytest.mark.parametrize("image", [None, "", "a b"])
def test_a_gauge_needs_an_image_unless_it_is_there(image: str | None) -> None:
    assert conflict(GAUGE, spec(), image=image) == "GaugeImageUnknown"
    assert conflict(GAUGE, spec(initContainers=[container("voicekeys-gauge")]), image=image) is None


def test_only_the_named_container_counts() -> None:
    pod = spec(container("a"), hooked(EXEC, "b"))
    assert conflict({"mode": "HTTP"}, pod, container="a") is None
    assert conflict({"mode": "HTTP"}, pod, container="b") == "OtherHook"
    assert conflict({"mode": "HTTP"}, pod, container="c") == "ContainerMissing"


@pytest.mark.parametrize(
    ("pod", "token"),
    [
        (spec(), TOKEN),
        (spec(hooked(HOOK)), TOKEN),
        (spec(hooked({"httpGet": {"path": "/voicekeys/v1/drain"}})), ""),
        (spec(hooked({"httpGet": {"path": "/other"}})), TOKEN),
        (spec(container(env=[{"name": TOKEN_ENV, "value": "theirs"}])), "theirs"),
        (spec(container(env=[{"name": TOKEN_ENV, "value": ""}])), TOKEN),
    ],
)
def test_the_token_of_a_pod(pod: Object, token: str) -> None:
    assert drain_token(agent({"mode": "HTTP"}), pod, TOKEN) == token


def test_a_token_that_no_header_can_carry_is_none() -> None:
    for made in (None, "", "a b", "a\r\nb", "x" * 129):
        assert drain_token(agent({"mode": "Signal"}), spec(), made) == ""


def test_the_port_of_the_contract() -> None:
    ports = {mode: contract_port(drain) for mode in ("HTTP", "Gauge") if (drain := agent(_of(mode)).drain) is not None}
    assert ports == {"HTTP": 8080, "Gauge": 9909}


def _of(mode: str) -> Object:
    return GAUGE if mode == "Gauge" else {"mode": mode, "port": 8080}


def test_a_pod_says_that_it_is_armed() -> None:
    assert is_armed({"metadata": {"annotations": {"voicekeys.dev/armed": "HTTP"}}})
    for bare in (
        {},
        {"metadata": None},
        {"metadata": {"annotations": None}},
        {"metadata": {"annotations": {"a": "b"}}},
    ):
        assert not is_armed(bare)
