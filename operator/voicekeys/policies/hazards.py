"""Whether a workload's drain hooks do what they are for: what pods answered, and what would cut calls all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voicekeys.api.names import APPROVE_ANNOTATION
from voicekeys.model.verdict import Verdict
from voicekeys.policies.preflight import surge
from voicekeys.policies.words import count, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from voicekeys.model.errors import AgentError
    from voicekeys.model.probe import Probe
    from voicekeys.model.workload import Pod, Workload

MESH_SIDECARS = frozenset({"istio-proxy", "linkerd-proxy", "envoy", "consul-dataplane", "kuma-sidecar"})
"""Names of the containers that meshes inject; as native sidecars (init containers) they outlive the agent (K6)."""
PATIENT_SECONDS = 60
"""A liveness probe that gives up sooner may do so because the agent is busy."""


def unreachable(workload: str, failures: Mapping[str, AgentError]) -> Verdict | None:
    """Say that pods do not serve the contract at the port of their hook.

    Args:
        workload: kind and name.
        failures: the error of each pod that did not answer a probe, by its name.
    """
    if not failures:
        return None
    first = next(iter(failures.values()))
    more = f" ({len(failures)} pods)" if len(failures) > 1 else ""
    return Verdict(
        "NoAnswer" if first.reason == "DrainUnreachable" else first.reason,
        f"{workload}: {first.message}{more}. The kubelet's hook may fail as well, and a hook that fails is no drain: "
        "let the agent serve the contract there (drain.port), and let a NetworkPolicy admit the operator to that port",
    )


def hook_refused(workload: str, probes: Mapping[str, Probe]) -> Verdict | None:
    """Say that an agent refuses the token that its own hook sends: the kubelet would be refused, and end it at once."""
    refused = [pod for pod, probe in probes.items() if not probe.takes_token]
    if not refused:
        return None
    return Verdict(
        "HookRefused",
        f"{workload}: {_names(refused)} would refuse the kubelet's hook, whose token is not the agent's, so that a "
        "restart cuts calls: VOICEKEYS_DRAIN_TOKEN of the agent must be the hook's X-Voicekeys-Token",
    )


def hook_failed(workload: str, pods: Sequence[str]) -> Verdict | None:
    """Say that a hook which nobody but a kubelet can try has failed: its pod got SIGTERM at once (facts K4).

    Args:
        workload: kind and name.
        pods: names of those about which a kubelet said so. Its own words are not shown: they may quote the command's
            output.
    """
    if not pods:
        return None
    its = "its" if len(pods) == 1 else "their"
    return Verdict(
        "HookFailed",
        f"{workload}: the preStop of {_names(pods)} failed (event FailedPreStopHook), so that {its} containers were "
        f"told to end at once, and {its} calls were cut, or may have been. No other restart begins: let the hook's "
        "command be one that is in the image, waits for the last call, does not end the agent itself and exits with 0, "
        f"roll the workload out, then set {APPROVE_ANNOTATION} of the binding to a new value",
    )


def token_not_checked(workload: str, probes: Mapping[str, Probe]) -> Verdict | None:
    """Say that whoever reaches the drain port can end an agent."""
    lax = [pod for pod, probe in probes.items() if not probe.checks_token]
    if not lax:
        return None
    return Verdict(
        "DrainTokenNotChecked",
        f"{workload}: {_names(lax)} took a wrong token, so whoever reaches the drain port can end these agents: let "
        "the agent check VOICEKEYS_DRAIN_TOKEN, which armed pods have",
    )


def not_ready_while_draining(workload: str, pods: Sequence[Pod]) -> Verdict | None:
    """Say that pods turned unready after their deletion while they ran: kube-proxy then cuts UDP calls (facts K17)."""
    turned = [pod.name for pod in pods if _turned_unready(pod)]
    if not turned:
        return None
    return Verdict(
        "NotReadyWhileDraining",
        f"{workload}: {_names(turned)} turned not ready while draining, so that calls by a Service over UDP (SIP, RTP) "
        "are cut: let the readiness probe stay green until the last call ends. After a restart of the kubelet it may "
        "also have stopped probing",
    )


def _turned_unready(pod: Pod) -> bool:
    if not pod.running or pod.ready or pod.deadline is None or pod.ready_time is None:
        return False
    return (pod.deadline - pod.ready_time).total_seconds() < pod.grace_seconds


def mesh_sidecar_cuts_calls(workload: str, pods: Sequence[Pod]) -> Verdict | None:
    """Say that a mesh's proxy is an ordinary container without a hook: it ends at once, with every call (facts K6)."""
    found = sorted({name for pod in pods for name in pod.unhooked if name in MESH_SIDECARS})
    if not found:
        return None
    return Verdict(
        "ClassicSidecar",
        f"{workload}: container {found[0]} gets SIGTERM at the same moment as the agent's hook begins, and takes the "
        "calls with it: run it as a native sidecar (Istio: ENABLE_NATIVE_SIDECARS, Linkerd: "
        "config.beta.linkerd.io/proxy-enable-native-sidecar), or give it a preStop that waits as long",
    )


def liveness_may_cut_calls(workload: Workload, longest_call: timedelta | None) -> Verdict | None:
    """Say that a liveness probe may end an agent that is only busy (facts K13).

    Args:
        workload: the agents' workload.
        longest_call: what the user promised, None for nothing.
    """
    for container in workload.pod_spec.get("containers") or []:
        probe: Mapping[str, Any] = container.get("livenessProbe") or {}
        if not probe:
            continue
        own = probe.get("terminationGracePeriodSeconds")
        needs = workload.grace_seconds if longest_call is None else longest_call.total_seconds()
        if own is not None and own < needs:
            return Verdict(
                "ProbeGraceTooShort",
                f"{workload.id}, container {container['name']}: when its liveness probe fails, its calls have {own} s "
                "to end: take livenessProbe.terminationGracePeriodSeconds away",
            )
        patience = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        if patience < PATIENT_SECONDS and ("httpGet" in probe or "grpc" in probe):
            return Verdict(
                "ImpatientLiveness",
                f"{workload.id}, container {container['name']}: its liveness probe gives up after {patience} s, which "
                "a busy agent may need to answer; the container then drains, takes no calls and is restarted: set "
                f"failureThreshold so that it waits {PATIENT_SECONDS} s or more, or probe what is not busy",
            )
    return None


def host_port_needs_room(workload: Workload) -> Verdict | None:
    """Say that new pods need nodes without an old one: these keep their host ports until their last call ends."""
    more, _ = surge(workload)
    ports = list(_host_ports(workload.pod_spec))
    if workload.id.kind != "Deployment" or not more or not ports:
        return None
    return Verdict(
        "HostPort",
        f"{workload.id} takes host port {ports[0]}: a new pod finds no room on a node whose old pod still finishes "
        f"calls. Give it {workload.replicas + more} nodes for its {count(workload.replicas, 'pod')}, better twice as "
        "many, or a restart waits for calls to end",
    )


def _host_ports(pod_spec: Mapping[str, Any]) -> Iterator[int]:
    network = bool(pod_spec.get("hostNetwork"))
    for container in pod_spec.get("containers") or []:
        for port in container.get("ports") or []:
            taken = port.get("hostPort") or (port.get("containerPort") if network else None)
            if taken:
                yield taken


def _names(pods: Sequence[str]) -> str:
    shown = listed(pods)
    return f"{'pod' if len(pods) == 1 else 'pods'} {shown}"
