"""What makes a pod finish its calls before it ends: the drain hook and what goes with it, as a patch of a pod template.

``deploy/components/arming/policy.yaml`` does the same at a pod's creation (``drain.inject: Pod``); tests hold both
equal. This one serves ``Template``, which patches the workload, and ``Off``, which says what to write. What the user's
manifest sets always wins; ``policies.hooks.hook_conflict`` says where that leaves a pod without its hook.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from voicekeys.api.binding import Agent, Drain, DrainMode, Gauge
from voicekeys.api.names import (
    ARMED_ANNOTATION,
    ARMED_BY_ANNOTATION,
    DO_NOT_EVICT,
    GAUGE_CONTAINER,
    GRACE_ANNOTATION,
)
from voicekeys.model.hook import DRAIN_PATH, TOKEN_HEADER
from voicekeys.model.workload import DEFAULT_GRACE_SECONDS
from voicekeys.policies.hooks import (
    PORT_ENV,
    TOKEN_ENV,
    agent_containers,
    call_seconds,
    contract_port,
    drain_token,
    has_gauge,
    hook_conflict,
    pre_stop,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

PLACEHOLDER: Final = "the agent's own drain token"
"""Stands where a manifest's hook has to carry the token that the agent has already."""

_GAUGE_RESOURCES: Final = {"cpu": "100m", "memory": "128Mi"}
"""Of the sidecar, as requests and as limits: equal ones leave a pod of class Guaranteed what it is.

It takes 25 MiB at rest and 57 MiB while it reads a JSON document of 4 MiB, the longest answer; killed for want of
memory it would let the calls be cut.
"""


def arming_patch(
    binding: str, agent: Agent, template: Mapping[str, Any], *, token: str | None, gauge_image: str | None
) -> Object | None:
    """Return the JSON merge patch that arms a pod template; None where nothing is to do.

    A list of containers is in it as a whole, so it belongs to the very version of the object that was read: send its
    resourceVersion along. Another binding that has armed the template leaves only the grace period to lengthen.

    Args:
        binding: its name.
        agent: the workload's entry in ``spec.agents``.
        template: ``spec.template`` of the workload, as the API server has it.
        token: ``status.agents[].drainToken``, None where there is none yet.
        gauge_image: ``status.gaugeImage``.
    """
    armed = _armed(binding, agent, template, token, gauge_image)
    if armed is None:
        return None
    had, has = template.get("metadata") or {}, armed["metadata"]
    before, after = had.get("annotations") or {}, has["annotations"]
    notes = {key: value for key, value in after.items() if before.get(key) != value}
    notes |= {key: None for key in before if key not in after}
    spec = {key: value for key, value in armed["spec"].items() if template["spec"].get(key) != value}
    patch = ({"metadata": {"annotations": notes}} if notes else {}) | ({"spec": spec} if spec else {})
    return patch or None


def arming_manifest(binding: str, agent: Agent, template: Mapping[str, Any], *, gauge_image: str | None) -> str | None:
    """Return what to add to a manifest by hand (``drain.inject: Off``), in one line; None where all of it is there.

    It is JSON, which YAML takes as it is, and a strategic merge patch of the workload, which ``kubectl patch`` takes.

    Without a token, which belongs neither into an event nor into a repository: such a hook is open to other pods. Where
    the manifest has one of its own, its place in the hook is named (``PLACEHOLDER``), and so that no API server takes
    the patch as it is: a hook with a wrong token is refused, which a kubelet takes for the end of the drain (facts K2).
    """
    patch = arming_patch(binding, agent, template, token=None, gauge_image=gauge_image)
    if patch is None:
        return None
    spec = patch.get("spec", {})
    for key in ("initContainers", "containers"):
        if key in spec:
            before = {one["name"]: one for one in template["spec"].get(key) or ()}
            spec[key] = [added for one in spec[key] if (added := _added(before.get(one["name"]), one)) is not None]
    patch["spec"] = {key: value for key, value in spec.items() if value}
    lacking = {key: value for key, value in patch.items() if value}
    text = json.dumps({"spec": {"template": lacking}}, ensure_ascii=False, separators=(",", ":"))
    return text if lacking else None


def _added(before: Object | None, after: Object) -> Object | None:
    """Return what a container has got, with its name; a new one as a whole; None for nothing."""
    env = [one for one in after.get("env", []) if one["name"] != TOKEN_ENV]
    if before is None:
        return {**after, "env": env}
    hook = pre_stop(after)
    lifecycle = {} if hook is None or pre_stop(before) == hook else {"lifecycle": {"preStop": _without_token(hook)}}
    added = [one for one in env if one not in before.get("env", [])]
    lacking = lifecycle | ({"env": added} if added else {})
    return {"name": after["name"]} | lacking if lacking else None


def _without_token(hook: Mapping[str, Any]) -> Object:
    get = hook.get("httpGet") or {}
    # No header may have such a name, so that the API server refuses it.
    name = f"{TOKEN_HEADER} (write this name alone)"
    headers = [{"name": name, "value": PLACEHOLDER} for _ in get.get("httpHeaders") or ()]
    return {**hook, "httpGet": {**get, "httpHeaders": headers}} if headers else dict(hook)


