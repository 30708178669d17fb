"""The operator's own pods on real nodes: which one leads, and its end by force."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.processes import eventually
from tests.reconcilers.harness import HOME

if TYPE_CHECKING:
    from tests.lab import Lab
    from tests.lab.nodes import RealNodes


def leader(nodes: RealNodes) -> tuple[str, str] | None:
    """The pod that leads and is to stay, and who holds the Lease."""
    path = f"/api/v1/namespaces/{HOME}/pods?labelSelector=voicekeys.dev%2Fleader%3Dtrue"
    metadata = [one["metadata"] for one in nodes.lab.api("GET", path)["items"]]
    names = [str(one["name"]) for one in metadata if "deletionTimestamp" not in one]
    held = holder(nodes)
    return next(((name, held) for name in names if held.startswith(f"{name}_")), None)


def holder(nodes: RealNodes) -> str:
    """Who holds the operator's Lease."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/voicekeys-operator"
    return str(nodes.lab.api("GET", path)["spec"]["holderIdentity"])


def process_of(pod: str, variable: str = "VOICEKEYS_POD_NAME") -> int:
    """The process, by this machine's number, whose environment has a pod's name in a variable: the operator's."""
    wanted = f"{variable}={pod}".encode()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
    raise AssertionError(f"no process of {pod}")


def kill_leader(nodes: RealNodes) -> None:
    """End the leader's process between two instructions (SIGKILL), and take its pod away: the other replica goes on.

    In its pod it would start again at once, or after a kubelet's back-off; `test_operator.py` has that.
    """
    pod, _ = eventually(lambda: leader(nodes), "a leader", 60) or ("", "")
    os.kill(process_of(pod), signal.SIGKILL)
    delete(nodes.lab, pod)


def delete(lab: Lab, pod: str) -> None:
    """Delete an operator's pod at once."""
    lab.kubectl("-n", HOME, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
