"""The drain hook as it is on a pod or a pod template: whether it is there, whether it can do its work.

Everything takes the API server's JSON of a pod spec, of a pod or of a template: both have the same form. The admission
policy (``deploy/components/arming/policy.yaml``) decides the same in CEL; tests hold both equal.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from voicekeys.api.binding import DEFAULT_DRAIN_PORT, Agent, Drain, DrainMode
from voicekeys.api.names import ARMED_ANNOTATION, GAUGE_CONTAINER
from voicekeys.model.hook import DRAIN_PATH, TOKEN_HEADER
from voicekeys.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Spec = Mapping[str, Any]

PORT_ENV: Final = "VOICEKEYS_DRAIN_PORT"
TOKEN_ENV: Final = "VOICEKEYS_DRAIN_TOKEN"  # noqa: S105 - a variable's name

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")


def is_armed(pod: Mapping[str, Any]) -> bool:
    """Whether a pod, or a pod template, says that it has its drain hook (the annotation ``voicekeys.dev/armed``)."""
    return ARMED_ANNOTATION in ((pod.get("metadata") or {}).get("annotations") or {})


def agent_containers(agent: Agent, spec: Spec) -> list[Spec]:
    """Return the containers whose hook makes the drain: the named one, for Exec else the first, otherwise all."""
    containers = list(spec.get("containers") or ())
    if agent.container is not None:
        return [one for one in containers if one["name"] == agent.container]
    exec_only = agent.drain is not None and agent.drain.mode is DrainMode.EXEC
    return containers[:1] if exec_only else containers


def pre_stop(container: Spec) -> Spec | None:
    """Return a container's own preStop, None where it has none."""
    found: Spec | None = (container.get("lifecycle") or {}).get("preStop")
    return found


def contract_port(drain: Drain) -> int:
    """Return where a pod's drain contract is served."""
    return drain.contract_port or DEFAULT_DRAIN_PORT


def drain_token(agent: Agent, spec: Spec, made: str | None) -> str:
    """Return the token that a request for this pod's drain has to carry; empty: none is known, or none is asked for.

    A hook that is refused answers at once and so is no drain (facts K2). So the token of a hook that is there wins,
    then that of the agent's own env, then the operator's.

    Args:
        agent: with its drain.
        spec: of the pod or the template.
        made: ``status.agents[].drainToken``.
    """
    containers = agent_containers(agent, spec)
    hooks = [hook for one in containers if _path(hook := pre_stop(one) or {}) == DRAIN_PATH]
    if hooks:
        headers = hooks[0]["httpGet"].get("httpHeaders") or ()
        return next((str(one["value"]) for one in headers if one["name"].lower() == TOKEN_HEADER.lower()), "")
    if agent.drain is not None and agent.drain.mode is DrainMode.HTTP:
        given = (one["value"] for each in containers for one in _variables(each, TOKEN_ENV) if one.get("value"))
        if (found := next(given, "")) != "":
            return str(found)
    return made if made and _TOKEN.fullmatch(made) else ""


def hook_conflict(
    where: str, agent: Agent, spec: Spec, *, token: str | None, gauge_image: str | None
) -> Verdict | None:
    """Say why the pods of this spec cannot get the drain hook, or have another one; None where they can, or have it.

    Args:
        where: what the message speaks of, such as ``Deployment voice-prod/receptionist``.
        agent: with its drain.
        spec: of a pod or a template.
        token: ``status.agents[].drainToken``.
        gauge_image: ``status.gaugeImage``.
    """
    drain = agent.drain
    if drain is None:
        return None
    containers = agent_containers(agent, spec)
    if not containers:
        return Verdict(
            "ContainerMissing",
            f"{where} has no container {agent.container}, which spec.agents[].container names: correct the name, or "
            "leave it out if the pod has one container",
        )
    if drain.mode is DrainMode.SIGNAL:
        return None
    return (
        _other_hook(where, drain, containers)
        or _bare_for_good(where, agent, spec, containers, token)
        or (_no_gauge(where, drain, spec, gauge_image) if drain.mode is DrainMode.GAUGE else None)
    )


def has_gauge(spec: Spec) -> bool:
    """Whether there is a container of the sidecar's name."""
    return any(
        one["name"] == GAUGE_CONTAINER for key in ("initContainers", "containers") for one in spec.get(key) or ()
    )


def _other_hook(where: str, drain: Drain, containers: Sequence[Spec]) -> Verdict | None:
    others = [one["name"] for one in containers if (hook := pre_stop(one)) is not None and not _fits(drain, hook)]
    if not others:
        return None
    return Verdict(
        "OtherHook",
        f"{where}, container {', '.join(others)}: your own preStop is another than drain.mode {drain.mode} needs, and "
        "it stays: take it out, or name the agent's container in spec.agents[].container, or write drain.mode Exec if "
        "that hook waits for the calls",
    )


def _fits(drain: Drain, hook: Spec) -> bool:
    """Whether a preStop that is there does what the mode asks for."""
    if drain.mode in {DrainMode.HTTP, DrainMode.GAUGE}:
        return _path(hook) == DRAIN_PATH
    if drain.mode is DrainMode.SLEEP:
        return bool((hook.get("sleep") or {}).get("seconds", 0) >= call_seconds(drain))
    return not drain.command or (hook.get("exec") or {}).get("command") == list(drain.command)


def _bare_for_good(
    where: str, agent: Agent, spec: Spec, containers: Sequence[Spec], made: str | None
) -> Verdict | None:
    """Say why a container without a preStop must not get one."""
    drain = agent.drain
    bare = [one for one in containers if pre_stop(one) is None]
    if not bare or drain is None:
        return None
    if drain.mode is DrainMode.EXEC and not drain.command:
        return Verdict(
            "HookMissing",
            f"{where}, container {bare[0]['name']}: drain.mode Exec without drain.command takes the preStop of your "
            "manifest, and there is none: add one of the two",
        )
    if drain.mode is not DrainMode.HTTP:
        return None
    token = drain_token(agent, spec, made)
    port = str(contract_port(drain))
    wrong = [one for each in containers for one in _variables(each, PORT_ENV) if one.get("value", "") != port]
    wrong += [
        one
        for each in containers
        for one in _variables(each, TOKEN_ENV)
        if "valueFrom" in one or one.get("value", "") != token
    ]
    if not wrong:
        return None
    return Verdict(
        "OtherEnvironment",
        f"{where}: env {wrong[0]['name']} of your manifest is not what the drain hook would use, so that it would be "
        "refused: take that variable out, or add a preStop of your own",
    )


def _no_gauge(where: str, drain: Drain, spec: Spec, image: str | None) -> Verdict | None:
    if has_gauge(spec):
        return None
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        return Verdict("GaugeNotOnWindows", f"{where}: the gauge of drain.mode Gauge runs on Linux only")
    if drain.gauge is None or drain.port is None:
        return Verdict("GaugeUnknown", f"{where}: add drain.port and drain.gauge: mode Gauge has to know where to ask")
    if image and not re.search(r"\s", image):
        return None
    return Verdict(
        "GaugeImageUnknown",
        f"{where}: the operator does not know the image of the gauge: set VOICEKEYS_GAUGE_IMAGE on it, to its own",
    )


def call_seconds(drain: Drain) -> int:
    """Return the longest call that was promised, in seconds; 0: none was."""
    return int(drain.max_call_duration.total_seconds()) if drain.max_call_duration else 0


def _path(hook: Spec) -> str:
    return str((hook.get("httpGet") or {}).get("path", ""))


def _variables(container: Spec, name: str) -> list[Spec]:
    return [one for one in container.get("env") or () if one["name"] == name]
