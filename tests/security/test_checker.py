"""The checker of the canary test, checked: a leak planted in each channel of a real process and cluster is seen."""

from __future__ import annotations

import base64
import re
import secrets
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.security import material
from tests.security.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """One key for each place, so that a finding proves that place."""
    return {place: f"{place.replace('_', '')}{secrets.token_hex(24)}" for place in (*PROCESS, *OBJECTS)}


@pytest.fixture(scope="module")
def evidence(cluster: Lab, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """What a careless process and careless objects leave behind."""
    folder = tmp_path_factory.mktemp("planted")
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
    yield found
    cluster.processes.kill("planted")
    for path in (f"/api/v1/namespaces/{NAMESPACE}", f"/apis/{objects.API}/voicekeystores/planted"):
        cluster.api("DELETE", path)


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


@pytest.mark.parametrize("place", [*PROCESS, *OBJECTS])
def test_a_leak_is_seen(evidence: Evidence, keys: dict[str, str], place: str) -> None:
    leaks = evidence.leaks(material.pieces(place, keys[place].encode()))

    channels = {leak.partition(": ")[0] for leak in leaks if place in leak}
    wanted = (PROCESS | OBJECTS)[place]
    assert [channel for channel in channels if wanted in channel], leaks


def test_a_key_that_did_not_leak_is_not_found(evidence: Evidence) -> None:
    other = material.needles("other", {"api_key": f"other{secrets.token_hex(24)}"})

    assert [leak for leak in evidence.leaks(other) if "other" in leak] == []


@pytest.mark.parametrize("shape", [*material.shapes()])
def test_every_shape_is_found_where_it_is(shape: str) -> None:
    fields = material.shapes()[shape]
    for name, value in material.needles(shape, fields).items():
        evidence = Evidence({"log": f"before {value!r} after"})
        assert evidence.leaks({name: value}), name


@pytest.mark.parametrize(
    "token", ["hvs.CAESIJ0123456789abcdefghij", "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsidmF1bHQiXX0.abc"]
)
def test_a_token_that_nobody_knows_is_found_by_its_shape(token: str) -> None:
    assert Evidence({"log": f"X-Vault-Token: {token}"}).leaks({})


def test_findings_never_show_the_value(evidence: Evidence, keys: dict[str, str]) -> None:
    everything = {
        name: text for place, key in keys.items() for name, text in material.pieces(place, key.encode()).items()
    }
    said = Evidence({"said": "\n".join(evidence.leaks(everything))})

    assert said.leaks(everything) == []
