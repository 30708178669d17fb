"""What the API server itself says about requests of ServiceAccounts: its audit log, with the role that allowed each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORBIDDEN = 403
_ALLOWED_BY = re.compile(r'RBAC: allowed by (?:Cluster)?RoleBinding "[^"]+" of (?P<kind>\w+) "(?P<name>[^"]+)"')


class Request(NamedTuple):
    """One request as the API server authorised it.

    Args:
        user: the user's name.
        verb: RBAC's verb.
        group: API group, empty for core.
        resource: plural, with its subresource after a slash.
        namespace: empty for the whole cluster.
        name: empty for a list, a watch or a create.
        role: kind and name of the role that allowed it; None where it was refused, or no role of RBAC decided.
        refused: whether it was answered with 403. Server-side apply of what does not exist is refused as a patch when
            it is the right to create that is missing.
        credential: names the token that was used.
    """

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    role: tuple[str, str] | None
    refused: bool
    credential: str


class Audit:
    """The audit log of a lab; `flags` make its API server write it, for ServiceAccounts alone.

    Args:
        folder: an empty folder that outlives the lab.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "audit.log"
        self._policy = folder / "audit-policy.yaml"
        everything = {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "omitStages": ["RequestReceived"]}
        rules: list[dict[str, Any]] = [everything, {"level": "None"}]
        self._policy.write_text(
            yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}),
        )
        self._read = 0
        self._seen: list[Request] = []

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of the API server; blocking, so that a request is in the log when its answer is there."""
        return (
            f"--audit-policy-file={self._policy}",
            f"--audit-log-path={self._log}",
            "--audit-log-mode=blocking-strict",
        )

    def mark(self) -> int:
        """Return a point in time for `since`."""
        self._take()
        return len(self._seen)

    def since(self, mark: int = 0, wanted: Callable[[Request], bool] = lambda _: True) -> list[Request]:
        """Return the requests after a mark."""
        self._take()
        return [each for each in self._seen[mark:] if wanted(each)]

    def _take(self) -> None:
        if not self._log.exists():
            return
        with self._log.open() as log:
            log.seek(self._read)
            while line := log.readline():
                if not line.endswith("\n"):
                    break
                self._read += len(line.encode())
                self._seen += _requests(json.loads(line))


def _requests(entry: dict[str, Any]) -> Iterator[Request]:
    reference = entry.get("objectRef")
    if reference is None or (entry["verb"] == "watch" and entry["stage"] == "ResponseComplete"):
        return
    marks = entry.get("annotations") or {}
    found = _ALLOWED_BY.match(marks.get("authorization.k8s.io/reason", ""))
    resource, subresource = reference.get("resource", ""), reference.get("subresource")
    extra = entry["user"].get("extra") or {}
    yield Request(
        user=entry["user"]["username"],
        verb=entry["verb"],
        group=reference.get("apiGroup", ""),
        resource=f"{resource}/{subresource}" if subresource else resource,
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        role=(found["kind"], found["name"]) if found else None,
        refused=(entry.get("responseStatus") or {}).get("code") == FORBIDDEN,
        credential=(extra.get("authentication.kubernetes.io/credential-id") or [""])[0],
    )
