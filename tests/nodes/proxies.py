"""A program that was never made for any of this, as an agent: HAProxy, as it stands before WebSocket media servers.

It knows nothing of hooks that drain, ends at once on SIGTERM whatever connections it has, and tells their number at
its Prometheus endpoint. A TCP connection to it is a call.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.lab.nodes import images, oci
from tests.nodes import pods
from tests.nodes.lines import KEY, LONGEST_CALL, NAME, Lines
from tests.reconcilers.harness import ROOT

if TYPE_CHECKING:
    from tests.nodes.pods import Object

IMAGE = "voicekeys.lab/haproxy:1"
MEDIA, METRICS = 5000, 8404
NAME_VARIABLE = "PROXY_POD_NAME"
CONFIGURATION = f"""\
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h

frontend media
  mode tcp
  bind :{MEDIA}
  # Each connection stays, as a call does: it waits for more than anybody sends.
  tcp-request inspect-delay 1h
  tcp-request content accept if {{ req.len gt 10000 }}

frontend metrics
  mode http
  bind :{METRICS}
  http-request use-service prometheus-exporter if {{ path /metrics }}
"""


def missing() -> str | None:
    """Say how to get the program; None when it is there."""
    return None if shutil.which("haproxy") else "needs HAProxy: apt-get install --no-install-recommends haproxy"


def image(folder: Path) -> Path:
    """Write its image from this machine's own program and the libraries that it loads."""
    program = Path(shutil.which("haproxy") or "haproxy")
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [Path(one) for one in re.findall(r"(/\S+) \(0x", linked)]
    loader = next(one for one in libraries if one.name.startswith("ld-"))
    (folder / "haproxy.cfg").write_text(CONFIGURATION)
    files = {f"/haproxy/{one.name}": one.resolve() for one in [program, *libraries]}
    files["/haproxy/haproxy.cfg"] = folder / "haproxy.cfg"
    start = f"/haproxy/{loader.name} --library-path /haproxy /haproxy/haproxy -db -f /haproxy/haproxy.cfg"
    # Not the container's first process, which no signal ends that it has no handler for.
    script = f"trap 'kill -TERM $child' TERM; {start} & child=$!; wait $child; wait $child"
    layers = [images.base_layer(lambda _line: None), oci.write_layer(files, folder / "haproxy-layer.tar")]
    made = oci.Image(IMAGE, layers, ["sh", "-c", script])
    return oci.write_archive(made, folder / "haproxy.tar")


def drain() -> Object:
    """Read how it drains from the example for people."""
    _, binding = yaml.safe_load_all((ROOT / "deploy/examples/agents/gauge/haproxy.yaml").read_text())
    found: Object = binding["spec"]["agents"][0]["drain"]
    return found | {"maxCallDuration": LONGEST_CALL}


class Proxies(Lines):
    """A Deployment of it with a binding; nothing about draining is in its manifest."""

    def _deploy(self, env: dict[str, str]) -> list[str]:
        del env
        key = {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": KEY, "key": "API_KEY"}}}
        ready = {"httpGet": {"path": "/metrics", "port": METRICS}, "periodSeconds": 1}
        name = {"name": NAME_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        container: Object = {"name": "agent", "image": IMAGE, "imagePullPolicy": "Never", "env": [key, name]}
        template = pods.pod(NAME, container | {"readinessProbe": ready})
        self.stage.apply(pods.workload("Deployment", NAME, template, self.replicas))
        self.stage.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=90s")
        return self.fresh()


class Connection:
    """A call."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, MEDIA), timeout=5)
        self._socket.send(b"hello")
        self._socket.setblocking(False)

    @property
    def lives(self) -> bool:
        """Whether it was not closed by the other side."""
        try:
            return bool(self._socket.recv(1))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """End it."""
        self._socket.close()
