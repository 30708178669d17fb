"""Leaks on purpose, in each channel of a real process and a real cluster, and whether they are seen."""

from __future__ import annotations

import base64
import re
import secrets
import sys
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.security import material
from tests.security.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import Lab

NAMESPACE = "planted"
PROCESS = {
    "debug_line": "log",
    "repr": "log",
    "traceback": "log",
    "environment": "environ",
    "command_line": "cmdline",
    "metrics": "/metrics",
    "healthz": "/healthz",
    "readyz": "/readyz",
    "notify": "/notify",
    "file": "file careless.txt",
}
"""Where a process may leak, and the channel of the evidence that shows it."""
OBJECTS = {
    "event": "/events",
    "condition": "/voicekeybindings",
    "annotation": "/configmaps",
    "managed_fields": "/configmaps",
    "secret_label": "/secrets",
    "lease": "/leases",
    "pod_environment": "/pods",
    "status_of_a_store": "/voicekeystores",
}
WRITTEN: dict[str, Callable[[str], str]] = {
    "event": lambda value: base64.b64encode(b"x" + value.encode()).decode(),
    "condition": lambda value: urllib.parse.quote(value, safe=""),
    "status_of_a_store": lambda value: value.encode().hex(),
    "lease": lambda value: value[: material.PIECE],
}
"""How a leak is written where it is not plain."""


@dataclass(frozen=True)
class Plants:
    """The keys that leaked, by place, and what was found of them."""

    keys: dict[str, str]
    evidence: Evidence


def made_up() -> dict[str, str]:
    """One key for each place, so that a finding proves that place."""
    return {place: f"{place.replace('_', '')}{secrets.token_hex(24)}" for place in (*PROCESS, *OBJECTS)}


def plant(cluster: Lab, keys: dict[str, str], folder: Path) -> Evidence:
    """What a careless process and careless objects leave behind; all of it is taken away again."""
    argv: list[str | Path] = [sys.executable, Path(__file__).with_name("planted.py"), f"--key={keys['command_line']}"]
    pid = cluster.processes.start("planted", argv, env={**keys, "TMPDIR": str(folder)})
    (port,) = eventually(lambda: re.findall(r"port=(\d+)", cluster.logs("planted")), "the careless process", seconds=20)
    cluster.make_namespace(NAMESPACE)
    written = {place: WRITTEN[place](value) if place in WRITTEN else value for place, value in keys.items()}
    cluster.apply(planted(written, cluster.vault_addr))
    tell(cluster, "voicekeybindings", NAMESPACE, written["condition"])
    tell(cluster, "voicekeystores", "", written["status_of_a_store"])
    found = Evidence()
    found.take_process(pid, f"http://127.0.0.1:{port}", folder)
    found.add("log", cluster.logs("planted"))
    found.take_objects(cluster)
    cluster.processes.kill("planted")
    for path in (f"/api/v1/namespaces/{NAMESPACE}", f"/apis/{objects.API}/voicekeystores/planted"):
        cluster.api("DELETE", path)
    return found


def seen(evidence: Evidence, keys: dict[str, str], place: str) -> bool:
    """Whether the leak of a place is found, in the channel that it is in."""
    leaks = evidence.leaks(material.pieces(place, keys[place].encode()))
    channels = {leak.partition(": ")[0] for leak in leaks if place in leak}
    return any((PROCESS | OBJECTS)[place] in channel for channel in channels)


def planted(keys: dict[str, str], vault: str) -> list[dict[str, Any]]:
    """Objects with a key where none belongs."""
    meta: dict[str, Any] = {"name": "planted", "namespace": NAMESPACE}
    event = {
        "metadata": meta,
        "regarding": {"kind": "Pod", "name": "planted", "namespace": NAMESPACE},
        "note": keys["event"],
        "type": "Normal",
        "reason": "Planted",
        "action": "Planted",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "planted",
        "reportingInstance": "planted",
    }
    container = {"name": "a", "image": "a", "env": [{"name": "KEY", "value": keys["pod_environment"]}]}
    annotated = {**meta, "annotations": {"note": keys["annotation"]}}
    return [
        {"apiVersion": "events.k8s.io/v1", "kind": "Event", **event},
        objects.binding(NAMESPACE, "planted", "planted/key", "planted"),
        objects.store("planted", vault, [objects.rule("none", "nobody", "nothing")]),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": annotated, "data": {keys["managed_fields"]: ""}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "labels": {"key": keys["secret_label"]}}},
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": {"holderIdentity": keys["lease"]},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}},
    ]


def tell(lab: Lab, plural: str, namespace: str, text: str) -> None:
    """Write a condition whose message is a text."""
    inside = f"/namespaces/{namespace}" if namespace else ""
    condition = {"type": "Ready", "status": "False", "reason": "Planted", "message": text}
    status = {"observedGeneration": 1, "conditions": [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    lab.api("PATCH", f"/apis/{objects.API}{inside}/{plural}/planted/status", {"status": status})
