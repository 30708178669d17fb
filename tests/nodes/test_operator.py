"""The main job on real nodes: the operator in pods of its own image, installed by deploy/, agents with live calls."""

from __future__ import annotations

import base64
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.processes import eventually
from tests.nodes.operators import holder, leader, process_of
from tests.nodes.pods import DRAIN
from tests.reconcilers import objects
from tests.reconcilers.harness import HOME
from voicekeys.clients.kube.lease import STEADY_SECONDS

if TYPE_CHECKING:
    from tests.lab.nodes import RealNodes
    from tests.nodes.stage import Stage

CALL = 10
HEARD_SECONDS = 5
LEADS_AGAIN_SECONDS = 8  # a Lease that expires takes 12.6 at least; the container's new start is in it
REPLICAS = 2
KEY = "voice"


def put(stage: Stage, value: str) -> int:
    """Put a version of the key into Vault."""
    return stage.lab.put_key(f"{stage.namespace}/{KEY}", api_key=value)


def status(stage: Stage) -> dict[str, Any]:
    """The binding's status."""
    path = f"/apis/voicekeys.dev/v1alpha1/namespaces/{stage.namespace}/voicekeybindings/{KEY}"
    found: dict[str, Any] = stage.lab.api("GET", path).get("status", {})
    return found


@pytest.mark.usefixtures("operator")
def test_a_key_change_lets_every_call_end(stage: Stage) -> None:
    """Key put → Secret → rolling update on real kubelets; the status says so when the last old pod has ended."""
    put(stage, "first")
    rule = objects.rule("own", stage.namespace, stage.namespace)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "voicekeys-reader"}}
    stage.apply(account)
    stage.lab.apply(objects.store(stage.namespace, stage.lab.vault_addr, [rule]))
    target = {"target": {"data": {"API_KEY": "api_key"}}, "agents": [objects.agent()]}
    stage.lab.apply(objects.binding(stage.namespace, KEY, f"{stage.namespace}/{KEY}", stage.namespace, **target))
    env = [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": KEY, "key": "API_KEY"}}}]
    plan = {"hook": {"hold": CALL}, "linger": 1}
    old = stage.deploy("agent", stage.container(plan, pre_stop=DRAIN, env=env), replicas=REPLICAS, grace=60)
    assert {stage.witness.first(name, "started").details["key"] for name in old} == {"first"}
    eventually(lambda: status(stage).get("agents"), "the workload in the binding's status", 60)

    version = put(stage, "second")
    changed = time.time()

    hooks = {name: stage.witness.wait(name, "request", path="/drain", seconds=90).at for name in old}
    secret = stage.lab.api("GET", f"/api/v1/namespaces/{stage.namespace}/secrets/{KEY}")
    assert base64.b64decode(secret["data"]["API_KEY"]) == b"second"
    done = eventually(lambda: finished(stage, version), "the change to be told finished", 120, pause=0.05)
    assert done is not None
    told = time.time()
    ends = {name: stage.witness.last_sign(name) for name in old}
    new = [each["metadata"]["name"] for each in stage.pods("agent") if "deletionTimestamp" not in each["metadata"]]
    print(f"rotation {told - changed:.1f} s, last old pod ended {told - max(ends.values()):.1f} s before it was told")

    for name in old:
        assert stage.witness.first(name, "sigterm").at - hooks[name] >= CALL, f"a call of {name} was cut"
    assert max(ends.values()) < told
    assert done["pods"] == REPLICAS
    assert done["unwitnessed"] == 0
    assert len(new) == REPLICAS
    assert {stage.witness.wait(name, "started").details["key"] for name in new} == {"second"}


def finished(stage: Stage, version: int) -> dict[str, Any] | None:
    """The finished change to a version, once the status tells of it."""
    history = status(stage).get("history") or []
    return next((each for each in history if each["toVersion"] == version), None)


@pytest.mark.usefixtures("operator")
def test_a_new_binding_is_heard_of_at_once(nodes: RealNodes) -> None:
    """By the watch: the lists against its gaps come ten minutes apart. In the image, with its user and its files."""
    pod, _ = eventually(lambda: leader(nodes), "a leader", 60) or ("", "")
    namespace = nodes.lab.make_namespace("heard")
    nodes.lab.apply(objects.binding(namespace, KEY, f"{namespace}/{KEY}", "no-such-store", agents=[]))
    path = f"/apis/voicekeys.dev/v1alpha1/namespaces/{namespace}/voicekeybindings/{KEY}"

    def seen() -> bool:
        found = nodes.lab.api("GET", path)
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    eventually(seen, "a status of the operator's", HEARD_SECONDS)
    assert "the watch of bindings ended" not in nodes.lab.kubectl("-n", HOME, "logs", pod, "--tail=-1")


@pytest.mark.usefixtures("operator")
def test_a_leader_whose_process_dies_leads_again_in_its_container(nodes: RealNodes) -> None:
    """Its Lease is its own still: nobody waits for it to expire."""
    # In new pods: a kubelet lets a container that has ended before wait for ten seconds and more.
    nodes.lab.kubectl("-n", HOME, "rollout", "restart", "deployment/voicekeys-operator")
    nodes.lab.kubectl("-n", HOME, "rollout", "status", "deployment/voicekeys-operator", "--timeout=120s")
    pod, before = eventually(lambda: leader(nodes), "a leader", 60) or ("", "")
    time.sleep(STEADY_SECONDS)  # one that did not last would leave the Lease to the other replica
    began = time.monotonic()
    os.kill(process_of(pod), signal.SIGKILL)
    eventually(lambda: holder(nodes) != before, "the Lease is held anew", LEADS_AGAIN_SECONDS)
    took = time.monotonic() - began
    after = holder(nodes)
    assert after.rpartition("_")[0] == before.rpartition("_")[0], "another pod took the Lease"
    print(f"leads again after {took:.1f} s")
