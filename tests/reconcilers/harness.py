"""The real operator as a process against a lab, and what tests do around it.

::

    install(lab)                             # once a lab: CRDs, namespace, the key of POST /notify
    operator = Operator(lab).start()         # `python -m voicekeys`; stop(), kill(), restart()
    world = World(lab, operator)             # a namespace with a ServiceAccount and a store of the same name
    world.put(api_key="…"); world.bind(); world.ready("voice", version=1)
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.lab.http import ApiError
from tests.lab.processes import eventually
from voicekeys.policies.notify import SIGNATURE_HEADER, sign

if TYPE_CHECKING:
    from tests.lab import Lab

ROOT = Path(__file__).parents[2]
HOME = "voicekeys-system"
NOTIFY_KEY = b"a key that only the tests' pipeline and the operator know"
CRDS = ("voicekeybindings", "voicekeystores")

_numbers = itertools.count(1)


def install(lab: Lab) -> None:
    """Put the CRDs, the operator's namespace and the key of POST /notify into a cluster."""
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-k", ROOT / "crds")
    _finish(lab)


def install_deploy(lab: Lab) -> str:
    """Put all of `deploy/` into a cluster, and return the ServiceAccount of the operator, as `Operator(account=…)`."""
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-k", ROOT / "deploy")
    lab.kubectl("-n", HOME, "scale", "deployment", "--all", "--replicas=0")
    _finish(lab)
    return f"{HOME}/voicekeys-operator"


def _finish(lab: Lab) -> None:
    for name in CRDS:
        # Established runs ahead of being served by a moment, in which the API server answers 404 or 429.
        eventually(lambda name=name: _served(lab, name), f"{name} served", pause=0.05)  # type: ignore[misc]
    lab.cluster.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    metadata = {"name": "voicekeys-notify-key", "namespace": HOME}
    lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"key": NOTIFY_KEY.decode()}})


def _served(lab: Lab, plural: str) -> bool:
    try:
        lab.api("GET", f"/apis/voicekeys.dev/v1alpha1/{plural}?limit=1")
    except ApiError:
        return False
    return True


class Operator:
    """One operator process. It dies with the lab, however the tests end.

    `account` is `namespace/name` of the ServiceAccount that it runs as (default: the lab's administrator);
    `kubeconfig` overrides that, such as one that leads through a proxy. `settings` are VOICEKEYS_* by their lower-case
    names. Without a Lease by default, so that a killed one is followed at once.
    """

    def __init__(
        self,
        lab: Lab,
        name: str = "operator",
        *,
        account: str | None = None,
        kubeconfig: Path | None = None,
        **settings: object,
    ) -> None:
        self.lab = lab
        self.name = f"{name}-{next(_numbers)}"
        file = kubeconfig or (lab.kubeconfig_for(account) if account else lab.kubeconfig)
        chosen = {
            "kubeconfig": file,
            "pod_namespace": HOME,
            "http_port": 0,
            "http_host": "127.0.0.1",
            "leader_election": False,
            "log_level": "DEBUG",
            **settings,
        }
        self.env = {f"VOICEKEYS_{key.upper()}": str(value) for key, value in chosen.items()}
        self.env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        self.url = ""
        self.pid = 0
        self._starts = 0
        self._signed = itertools.count(1)

    def start(self, seconds: float = 30) -> Self:
        """Start the process, and return once it serves HTTP."""
        self._starts += 1
        self.pid = self.lab.processes.start(self.name, [sys.executable, "-m", "voicekeys"], env=self.env)
        self.lab.processes.wait(self.name, self._serves, "serving HTTP", seconds)
        return self

    def _serves(self) -> bool:
        started = [line for line in self.logs() if line.get("event") == "started"]
        if len(started) < self._starts:
            return False
        self.url = f"http://127.0.0.1:{started[-1]['http_port']}"
        return True

    def stop(self, seconds: float = 20) -> int:
        """End it as a kubelet does (SIGTERM), and return its exit code."""
        return self.lab.processes.stop(self.name, seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.lab.processes.kill(self.name)

    def restart(self, *, kill: bool = False) -> Self:
        """Stop or kill it, and start it anew."""
        if self.running:
            if kill:
                self.kill()
            else:
                self.stop()
        return self.start()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return bool(self.pid) and self.lab.processes.code(self.name) is None

    def logs(self) -> list[dict[str, Any]]:
        """All log lines so far, of every start, decoded; a line that is not JSON comes as `{"text": …}`."""
        found = []
        for line in self.lab.logs(self.name).splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"text": line})
        return found

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of its HTTP server: status and body."""
        return self._call(urllib.request.Request(self.url + path))

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's series that have these labels; None where there is none."""
        code, text = self.get("/metrics")
        assert code == 200, text
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    def notify(self, store: str, path: str, *, key: bytes = NOTIFY_KEY, at: int | None = None) -> tuple[int, str]:
        """POST /notify as a pipeline does: status and body."""
        body = json.dumps({"store": store, "path": path}).encode()
        if at is None:
            at = int(time.time())
            # A second notification of one path within a second would be taken for a replay; spaces make it another one.
            body += b" " * (next(self._signed) % 4096)
        headers = {SIGNATURE_HEADER: sign(key, at, body)}
        return self._call(urllib.request.Request(self.url + "/notify", data=body, headers=headers))

    def _call(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def errors(operator: Operator) -> list[dict[str, Any]]:
    """Log lines that no run should have: errors, and lines that are no log lines."""
    return [line for line in operator.logs() if line.get("level") in {"error", "critical"} or "text" in line]


def found(call: Any) -> Any:
    """Give what `call()` gives, or None where the server says 404."""
    try:
        return call()
    except ApiError as error:
        if error.status == 404:
            return None
        raise


__all__ = ["HOME", "NOTIFY_KEY", "Operator", "errors", "eventually", "found", "install", "install_deploy"]
