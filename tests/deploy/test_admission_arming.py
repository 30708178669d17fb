"""What the operator may add to a pod template to arm it (drain.inject: Template), and what a stolen token may not."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.conftest import TENANT, Call
from tests.deploy.refusals import Case, check, names
from tests.deploy.test_admission_workloads import NO_ANNOTATION, NO_CONTAINER, NO_TEMPLATE
from voicekeys.api.binding import Agent, parse_binding_spec
from voicekeys.policies.arming import arming_patch

if TYPE_CHECKING:
    from tests.deploy.manifests import Object
    from tests.lab import Lab

NO_SHORTER = "voicekeys may lengthen a pod's grace period, never shorten it."
NO_ENV = (
    "voicekeys may add to a container's env nothing but VOICEKEYS_DRAIN_PORT, VOICEKEYS_DRAIN_TOKEN, "
    "VOICEKEYS_SETTLE_SECONDS and VOICEKEYS_GRACE_SECONDS, and may change none."
)
NO_HELPER = "voicekeys may add no container but the gauge of drain mode Gauge."
NO_OTHER_GAUGE = "voicekeys may add the gauge only as it makes it, without volumes, rights or variables of other names."
NO_OTHER_IMAGE = "voicekeys may add the gauge only with the image that the operator itself runs."

JSON_PATCH = "application/json-patch+json"
POD = "/spec/template/spec"
HOOK = {"httpGet": {"path": "/voicekeys/v1/drain", "port": 9909}}
IMAGE = "voicekeys/operator:0.1.0"
GAUGE = {
    "name": "voicekeys-gauge",
    "image": IMAGE,
    "command": ["python", "-m", "voicekeys.agent.gauge"],
    "restartPolicy": "Always",
    "env": [{"name": "VOICEKEYS_GAUGE_URL", "value": "http://127.0.0.1:8080/metrics"}],
    "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True},
}

pytestmark = pytest.mark.usefixtures("workloads")


def op(path: str, value: Any, verb: str = "add") -> list[Object]:
    """Return a JSON patch of the pod template's spec."""
    return [{"op": verb, "path": f"{POD}{path}", "value": value}]


def case(says: str, body: list[Object], refusal: str | None) -> Case:
    """A case of a JSON patch."""
    return Case(says, body, refusal, content_type=JSON_PATCH)


def hook(says: str, pre_stop: Object, refusal: str | None) -> Case:
    """A case of a preStop for the container that has none."""
    return case(says, op("/containers/0/lifecycle", {"preStop": pre_stop}), refusal)


def variable(says: str, value: Object, refusal: str | None) -> Case:
    """A case of a variable more for the container that has none."""
    return case(says, op("/containers/0/env", [value]), refusal)


def gauge(says: str, refusal: str | None, **change: Any) -> Case:
    """A case of the gauge with something changed."""
    return case(says, op("/initContainers", [copy.deepcopy(GAUGE) | change]), refusal)


def note(name: str, value: str) -> list[Object]:
    """Return a JSON patch that sets an annotation of the pods."""
    key = name.replace("/", "~1")
    return [{"op": "add", "path": f"/spec/template/metadata/annotations/{key}", "value": value}]


OURS = {"name": "VOICEKEYS_DRAIN_PORT", "value": "9909"}
ALL = {"drop": ["ALL"], "add": ["NET_ADMIN"]}
FROM_SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
FROM_FIELD = {"fieldRef": {"fieldPath": "metadata.annotations['voicekeys.dev/grace-seconds']"}}
HARD = {"allowPrivilegeEscalation": False, "runAsNonRoot": True}


