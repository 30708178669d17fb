"""A user's cluster and Vault for the commands of the documents: a lab, a copy of the repository, a shell.

Vault's own command line is the lab's `vault`, which is both server and client. The operator's pods are simulated as
all pods are; the operator itself is a process beside them, which runs when, and as long as, its Deployment would.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.docs.markdown import ROOT
from tests.lab import Lab
from tests.lab.binaries import PLUGIN
from tests.lab.demo_install import start_operator
from tests.lab.demo_timeline import OPERATOR

if TYPE_CHECKING:
    from types import TracebackType

    from tests.docs.markdown import Block

TIMEOUT = 150


class Site:
    """Start it with `with`; `run` gives it a block of shell commands."""

    def __init__(self) -> None:
        # The documents' Vault has a certificate of a CA of its own, as most have.
        self.lab = Lab.start(vault_tls=True, say=lambda _line: None)
        self.folder = Path(tempfile.mkdtemp(prefix="vk-site-"))
        for name in ("crds", "deploy", "operator"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        (self.folder / "bin").mkdir()
        for name in ("kubectl", "vault"):
            (self.folder / "bin" / name).symlink_to(self.lab.binaries[name])
        assert self.lab.vault.ca_file is not None
        shutil.copyfile(self.lab.vault.ca_file, self.folder / "ca.crt")
        self.variables: dict[str, str] = {}
        self._forget_lab_login()

    def _forget_lab_login(self) -> None:
        """Take away the auth method that the lab mounts for itself, and name its plugin as a release of Vault does."""
        self.lab.vault("DELETE", "sys/auth/kubernetes")
        if PLUGIN in self.lab.binaries:
            digest = hashlib.sha256(self.lab.binaries[PLUGIN].read_bytes()).hexdigest()
            self.lab.vault("PUT", "sys/plugins/catalog/auth/kubernetes", {"sha256": digest, "command": PLUGIN})

    def run(self, block: Block | str) -> str:
        """Run shell commands as they stand, until one fails; return what they print."""
        text = block if isinstance(block, str) else block.text
        if stops(text):
            self.stop_operator()
        lines = [accept(line) for line in text.splitlines() if not line.startswith("git ")]
        script = "\n".join(["set -euo pipefail", *lines])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, f"{block}\n{text}\n{done.stdout}\n{done.stderr}"
        if starts(text):
            self.start_operator()
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return what a user of Vault and kubectl has in the environment."""
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.lab.kubeconfig),
            "VAULT_ADDR": self.lab.vault_addr,
            "VAULT_TOKEN": self.lab.vault_token,
            "VAULT_CACERT": str(self.lab.vault.ca_file),
            **self.variables,
        }

    def apply(self, yaml: str, *, dry_run: bool) -> None:
        """Server-side apply YAML with strict validation: a field that the API server does not know is an error."""
        options = [
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            *(["--dry-run=server"] if dry_run else []),
        ]
        self.lab.kubectl("apply", *options, "-f", "-", stdin=yaml)

    def start_operator(self) -> None:
        """Start the operator unless it runs."""
        if not (self.lab.dir / f"{OPERATOR}.log").exists():
            port = start_operator(self.lab)
            self.variables["NOTIFY_URL"] = f"http://127.0.0.1:{port}"

    def stop_operator(self) -> None:
        """End the operator if it runs."""
        log = self.lab.dir / f"{OPERATOR}.log"
        if log.exists():
            self.lab.processes.stop(OPERATOR)
            log.unlink()

    def jsonpath(self, *what: str, path: str) -> str:
        """Read from an object as administrator."""
        return self.lab.kubectl("get", *what, "-o", f"jsonpath={path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lab.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def starts(text: str) -> bool:
    """Whether the commands bring the operator's pods up."""
    return "kubectl apply -k deploy/ " in text or "scale deployment/voicekeys-operator --replicas=2" in text


def stops(text: str) -> bool:
    """Whether the commands take the operator's pods down."""
    return "kubectl delete -k deploy/base/" in text or "scale deployment/voicekeys-operator --replicas=0" in text


def accept(line: str) -> str:
    """`kubectl diff` ends with 1 where there is a difference, which is no failure."""
    return f"{line} || test $? -eq 1" if line.startswith("kubectl diff ") else line