def _armed(
    binding: str, agent: Agent, template: Mapping[str, Any], token: str | None, gauge_image: str | None
) -> Object | None:
    """Return the template as it should be."""
    drain = agent.drain
    if drain is None:
        return None
    armed: Object = {"metadata": {**(template.get("metadata") or {})}, "spec": deepcopy(template["spec"])}
    spec = armed["spec"]
    own = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
    needed = int(drain.needed_grace.total_seconds()) if drain.needed_grace else 0
    grace = max(own, needed)
    if grace > own:
        spec["terminationGracePeriodSeconds"] = grace
    notes = dict(armed["metadata"].get("annotations") or {})
    first = notes.get(ARMED_BY_ANNOTATION, binding) == binding
    able = first and hook_conflict("", agent, spec, token=token, gauge_image=gauge_image) is None
    notes = DO_NOT_EVICT | notes | {GRACE_ANNOTATION: str(grace)}
    if able:
        notes |= {ARMED_ANNOTATION: drain.mode.value, ARMED_BY_ANNOTATION: binding}
        _hook(agent, drain, spec, token, gauge_image)
    elif first:
        notes = {key: value for key, value in notes.items() if key not in {ARMED_ANNOTATION, ARMED_BY_ANNOTATION}}
    armed["metadata"]["annotations"] = notes
    return armed


def _hook(agent: Agent, drain: Drain, spec: Object, made: str | None, gauge_image: str | None) -> None:
    """Put the hook, its settings and the gauge into a pod spec.

    Every ordinary container gets the hook, not the agent's alone: one that ended at once could be what the calls go
    through (facts K6). Only Exec runs in the agent's.
    """
    if drain.mode is DrainMode.SIGNAL:
        return
    token = drain_token(agent, spec, made)
    agents = {one["name"] for one in agent_containers(agent, spec)}
    settings = _settings(drain, token)
    for container in spec["containers"]:
        if pre_stop(container) is None and (drain.mode is not DrainMode.EXEC or container["name"] in agents):
            container["lifecycle"] = (container.get("lifecycle") or {}) | {"preStop": _pre_stop(drain, token)}
        if drain.mode is DrainMode.HTTP and container["name"] in agents:
            there = container.get("env") or []
            names = {one["name"] for one in there}
            container["env"] = there + [one for one in settings if one["name"] not in names]
    if drain.mode is DrainMode.GAUGE and not has_gauge(spec) and drain.gauge is not None and drain.port is not None:
        sidecar = _sidecar(drain.gauge, drain.port, settings, gauge_image or "")
        spec["initContainers"] = [sidecar, *(spec.get("initContainers") or [])]


def _pre_stop(drain: Drain, token: str) -> Object:
    if drain.mode is DrainMode.SLEEP:
        return {"sleep": {"seconds": call_seconds(drain)}}
    if drain.mode is DrainMode.EXEC:
        return {"exec": {"command": list(drain.command)}}
    headers = {"httpHeaders": [{"name": TOKEN_HEADER, "value": token}]} if token else {}
    return {"httpGet": {"path": DRAIN_PATH, "port": contract_port(drain), "scheme": "HTTP"} | headers}


def _settings(drain: Drain, token: str) -> list[Object]:
    """Return what the contract's server reads; the grace by an annotation, so that a second binding can lengthen it."""
    grace = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{GRACE_ANNOTATION}']"}}
    return [
        {"name": PORT_ENV, "value": str(contract_port(drain))},
        {"name": "VOICEKEYS_SETTLE_SECONDS", "value": str(int(drain.effective_settle.total_seconds()))},
        {"name": "VOICEKEYS_GRACE_SECONDS", "valueFrom": grace},
        *([{"name": TOKEN_ENV, "value": token}] if token else []),
    ]


def _sidecar(gauge: Gauge, port: int, settings: list[Object], image: str) -> Object:
    """Return the native sidecar, which ends after every ordinary container (facts K6); the first one ends last of all.

    The Secret is optional: a missing one would keep the pod from starting, and a gauge that is refused counts as live
    calls.
    """
    env: list[Object] = [{"name": "VOICEKEYS_GAUGE_URL", "value": gauge.url(port)}]
    if gauge.json_pointer is not None:
        env.append({"name": "VOICEKEYS_GAUGE_JSON_POINTER", "value": gauge.json_pointer})
    else:
        env.append({"name": "VOICEKEYS_GAUGE_METRIC", "value": gauge.metric or ""})
    if gauge.zero_if_present is not None:
        env.append({"name": "VOICEKEYS_GAUGE_ZERO_IF_PRESENT", "value": gauge.zero_if_present})
    if secret := gauge.authorization_secret:
        source = {"secretKeyRef": {"name": secret.name, "key": secret.key, "optional": True}}
        env.append({"name": "VOICEKEYS_GAUGE_AUTHORIZATION", "valueFrom": source})
    return {
        "name": GAUGE_CONTAINER,
        "image": image,
        "command": ["python", "-m", "voicekeys.agent.gauge"],
        "restartPolicy": "Always",
        "env": env + settings,
        "resources": {"requests": dict(_GAUGE_RESOURCES), "limits": dict(_GAUGE_RESOURCES)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
