"""Who asked for what, by the servers' own books: the API server's and Vault's audit logs, not the operator's counters.

The operator runs as a user of its own, so the API server's lines of that user are all that it did. In Vault everything
that root did (the benchmark puts keys) is left out.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import yaml

from tests.bench.processes import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATOR_USER = "operator"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
COUNTED = {"secrets", "voicekeybindings", "deployments", "statefulsets", "daemonsets"}
APART = {"leases": "lease", "events": "event", "serviceaccounts": "token", "voicekeystores": "store"}
"""Writes that are counted apart; `serviceaccounts` is TokenRequest, which stores nothing."""


class Tail:
    """New lines of a growing file of JSON lines."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._position = 0
        self._rest = b""

    def new(self) -> Iterator[dict[str, Any]]:
        """Give the objects that were written since the last call."""
        if not self.file.exists():
            return
        with self.file.open("rb") as stream:
            stream.seek(self._position)
            chunk = stream.read()
        self._position += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield orjson.loads(line)


class Tally(NamedTuple):
    """Counts so far; the difference of two tallies is what happened between them."""

    reads: int = 0  # Vault: key reads
    first_reads: int = 0  # of them, those by the time that every path had been read once
    logins: int = 0
    vault: int = 0  # all requests to Vault
    writes: int = 0  # API: Secrets, bindings, workloads
    lease: int = 0
    event: int = 0
    token: int = 0
    store: int = 0
    own: int = 0  # in the operator's own namespace: its fingerprint key
    other: int = 0  # writes of any other kind
    api_reads: int = 0

    def __sub__(self, before: Tally) -> Tally:
        return Tally(*(now - then for now, then in zip(self, before, strict=True)))


class Ledger:
    """Reads both logs; `update` brings it up to now.

    Args:
        folder: where the logs are; it holds the API server's audit policy, too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._api = Tail(folder / "api-audit.log")
        self._vault = Tail(folder / "vault-audit.log")
        self._counts: Counter[str] = Counter()
        self.by_request: Counter[str] = Counter()
        self.applied: dict[str, float] = {}
        """Secret to the wall time, seconds, of the first successful write of it by the operator."""
        self.statuses: dict[str, float] = {}
        """Binding to the wall time of the first successful write of its status by the operator."""
        self.read: set[str] = set()
        """Paths that the operator has read."""
        self.last_change = 0.0
        """Wall time of the operator's last write that is neither Lease nor event."""

    def apiserver_flags(self) -> list[str]:
        """Write the audit policy and give the flags that turn it on."""
        policy = self.folder / "audit-policy.yaml"
        rules = [{"level": "Metadata", "users": [OPERATOR_USER]}, {"level": "None"}]
        head = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
        policy.write_text(yaml.safe_dump(head | {"rules": rules}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self._api.file}"]

    def vault_device(self) -> dict[str, Any]:
        """The body that turns on Vault's audit device."""
        return {"type": "file", "options": {"file_path": str(self._vault.file)}}

    def update(self) -> Tally:
        """Read what is new and give the counts up to now."""
        for line in self._api.new():
            self._take_api(line)
        for line in self._vault.new():
            self._take_vault(line)
        return Tally(**{field: self._counts[field] for field in Tally._fields})

    def _take_api(self, line: dict[str, Any]) -> None:
        verb, what = line["verb"], line.get("objectRef") or {}
        resource = what.get("resource", "")
        if line["stage"] != "ResponseComplete":
            return  # the start of a watch
        self.by_request[f"{verb} {resource}"] += 1
        if verb not in WRITES:
            self._counts["api_reads"] += 1
            return
        kind = "writes" if resource in COUNTED else APART.get(resource, "other")
        if kind == "writes" and what.get("namespace") == SYSTEM_NAMESPACE:
            kind = "own"
        self._counts[kind] += 1
        moment = datetime.fromisoformat(line["stageTimestamp"]).timestamp()
        if kind not in {"lease", "event"}:
            self.last_change = max(self.last_change, moment)
        if line["responseStatus"]["code"] < 300 and resource in {"secrets", "voicekeybindings"}:
            seen = self.applied if resource == "secrets" else self.statuses
            seen.setdefault(f"{what['namespace']}/{what['name']}", moment)

    def _take_vault(self, line: dict[str, Any]) -> None:
        if line["type"] != "request" or "root" in (line.get("auth") or {}).get("policies", ()):
            return
        self._counts["vault"] += 1
        path = line["request"]["path"]
        self._counts["logins"] += path.endswith("/login")
        if path.startswith("secret/data/"):
            self._counts["reads"] += 1
            if path not in self.read:
                self.read.add(path)
                self._counts["first_reads"] = self._counts["reads"]
