"""One pod, one thing about it or its binding: what arming does then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.arming.pods import (
    HASH,
    HOOK,
    IMAGE,
    TOKEN,
    agent,
    await_arming,
    bind,
    container,
    create,
    env,
    notes,
    part,
    pod_of,
    pre_stop,
    template,
)
from tests.lab.http import ApiError

if TYPE_CHECKING:
    from tests.lab import Lab

Object = dict[str, Any]

HTTP = {"mode": "HTTP", "maxCallDuration": "30m"}
EXEC = {"exec": {"command": ["/wait"]}}
NOT_ARMED = "voicekeys.dev/armed"


def made(lab: Lab, tenant: str, drain: Object, pod: Object | None = None, **more: Any) -> Object:
    """Bind Deployment `agent` and return a pod of it."""
    known = {key: more.pop(key) for key in ("token", "image") if key in more}
    bind(lab, tenant, "frejun", agent(drain, **more), **known)
    await_arming(lab, tenant)
    return create(lab, tenant, pod_of("Deployment", "agent", pod or template()))


# ---- modes


def test_http(armed: Lab, tenant: str) -> None:
    pod = made(armed, tenant, HTTP | {"port": 8081, "settle": "3s"})

    assert pre_stop(pod) == {"httpGet": {**HOOK["httpGet"], "port": 8081}}
    grace = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.annotations['voicekeys.dev/grace-seconds']"}}
    assert env(pod) == {
        "VOICEKEYS_DRAIN_PORT": "8081",
        "VOICEKEYS_DRAIN_TOKEN": TOKEN,
        "VOICEKEYS_SETTLE_SECONDS": "3",
        "VOICEKEYS_GRACE_SECONDS": grace,
    }
    assert notes(pod) == {
        "voicekeys.dev/armed": "HTTP",
        "voicekeys.dev/armed-by": "frejun",
        "voicekeys.dev/grace-seconds": str(1800 + 3 + 10 + 30),
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }


def test_gauge(armed: Lab, tenant: str) -> None:
    gauge = {"jsonPointer": "/a/0", "path": "/s", "scheme": "HTTPS", "authorizationSecret": {"name": "s", "key": "k"}}
    pod = made(
        armed, tenant, {"mode": "Gauge", "port": 8080, "gauge": gauge}, template(initContainers=[container("i")])
    )

    assert pre_stop(pod) == HOOK
    assert env(pod) == {}
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["voicekeys-gauge", "i"]
    sidecar = part(pod, "voicekeys-gauge")
    assert sidecar["image"] == IMAGE
    assert sidecar["command"] == ["python", "-m", "voicekeys.agent.gauge"]
    # More memory than it takes with the longest answer: killed for want of it, it would let calls be cut.
    assert sidecar["resources"]["limits"] == sidecar["resources"]["requests"] == {"cpu": "100m", "memory": "128Mi"}
    known = env(pod, "voicekeys-gauge")
    assert known.pop("VOICEKEYS_GRACE_SECONDS")
    assert known == {
        "VOICEKEYS_GAUGE_URL": "https://127.0.0.1:8080/s",
        "VOICEKEYS_GAUGE_JSON_POINTER": "/a/0",
        "VOICEKEYS_GAUGE_AUTHORIZATION": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}},
        "VOICEKEYS_DRAIN_PORT": "9909",
        "VOICEKEYS_DRAIN_TOKEN": TOKEN,
        "VOICEKEYS_SETTLE_SECONDS": "5",
    }


def test_a_gauge_passes_the_restricted_pod_security(armed: Lab, tenant: str) -> None:
    hard = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    bind(armed, tenant, "frejun", agent({"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}))
    await_arming(armed, tenant)
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    armed.api("PATCH", f"/api/v1/namespaces/{tenant}", label)

    with pytest.raises(ApiError, match=r'violates PodSecurity .*container "agent"') as refused:
        create(armed, tenant, pod_of("Deployment", "agent", template()))
    assert "voicekeys-gauge" not in str(refused.value)
    pod = create(armed, tenant, pod_of("Deployment", "agent", template(container(securityContext=hard))))
    assert part(pod, "voicekeys-gauge")


def test_a_gauge_leaves_a_guaranteed_pod_its_class(armed: Lab, tenant: str) -> None:
    size = {"cpu": "2", "memory": "1Gi"}
    resources = {"requests": size, "limits": size}
    gauge = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}

    pod = made(armed, tenant, gauge, template(container(resources=resources)))

    assert pod["status"]["qosClass"] == "Guaranteed"


def test_sleep(armed: Lab, tenant: str) -> None:
    pod = made(armed, tenant, {"mode": "Sleep", "maxCallDuration": "1m30s"})
    assert pre_stop(pod) == {"sleep": {"seconds": 90}}
    assert env(pod) == {}


def test_exec_runs_in_the_agents_container_alone(armed: Lab, tenant: str) -> None:
    drain = {"mode": "Exec", "command": ["/wait"]}
    pod = made(armed, tenant, drain, template(container("a"), container("b")), container="b")
    assert (pre_stop(pod, "a"), pre_stop(pod, "b")) == (None, EXEC)


def test_signal_has_no_hook(armed: Lab, tenant: str) -> None:
    pod = made(armed, tenant, {"mode": "Signal", "maxCallDuration": "1d1h"})
    assert pre_stop(pod) is None
    assert pod["spec"]["terminationGracePeriodSeconds"] == 90_000 + 45
    assert notes(pod)["voicekeys.dev/armed"] == "Signal"


# ---- the user's own wins


def test_a_preStop_of_the_users_stays_and_the_pod_does_not_say_armed(armed: Lab, tenant: str) -> None:  # noqa: N802
    pod = made(armed, tenant, HTTP, template(container(lifecycle={"preStop": EXEC})))
    assert pre_stop(pod) == EXEC
    assert env(pod) == {}
    assert NOT_ARMED not in notes(pod)
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1845


def test_a_postStart_of_the_users_stays_beside_our_preStop(armed: Lab, tenant: str) -> None:  # noqa: N802
    pod = made(armed, tenant, HTTP, template(container(lifecycle={"postStart": EXEC})))
    assert part(pod)["lifecycle"] == {"postStart": EXEC, "preStop": HOOK}


def test_a_longer_grace_of_the_users_stays(armed: Lab, tenant: str) -> None:
    pod = made(armed, tenant, HTTP, template(terminationGracePeriodSeconds=7200))
    assert pod["spec"]["terminationGracePeriodSeconds"] == 7200
    assert notes(pod)["voicekeys.dev/grace-seconds"] == "7200"


def test_a_token_of_the_users_is_what_the_hook_carries(armed: Lab, tenant: str) -> None:
    own = [{"name": "VOICEKEYS_DRAIN_TOKEN", "value": "theirs"}]
    pod = made(armed, tenant, HTTP, template(container(env=own)))
    assert env(pod)["VOICEKEYS_DRAIN_TOKEN"] == "theirs"
    assert pre_stop(pod)["httpGet"]["httpHeaders"] == [{"name": "X-Voicekeys-Token", "value": "theirs"}]


def test_a_hook_of_the_users_without_a_token_brings_none_to_the_agent(armed: Lab, tenant: str) -> None:
    """An agent that asked for a token would refuse that hook, and a refused hook is no drain (facts K2)."""
    own = {"httpGet": {"path": "/voicekeys/v1/drain", "port": 9909, "scheme": "HTTP"}}
    pod = made(armed, tenant, HTTP, template(container(lifecycle={"preStop": own})))
    assert pre_stop(pod) == own
    assert "VOICEKEYS_DRAIN_TOKEN" not in env(pod)
    assert notes(pod)["voicekeys.dev/armed"] == "HTTP"


def test_marks_of_the_users_for_autoscalers_stay(armed: Lab, tenant: str) -> None:
    own = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
    pod = made(armed, tenant, HTTP, template(annotations=own))
    assert notes(pod)["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"


# ---- what is not known yet, or wrong


def test_without_a_token_the_hook_has_no_header(armed: Lab, tenant: str) -> None:
    pod = made(armed, tenant, HTTP, token=None)
    assert "httpHeaders" not in pre_stop(pod)["httpGet"]
    assert "VOICEKEYS_DRAIN_TOKEN" not in env(pod)


def test_without_the_gauges_image_a_pod_is_not_armed(armed: Lab, tenant: str) -> None:
    gauge = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}, "maxCallDuration": "1m"}
    pod = made(armed, tenant, gauge, image=None)
    assert (pre_stop(pod), pod["spec"].get("initContainers")) == (None, None)
    assert NOT_ARMED not in notes(pod)


def test_a_misnamed_container_leaves_the_pod_unarmed(armed: Lab, tenant: str) -> None:
    pod = made(armed, tenant, HTTP, container="missing")
    assert pre_stop(pod) is None
    assert NOT_ARMED not in notes(pod)


@pytest.mark.parametrize("inject", ["Template", "Off"])
def test_another_inject_leaves_pods_alone(armed: Lab, tenant: str, inject: str) -> None:
    pod = made(armed, tenant, HTTP | {"inject": inject})
    assert notes(pod) == {}
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30


def test_an_agent_without_drain_is_left_alone(armed: Lab, tenant: str) -> None:
    bind(armed, tenant, "frejun", {"kind": "Deployment", "name": "agent"})
    await_arming(armed, tenant)
    assert notes(create(armed, tenant, pod_of("Deployment", "agent", template()))) == {}


def test_a_suspended_binding_arms(armed: Lab, tenant: str) -> None:
    """Arming protects calls: suspending reads of Vault must not take that away."""
    bind(armed, tenant, "frejun", agent(HTTP))
    path = f"/apis/voicekeys.dev/v1alpha1/namespaces/{tenant}/voicekeybindings/frejun"
    armed.api("PATCH", path, {"spec": {"suspend": True}})
    await_arming(armed, tenant)
    assert pre_stop(create(armed, tenant, pod_of("Deployment", "agent", template()))) == HOOK


# ---- whose pod it is


@pytest.mark.parametrize(
    ("says", "pod", "is_ours"),
    [
        ("its ReplicaSet", pod_of("Deployment", "agent", template()), True),
        ("a ReplicaSet of agent-b", pod_of("Deployment", "agent-b", template()), False),
        (
            "a ReplicaSet of agent-b, with a hash as if it were agent's",
            pod_of("Deployment", "agent", template(), hash_label="b-7d9f", owner="agent-b-7d9e"),
            False,
        ),
        ("a ReplicaSet by hand", pod_of("Deployment", "agent", template(), owner="agent"), False),
        ("a StatefulSet of that name", pod_of("StatefulSet", "agent", template()), False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pod_is_its_deployments_by_owner_and_hash(
    armed: Lab, tenant: str, says: str, pod: Object, *, is_ours: bool
) -> None:
    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)
    assert (pre_stop(create(armed, tenant, pod)) == HOOK) == is_ours, says


def test_an_owner_that_does_not_control_is_none(armed: Lab, tenant: str) -> None:
    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)
    pod = pod_of("Deployment", "agent", template())
    pod["metadata"]["ownerReferences"][0]["controller"] = False
    assert notes(create(armed, tenant, pod)) == {}


def test_a_binding_of_another_namespace_is_none(armed: Lab, tenant: str) -> None:
    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)
    other = armed.make_namespace(f"{tenant}-other")
    assert notes(create(armed, other, pod_of("Deployment", "agent", template()))) == {}


# ---- several bindings of one workload


def test_the_first_arms_and_the_longest_grace_holds(armed: Lab, tenant: str) -> None:
    """Whichever the API server asks first: hook, token and settings are of one, the grace period of the longest."""
    calls = {"short": "1m", "long": "2h"}
    for name, length in calls.items():
        bind(armed, tenant, name, agent({"mode": "HTTP", "maxCallDuration": length}), token=f"of-{name}")
    await_arming(armed, tenant)

    pod = create(armed, tenant, pod_of("Deployment", "agent", template()))

    first = notes(pod)["voicekeys.dev/armed-by"]
    assert first in calls
    assert env(pod)["VOICEKEYS_DRAIN_TOKEN"] == f"of-{first}"
    assert pre_stop(pod)["httpGet"]["httpHeaders"][0]["value"] == f"of-{first}"
    names = [one["name"] for one in part(pod)["env"]]
    assert len(names) == len(set(names))
    assert pod["spec"]["terminationGracePeriodSeconds"] == 7200 + 45
    assert notes(pod)["voicekeys.dev/grace-seconds"] == str(7200 + 45)


def test_two_modes_do_not_mix(armed: Lab, tenant: str) -> None:
    gauge = {"mode": "Gauge", "port": 8080, "gauge": {"metric": "calls"}}
    bind(armed, tenant, "a", agent({"mode": "Sleep", "maxCallDuration": "1m"}))
    bind(armed, tenant, "b", agent(gauge))
    await_arming(armed, tenant)

    pod = create(armed, tenant, pod_of("Deployment", "agent", template()))

    sleeps = pre_stop(pod) == {"sleep": {"seconds": 60}}
    assert notes(pod)["voicekeys.dev/armed"] == ("Sleep" if sleeps else "Gauge")
    assert ("initContainers" in pod["spec"]) != sleeps
    assert notes(pod)["voicekeys.dev/armed-by"] == ("a" if sleeps else "b")


def test_one_binding_of_two_workloads_of_a_name(armed: Lab, tenant: str) -> None:
    bind(armed, tenant, "frejun", agent(HTTP), agent({"mode": "Signal"}, "StatefulSet"))
    await_arming(armed, tenant)
    assert pre_stop(create(armed, tenant, pod_of("Deployment", "agent", template()))) == HOOK
    assert pre_stop(create(armed, tenant, pod_of("StatefulSet", "agent", template()))) is None


def test_the_hash_label_is_what_tells(armed: Lab, tenant: str) -> None:
    bind(armed, tenant, "frejun", agent(HTTP))
    await_arming(armed, tenant)
    pod = pod_of("Deployment", "agent", template())
    assert pod["metadata"]["labels"].pop("pod-template-hash") == HASH
    assert notes(create(armed, tenant, pod)) == {}
