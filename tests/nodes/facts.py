"""What a kubelet and its controllers do with pods that end: each fact a scene that plays it and asserts it.

The numbers are those of `reference/facts.md` §1, which the design rests on. Where a scene fails, a Kubernetes behaves
otherwise than this project takes for granted. Times are told by the agents themselves; `NOW` is how late "at once" may
be on a machine that is busy with all the other scenes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.http import ApiError
from tests.lab.processes import eventually
from tests.nodes.pods import DRAIN, probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nodes.stage import Stage

NOW = 1.5
FACTS: dict[str, Callable[[Stage], None]] = {}


def fact(scene: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Take a scene into the table, by its name."""
    FACTS[scene.__name__] = scene
    return scene


def near(seconds: float) -> object:
    """Return what compares equal to a time that is not early and hardly late."""
    return pytest.approx(seconds + NOW / 2, abs=NOW / 2 + 0.2)


@fact
def k1_sigterm_waits_for_the_answer_of_the_hook(stage: Stage) -> None:
    stage.run("k1", stage.container({"hook": {"hold": 8}}, pre_stop=DRAIN))
    stage.delete("k1")

    hook = stage.witness.wait("k1", "request", path="/drain")
    assert stage.witness.wait("k1", "sigterm").at - hook.at == near(8)


@fact
def k2_a_hook_that_answers_503_has_answered(stage: Stage) -> None:
    stage.run("k2", stage.container({"hook": {"status": 503}}, pre_stop=DRAIN))
    stage.delete("k2")

    hook = stage.witness.wait("k2", "request", path="/drain")
    assert stage.witness.wait("k2", "sigterm").at - hook.at == near(0)


@fact
def k3_a_body_is_read_no_further_than_10_kib(stage: Stage) -> None:
    stage.run("k3", stage.container({"hook": {"trickle": 2048}}, pre_stop=DRAIN))
    stage.delete("k3")

    sigterm = stage.witness.wait("k3", "sigterm")
    sent = [each.details["sent"] for each in stage.witness.events("k3", "trickled") if each.at <= sigterm.at]
    assert 8 * 1024 <= sent[-1] <= 12 * 1024, f"SIGTERM after {sent}"


@fact
def k3_a_body_declared_longer_than_10_kib_is_not_read(stage: Stage) -> None:
    stage.run("k3-declared", stage.container({"hook": {"trickle": 2048, "declared": True}}, pre_stop=DRAIN))
    stage.delete("k3-declared")

    hook = stage.witness.wait("k3-declared", "request", path="/drain")
    assert stage.witness.wait("k3-declared", "sigterm").at - hook.at == near(0)


@fact
def k4_a_hook_at_a_closed_port_is_none(stage: Stage) -> None:
    stage.run("k4-port", stage.container(pre_stop={"httpGet": {"path": "/drain", "port": 9999}}))
    deleted = stage.delete("k4-port")

    assert stage.witness.wait("k4-port", "sigterm").at - deleted < NOW
    assert not stage.witness.events("k4-port", "request", path="/drain")


@fact
def k4_a_hook_of_a_missing_file_is_none(stage: Stage) -> None:
    stage.run("k4-exec", stage.container(pre_stop={"exec": {"command": ["/no/such/file"]}}))
    deleted = stage.delete("k4-exec")

    # A process is begun all the same, which takes its time.
    assert stage.witness.wait("k4-exec", "sigterm").at - deleted < 2 * NOW


@fact
def k5_a_hook_that_outlives_the_grace_period_gets_two_seconds(stage: Stage) -> None:
    stage.run("k5", stage.container({"hook": {"hold": 60}, "linger": 60}, pre_stop=DRAIN), grace=4)
    stage.delete("k5")

    hook, sigterm = stage.witness.wait("k5", "request", path="/drain"), stage.witness.wait("k5", "sigterm")
    assert sigterm.at - hook.at == near(4)
    eventually(lambda: stage.pod("k5") is None, "k5 gone")
    assert stage.witness.last_sign("k5") - sigterm.at == near(2)


@fact
def k6_a_native_sidecar_ends_after_the_main_container(stage: Stage) -> None:
    hook = {"httpGet": {"path": "/drain", "port": 9910}}
    sidecar = stage.container({"port": 9910}, "sidecar", pre_stop=hook, restartPolicy="Always")
    second = stage.container({"port": 9911}, "second")
    stage.run("k6", stage.container({"linger": 4}), second, initContainers=[sidecar])
    stage.delete("k6")

    main_told, second_told = stage.witness.wait("k6", "sigterm"), stage.witness.wait("k6", "sigterm", "second")
    assert abs(main_told.at - second_told.at) < NOW, "a plain second container is told at once"
    assert stage.witness.wait("k6", "request", "sidecar", path="/drain").at - main_told.at < NOW
    ended = stage.witness.wait("k6", "exiting")
    assert ended.at - main_told.at == near(4)
    assert stage.witness.wait("k6", "sigterm", "sidecar").at >= ended.at


