"""Which hook a pod has, and where its contract is asked."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from tests import gen
from voicekeys.api.names import ARMED_ANNOTATION
from voicekeys.model.hook import DrainHook, Endpoint, HookKind, Token

SECRET = "workload-token"
HEADERS = [{"name": "X-Voicekeys-Token", "value": SECRET}]
OURS = {"path": "/voicekeys/v1/drain", "port": 9909, "httpHeaders": HEADERS}


def container(name: str = "agent", **fields: Any) -> gen.Object:
    return {"name": name, **fields}


def hooked(name: str = "agent", **action: Any) -> gen.Object:
    return container(name, lifecycle={"preStop": action})


def pod_of(*containers: gen.Object, **spec: Any) -> Any:
    return gen.pod(
        "a", gen.put("spec.containers", list(containers)), *(gen.put(f"spec.{k}", v) for k, v in spec.items())
    )


def of(kind: HookKind, name: str = "agent") -> DrainHook:
    return DrainHook(kind, name)


CONTRACT = DrainHook(HookKind.CONTRACT, "agent", 9909, Token(SECRET))
NAMED = container(ports=[{"containerPort": 8080}, {"name": "drain", "containerPort": 9910}])
HOOKS: dict[str, tuple[list[gen.Object], DrainHook | None, tuple[str, ...]]] = {
    "none": ([container()], None, ("agent",)),
    "only a postStart": ([container(lifecycle={"postStart": {"exec": {}}})], None, ("agent",)),
    "ours": ([hooked(httpGet=OURS)], CONTRACT, ()),
    "ours, as bearer": (
        [hooked(httpGet=OURS | {"httpHeaders": [{"name": "authorization", "value": f"Bearer {SECRET}"}]})],
        CONTRACT,
        (),
    ),
    "ours, without a token": (
        [hooked(httpGet={"path": OURS["path"], "port": 9909})],
        DrainHook(HookKind.CONTRACT, "agent", 9909),
        (),
    ),
    "ours, with another authorization": (
        [hooked(httpGet=OURS | {"httpHeaders": [{"name": "Authorization", "value": "Basic eA=="}]})],
        DrainHook(HookKind.CONTRACT, "agent", 9909),
        (),
    ),
    "ours, with what no header can carry": (
        [hooked(httpGet=OURS | {"httpHeaders": [{"name": "X-Voicekeys-Token", "value": "a\r\nHost: b"}]})],
        DrainHook(HookKind.CONTRACT, "agent", 9909),
        (),
    ),
    "ours, at a named port": (
        [NAMED | {"lifecycle": {"preStop": {"httpGet": {"path": OURS["path"], "port": "drain"}}}}],
        DrainHook(HookKind.CONTRACT, "agent", 9910),
        (),
    ),
    "a port that nobody named": ([hooked(httpGet=OURS | {"port": "drain"})], of(HookKind.HTTP), ()),
    "another path": ([hooked(httpGet=OURS | {"path": "/stop"})], of(HookKind.HTTP), ()),
    "another host": ([hooked(httpGet=OURS | {"host": "10.0.0.1"})], of(HookKind.HTTP), ()),
    "over TLS": ([hooked(httpGet=OURS | {"scheme": "HTTPS"})], of(HookKind.HTTP), ()),
    "exec": ([hooked(exec={"command": ["x"]})], of(HookKind.EXEC), ()),
    "sleep": ([hooked(sleep={"seconds": 5})], of(HookKind.SLEEP), ()),
    "tcp": ([hooked(tcpSocket={})], of(HookKind.TCP), ()),
    "ours behind another's": ([hooked("proxy", sleep={}), hooked(httpGet=OURS), container("log")], CONTRACT, ("log",)),
    "two of others": ([hooked("proxy", sleep={}), hooked(exec={})], of(HookKind.SLEEP, "proxy"), ()),
}


@pytest.mark.parametrize(("containers", "hook", "unhooked"), HOOKS.values(), ids=HOOKS)
def test_hooks(containers: list[gen.Object], hook: DrainHook | None, unhooked: tuple[str, ...]) -> None:
    pod = pod_of(*containers)
    assert (pod.hook, pod.unhooked) == (hook, unhooked)


def test_a_native_sidecar_s_hook_holds_nobody() -> None:
    assert pod_of(container(), initContainers=[hooked("proxy", httpGet=OURS)]).hook is None


def test_where_a_pod_is_asked() -> None:
    pod = gen.pod(
        "a",
        gen.put("spec.containers", [hooked(httpGet=OURS)]),
        gen.put("status.podIP", "10.1.2.3"),
        gen.put("metadata.annotations", {ARMED_ANNOTATION: "HTTP"}),
    )
    assert pod.armed == "HTTP"
    assert pod.endpoint() == pod.endpoint(1234) == Endpoint("a", "10.1.2.3", 9909, Token(SECRET))
    assert SECRET not in repr(pod)


def test_where_a_pod_without_a_hook_is_asked() -> None:
    pod = gen.pod("a", gen.put("status.podIP", "10.1.2.3"))
    assert pod.endpoint() is None
    assert pod.endpoint(9909) == Endpoint("a", "10.1.2.3", 9909)
    assert pod_of(hooked(sleep={})).endpoint() is None


def test_a_token_is_compared_and_not_shown() -> None:
    token = Token(SECRET)
    assert token == Token(SECRET)
    assert token != Token("other")
    assert token != SECRET
    assert token.reveal() == SECRET
    assert SECRET not in f"{token} {token!r} {token:>20}"
    with pytest.raises(TypeError):
        hash(token)
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(token)


def state(name: str = "agent", restarts: int = 0, **what: Any) -> gen.Object:
    return {"name": name, "restartCount": restarts, "state": what}


def ended(seconds: float) -> gen.Object:
    return {"exitCode": 0, "finishedAt": gen.text(gen.at(seconds))}


UP: gen.Object = {"running": {}}
ENDS: dict[str, tuple[list[gen.Object], tuple[bool, int, float | None]]] = {
    "both run": ([state(**UP), state("b", 2, **UP)], (True, 2, None)),
    "the one with the hook has ended": ([state(terminated=ended(3)), state("b", **UP)], (False, 0, 3)),
    "the other has": ([state(**UP), state("b", terminated=ended(3))], (False, 0, None)),
    "both have": ([state(terminated=ended(3)), state("b", terminated=ended(9))], (False, 0, 3)),
    "nobody knows when": ([state(terminated={"exitCode": 0})], (False, 0, None)),
    "nothing is said": ([], (False, 0, None)),
    "it is being started again": ([state(restarts=1, waiting={"reason": "CrashLoopBackOff"})], (False, 1, None)),
}


@pytest.mark.parametrize(("states", "expected"), ENDS.values(), ids=ENDS)
def test_when_the_agent_s_container_ended(states: list[gen.Object], expected: tuple[bool, int, float | None]) -> None:
    running, restarts, seconds = expected
    containers = [hooked(httpGet=OURS), container("b")]
    pod = gen.pod("a", gen.put("spec.containers", containers), gen.put("status.containerStatuses", states))
    assert (pod.running, pod.restarts) == (running, restarts)
    assert pod.ended_time == (None if seconds is None else gen.at(seconds))


def test_without_a_hook_the_last_container_s_end_counts() -> None:
    states = [state(terminated=ended(3)), state("b", terminated=ended(9))]
    pod = gen.pod("a", gen.put("status.containerStatuses", states))
    assert (pod.ended_time, pod.exit_code) == (gen.at(9), 0)
    states = [state(terminated=ended(3)), state("b", **UP)]
    assert gen.pod("a", gen.put("status.containerStatuses", states)).ended_time is None