@pytest.mark.parametrize(
    "case",
    [
        hook("the hook", HOOK, None),
        hook("a pause", {"sleep": {"seconds": 5}}, None),
        hook("a command", {"exec": {"command": ["sh"]}}, NO_CONTAINER),
        hook("a request to another path", {"httpGet": {"path": "/admin/stop", "port": 80}}, NO_CONTAINER),
        hook(
            "a request to another host",
            {"httpGet": {"path": "/voicekeys/v1/drain", "port": 80, "host": "10.0.0.1"}},
            NO_CONTAINER,
        ),
        case("a postStart", op("/containers/0/lifecycle", {"postStart": {"sleep": {"seconds": 1}}}), NO_CONTAINER),
        case("a preStop replaced", op("/containers/1/lifecycle/preStop", HOOK, "replace"), NO_CONTAINER),
        case("a preStop taken away", [{"op": "remove", "path": f"{POD}/containers/1/lifecycle"}], NO_CONTAINER),
        case("a container renamed", op("/containers/0/name", "other", "replace"), NO_CONTAINER),
        case("a port", op("/containers/0/ports", [{"containerPort": 9909}]), NO_CONTAINER),
        case("a container less", [{"op": "remove", "path": f"{POD}/containers/0"}], NO_CONTAINER),
        case("a longer grace", op("/terminationGracePeriodSeconds", 1845), None),
        case("the same grace", op("/terminationGracePeriodSeconds", 30), None),
        case("a shorter grace", op("/terminationGracePeriodSeconds", 29), NO_SHORTER),
        case("another volume", op("/volumes", [{"name": "v", "emptyDir": {}}]), NO_TEMPLATE),
        variable("a variable of ours", OURS, None),
        variable("a variable of ours from a field", {"name": "VOICEKEYS_GRACE_SECONDS", "valueFrom": FROM_FIELD}, None),
        variable("a variable from a Secret", {"name": "VOICEKEYS_DRAIN_TOKEN", "valueFrom": FROM_SECRET}, NO_ENV),
        variable("another variable", {"name": "LD_PRELOAD", "value": "/x.so"}, NO_ENV),
        case("a variable changed", op("/containers/1/env/0/value", "9909", "replace"), NO_ENV),
        case("a variable taken away", [{"op": "remove", "path": f"{POD}/containers/1/env/1"}], NO_ENV),
        case("a variable that is there already", op("/containers/1/env/-", OURS), NO_ENV),
        case("an annotation of arming", note("voicekeys.dev/armed", "HTTP"), None),
        case("a mark for autoscalers", note("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), None),
        case("a mark that lets them", note("cluster-autoscaler.kubernetes.io/safe-to-evict", "true"), NO_ANNOTATION),
        case("an annotation like ours", note("voicekeys.dev/other", "1"), NO_ANNOTATION),
        gauge("the gauge", None),
        gauge("another image", NO_OTHER_IMAGE, image="evil:1"),
        gauge("another name", NO_HELPER, name="helper-2"),
        gauge("another command", NO_OTHER_GAUGE, command=["sh"]),
        gauge("arguments", NO_OTHER_GAUGE, args=["-c"]),
        gauge("a privileged gauge", NO_OTHER_GAUGE, securityContext=HARD | {"capabilities": ALL}),
        gauge("a gauge as root", NO_OTHER_GAUGE, securityContext={"allowPrivilegeEscalation": False}),
        gauge("a gauge with another variable", NO_OTHER_GAUGE, env=[{"name": "PYTHONPATH", "value": "/x"}]),
        gauge(
            "a gauge with another Secret",
            NO_OTHER_GAUGE,
            env=[{"name": "VOICEKEYS_DRAIN_TOKEN", "valueFrom": FROM_SECRET}],
        ),
        gauge("the agent's variables", NO_OTHER_GAUGE, envFrom=[{"secretRef": {"name": "s"}}]),
        case("two gauges", op("/initContainers", [GAUGE, GAUGE | {"name": "x"}]), NO_HELPER),
    ],
    ids=names,
)
@pytest.mark.parametrize("kind", ["deployments", "statefulsets", "daemonsets"])
def test_arming_a_template(operator: Call, kind: str, case: Case) -> None:
    check(operator, f"/apis/apps/v1/namespaces/{TENANT}/{kind}/agent", case)


def model(**drain: Any) -> Agent:
    """Return an agent with one container of two."""
    agent = {"kind": "Deployment", "name": "agent", "container": "agent", "drain": drain}
    return parse_binding_spec({"environment": "e", "source": {"path": "p"}, "agents": [agent]}).agents[0]


@pytest.mark.parametrize(
    "agent",
    [
        model(mode="HTTP", maxCallDuration="30m"),
        model(mode="Sleep", maxCallDuration="30s"),
        model(mode="Signal", maxCallDuration="1h"),
        model(
            mode="Gauge",
            port=8080,
            gauge={"metric": "calls", "authorizationSecret": {"name": "s", "key": "k"}},
        ),
    ],
    ids=lambda agent: agent.drain.mode,
)
@pytest.mark.parametrize("kind", ["deployments", "statefulsets", "daemonsets"])
def test_what_the_operator_makes_is_let_through(installed: Lab, operator: Call, kind: str, agent: Agent) -> None:
    path = f"/apis/apps/v1/namespaces/{TENANT}/{kind}/agent"
    template = installed.api("GET", path)["spec"]["template"]
    patch = arming_patch("frejun", agent, template, token="t", gauge_image=IMAGE)
    assert patch is not None
    check(operator, path, Case("", {"spec": {"template": patch}}, None))


@pytest.mark.parametrize("kind", ["deployments", "statefulsets", "daemonsets"])
def test_giving_up_ownership_is_let_through(installed: Lab, operator: Call, kind: str) -> None:
    path = f"/apis/apps/v1/namespaces/{TENANT}/{kind}/agent"
    (entry,) = (one for one in installed.api("GET", path)["metadata"]["managedFields"] if one["manager"] == "lab")
    check(operator, path, Case("", {"metadata": {"managedFields": [entry | {"manager": "renamed"}]}}, None))