@fact
def k7_a_kubelet_that_restarts_runs_the_hook_again_with_the_full_grace(stage: Stage) -> None:
    """Alone on its node: the restart would disturb the others. Ends with K12: readiness is not asked after it."""
    agent = stage.container({"hook": {"hold": 60}}, pre_stop=DRAIN, readinessProbe=probe("/ready"))
    stage.run("k7", agent, grace=10, node="worker-2")
    stage.delete("k7")
    first = stage.witness.wait("k7", "request", path="/drain")
    time.sleep(4)
    restarted = time.time()
    stage.nodes.restart_kubelet("worker-2")

    again = stage.witness.wait("k7", "request", path="/drain", count=2)
    assert stage.witness.first("k7", "request-ended", path="/drain").at < again.at, "the connection was dropped"
    assert again.at - restarted < 10
    sigterm = stage.witness.wait("k7", "sigterm")
    assert sigterm.at - again.at == near(10)
    assert sigterm.at - first.at > 10 + NOW
    asked = [each.at for each in stage.witness.events("k7", "request", path="/ready")]
    assert any(first.at + NOW < at < restarted for at in asked)
    assert not any(again.at < at for at in asked)


@fact
def k8_a_second_delete_does_not_shorten_a_running_hook(stage: Stage) -> None:
    stage.run("k8", stage.container({"hook": {"hold": 8}}, pre_stop=DRAIN))
    stage.delete("k8")
    hook = stage.witness.wait("k8", "request", path="/drain")
    time.sleep(1)
    stage.delete("k8", grace=1)

    assert stage.witness.wait("k8", "sigterm").at - hook.at == near(8)


@fact
def k9_a_forced_delete_takes_the_object_and_leaves_the_container(stage: Stage) -> None:
    stage.run("k9", stage.container({"hook": {"hold": 10}}, pre_stop=DRAIN))
    stage.delete("k9")
    stage.witness.wait("k9", "request", path="/drain")
    time.sleep(1)
    forced = stage.delete("k9", grace=0)

    assert stage.pod("k9") is None
    time.sleep(4)
    assert stage.witness.last_sign("k9") > forced + 3


@fact
def k10_a_deployment_is_complete_while_its_old_pods_run(stage: Stage) -> None:
    old = stage.deploy("k10", stage.container({"hook": {"hold": 25}}, pre_stop=DRAIN), grace=60)
    stage.restart("k10")
    stage.kubectl("rollout", "status", "deployment/k10", "--timeout=60s")

    assert not any(stage.witness.events(name, "sigterm") for name in old)
    assert len(stage.pods("k10")) == 6
    assert stage.deployment("k10")["status"]["terminatingReplicas"] == 3


@fact
def k11_pods_go_in_the_order_of_their_deletion_cost(stage: Stage) -> None:
    old = stage.deploy("k11", stage.container(pre_stop=DRAIN))
    costs = dict(zip(old, (5, 1, 3), strict=True))
    for name, cost in costs.items():
        stage.kubectl("annotate", "pod", name, f"controller.kubernetes.io/pod-deletion-cost={cost}")
    stage.restart("k11")

    told = {name: stage.witness.wait(name, "request", path="/drain", seconds=90).at for name in old}
    assert sorted(old, key=told.__getitem__) == sorted(old, key=costs.__getitem__)


@fact
def k12_liveness_ends_with_the_deletion_and_readiness_goes_on(stage: Stage) -> None:
    alive, serving = probe("/live"), probe("/ready")
    agent = stage.container({"hook": {"hold": 6}}, pre_stop=DRAIN, livenessProbe=alive, readinessProbe=serving)
    stage.run("k12", agent)
    stage.witness.wait("k12", "request", path="/live", count=2)
    stage.delete("k12")

    hook, sigterm = stage.witness.wait("k12", "request", path="/drain"), stage.witness.wait("k12", "sigterm")
    asked = {path: stage.witness.events("k12", "request", path=path) for path in ("/live", "/ready")}
    assert not [each for each in asked["/live"] if each.at > hook.at + NOW]
    assert len([each for each in asked["/ready"] if hook.at < each.at < sigterm.at]) >= 3


