"""A user's cluster and Vault for the commands of the documents: a lab, a clone of the repository, a shell.

Vault's own command line is the lab's `vault`, which is both server and client. The operator's pods are simulated as
all pods are; the operator itself is a process beside them, of the code that the clone has checked out. It follows its
Deployment after each command: it runs when, and as long as, there is one with replicas, and another takes its place
when the pod template has changed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.docs.markdown import commands
from tests.docs.releases import Origin
from tests.lab import Lab
from tests.lab.binaries import PLUGIN
from tests.lab.demo_install import ACCOUNT, SYSTEM
from tests.lab.http import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.docs.markdown import Block

TIMEOUT = 150
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/voicekeys-operator"
NOT_FOUND = 404
# After each command the shell waits until whoever looks after the operator has seen what it did.
FOLLOW = """set -euo pipefail
followed() { : > "$SITE_FOLLOW"; while [ -e "$SITE_FOLLOW" ]; do sleep 0.02; done; }
"""


class Site:
    """Start it with `with`; `run` gives it a block of shell commands.

    Args:
        not_run: commands that no test can run, with the reason.
        ran: gets all others that were run, as they stand.
    """

    def __init__(self, not_run: Mapping[str, str], ran: set[str]) -> None:
        # The documents' Vault has a certificate of a CA of its own, as most have.
        self.lab = Lab.start(vault_tls=True, say=lambda _line: None)
        self.not_run = not_run
        self.ran = ran
        self.base = Path(tempfile.mkdtemp(prefix="vk-site-"))
        self.folder = self.base / "voicekeys"
        self.origin = Origin(self.base / "origin")
        self.origin.clone(self.folder)
        (self.base / "bin").mkdir()
        for name in ("kubectl", "vault"):
            (self.base / "bin" / name).symlink_to(self.lab.binaries[name])
        assert self.lab.vault.ca_file is not None
        shutil.copyfile(self.lab.vault.ca_file, self.folder / "ca.crt")
        self.variables: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._operator = ""  # the name of the process, and the pod template that it stands for
        self._template = ""
        self._forget_lab_login()

    def _forget_lab_login(self) -> None:
        """Take away the auth method that the lab mounts for itself, and name its plugin as a release of Vault does."""
        self.lab.vault("DELETE", "sys/auth/kubernetes")
        if PLUGIN in self.lab.binaries:
            digest = hashlib.sha256(self.lab.binaries[PLUGIN].read_bytes()).hexdigest()
            self.lab.vault("PUT", "sys/plugins/catalog/auth/kubernetes", {"sha256": digest, "command": PLUGIN})

    def run(self, block: Block | str, folder: Path | None = None) -> str:
        """Run shell commands as they stand, in the clone or another folder, until one fails; return what they print."""
        text = block if isinstance(block, str) else block.text
        chosen = [each for each in commands(text) if each not in self.not_run]
        if not chosen:
            return ""
        script = FOLLOW + "\n".join(f"{accept(each)}\nfollowed" for each in chosen)
        follow = self.base / "follow"
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder or self.folder,
            env={**self.environment(), "SITE_FOLLOW": str(follow)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            waiting = threading.Thread(target=self._look_after, args=(process, follow))
            waiting.start()
            try:
                printed, errors = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
                waiting.join()
        assert process.returncode == 0, f"{block}\n{text}\n{printed}\n{errors}"
        self.ran.update(chosen)
        return printed

    def _look_after(self, process: subprocess.Popen[str], follow: Path) -> None:
        while process.poll() is None:
            if follow.exists():
                try:
                    self._follow_deployment()
                except BaseException:
                    process.kill()  # the shell would wait for ever
                    raise
                follow.unlink()
            time.sleep(0.02)

    def environment(self) -> dict[str, str]:
        """Return what a user of Vault and kubectl has in the environment."""
        return {
            "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.base),
            "KUBECONFIG": str(self.lab.kubeconfig),
            "VAULT_ADDR": self.lab.vault_addr,
            "VAULT_TOKEN": self.lab.vault_token,
            "VAULT_CACERT": str(self.lab.vault.ca_file),
            "GIT_CONFIG_GLOBAL": os.devnull,
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

    def _follow_deployment(self) -> None:
        """Do what the Deployment's controller would: start, end or replace the operator."""
        found = self._deployment()
        replicas = found["spec"]["replicas"] if found else 0
        template = json.dumps(found["spec"]["template"], sort_keys=True) if found and replicas else ""
        if template == self._template:
            return
        before, self._operator = self._operator, ""
        # A rolling update: the new one is there, as a standby, before the old one ends.
        if template:
            self._operator = self._launch()
        if before:
            self.lab.processes.stop(before, 30)
        if self._operator:
            self._await("leading")
        self._template = template

    def _deployment(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self.lab.api("GET", DEPLOYMENT)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return answer

    def _launch(self) -> str:
        """Start the operator of the clone's code, with the rights of its ServiceAccount and no others."""
        name = f"operator-{next(self._numbers)}"
        self._operator = name
        port = self.lab.ports.take()
        env = {
            "PYTHONPATH": str(self.folder / "operator"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "VOICEKEYS_KUBECONFIG": str(self.lab.kubeconfig_for(ACCOUNT)),
            "VOICEKEYS_POD_NAMESPACE": SYSTEM,
            "VOICEKEYS_HTTP_HOST": "127.0.0.1",
            "VOICEKEYS_HTTP_PORT": str(port),
        }
        self.lab.processes.start(name, [sys.executable, "-m", "voicekeys"], env=env)
        self._await("started")
        self.variables["NOTIFY_URL"] = f"http://127.0.0.1:{port}"
        return name

    def _await(self, event: str) -> None:
        self.lab.processes.wait(self._operator, lambda: f'"{event}"' in self.log(), event)

    def log(self) -> str:
        """What the operator that runs now has logged."""
        return self.lab.logs(self._operator)

    def jsonpath(self, *what: str, path: str) -> str:
        """Read from an object as administrator."""
        return self.lab.kubectl("get", *what, "-o", f"jsonpath={path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lab.close()
        shutil.rmtree(self.base, ignore_errors=True)


def accept(command: str) -> str:
    """`kubectl diff` ends with 1 where there is a difference, which is no failure."""
    return f"{command} || test $? -eq 1" if command.startswith("kubectl diff ") else command