@fact
def k13_a_failed_liveness_probe_runs_the_hook_and_restarts_with_the_new_key(stage: Stage) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "k13"}}
    stage.apply({**secret, "stringData": {"key": "old"}})
    key = {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "k13", "key": "key"}}}
    alive = probe("/live", failures=1)
    plan = {"hook": {"hold": 2}, "ill": 5}
    stage.run("k13", stage.container(plan, pre_stop=DRAIN, livenessProbe=alive, env=[key]), grace=10)
    stage.apply({**secret, "stringData": {"key": "new"}})

    hook, sigterm = stage.witness.wait("k13", "request", path="/drain"), stage.witness.wait("k13", "sigterm")
    assert sigterm.at - hook.at == near(2)
    again = stage.witness.wait("k13", "started", count=2)
    first = stage.witness.first("k13", "started")
    assert (first.details["key"], again.details["key"]) == ("old", "new")
    assert first.uid == again.uid
    stage.delete("k13")


@fact
def k15_grace_cannot_be_extended_after_the_deletion(stage: Stage) -> None:
    stage.run("k15", stage.container({"hook": {"hold": 30}}, pre_stop=DRAIN), grace=6)
    stage.delete("k15")
    hook = stage.witness.wait("k15", "request", path="/drain")
    stage.delete("k15", grace=60)

    found = stage.pod("k15")
    assert found is not None
    assert found["metadata"]["deletionGracePeriodSeconds"] == 6
    with pytest.raises(ApiError, match=r"Forbidden|may not|immutable|pod updates"):
        stage.lab.api("PATCH", stage.path("k15"), {"spec": {"terminationGracePeriodSeconds": 60}})
    assert stage.witness.wait("k15", "sigterm").at - hook.at == near(6)


@fact
def k16_an_endpoint_that_ends_is_not_ready_yet_still_serving(stage: Stage) -> None:
    port = {"name": "http", "port": 80, "targetPort": 9909}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "k16"}}
    stage.apply({**service, "spec": {"selector": {"app": "k16"}, "ports": [port]}})
    stage.run("k16", stage.container({"hook": {"hold": 8}}, pre_stop=DRAIN, readinessProbe=probe("/ready")))
    query = "labelSelector=kubernetes.io/service-name%3Dk16"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{stage.namespace}/endpointslices?{query}"

    def conditions() -> list[dict[str, bool]]:
        found = stage.lab.api("GET", slices)["items"]
        return [endpoint["conditions"] for each in found for endpoint in each.get("endpoints") or []]

    alive = {"ready": True, "serving": True, "terminating": False}
    eventually(lambda: conditions() == [alive], "k16 in its EndpointSlice")
    stage.delete("k16")
    ending = {"ready": False, "serving": True, "terminating": True}
    eventually(lambda: conditions() == [ending], "k16 terminating and serving", seconds=6)
    assert not stage.witness.events("k16", "sigterm")


@fact
def k17_a_udp_flow_stays_with_an_ending_pod_that_is_ready(stage: Stage) -> None:
    assert answers_after_its_deletion(stage, "k17-ready", "sleep 8") == near(8)


def answers_after_its_deletion(stage: Stage, name: str, hook: str) -> float:
    """For how many seconds a pod behind a Service goes on to get a UDP flow's packets, while another pod is there."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
    ports = [{"name": "sip", "protocol": "UDP", "port": 5060}]
    stage.apply({**service, "spec": {"selector": {"app": name}, "ports": ports}})
    address = stage.lab.api("GET", f"/api/v1/namespaces/{stage.namespace}/services/{name}")["spec"]["clusterIP"]
    ready = {"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 1}
    pre_stop = {"exec": {"command": ["sh", "-c", hook]}}
    program = ["python3", "/udp.py"]
    stage.deploy(
        name, stage.container(pre_stop=pre_stop, command=[*program, "serve"], readinessProbe=ready), replicas=2
    )
    caller = stage.container(command=[*program, "call"], env=[{"name": "SERVICE", "value": address}])
    stage.run(f"{name}-caller", caller, node="worker-2")
    pod = stage.witness.wait(f"{name}-caller", "answered").details["by"]
    stage.witness.wait(f"{name}-caller", "answered", by=pod, count=10)
    deleted = stage.delete(pod)
    eventually(lambda: stage.pod(pod) is None, f"{pod} gone")
    return stage.witness.events(f"{name}-caller", "answered", by=pod)[-1].at - deleted


@fact
def k22_a_sleep_hook_waits_in_full(stage: Stage) -> None:
    stage.run("k22", stage.container(pre_stop={"sleep": {"seconds": 4}}))
    deleted = stage.delete("k22")

    assert stage.witness.wait("k22", "sigterm").at - deleted == near(4)
