"""Everything that a run leaves behind or shows, by channel, and what of it is a secret."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3

from tests.deploy.reviews import served
from tests.lab.http import ApiError
from tests.telemetry.canary import Canary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab import Lab

ANSWERS = ("/metrics", "/healthz", "/readyz", "/notify", "/nothing-here")
# Tokens that nobody can know beforehand: Vault's, and signed ones of ServiceAccounts.
_TOKENS = {
    "a Vault token": re.compile(r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"),
    "a signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}"),
}


@dataclass
class Evidence:
    """Texts by channel. `add` puts more of a channel to what is there."""

    channels: dict[str, str] = field(default_factory=dict)

    def add(self, channel: str, text: str) -> None:
        """Put a text to a channel."""
        self.channels[channel] = self.channels.get(channel, "") + text + "\n"

    def take_process(self, pid: int, url: str, folder: Path) -> None:
        """Take what a live process shows: environment, command line, answers to HTTP, files that it wrote."""
        for name in ("environ", "cmdline", "limits"):
            self.add(name, Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b"\n").decode(errors="replace"))
        for path in ANSWERS:
            for method in ("GET", "POST"):
                answer = urllib3.request(method, url + path, retries=False, timeout=20)
                self.add(path, f"{answer.status} {answer.reason} {dict(answer.headers)}\n{answer.data.decode()}")
        for file in folder.rglob("*"):
            if file.is_file():
                self.add(f"file {file.relative_to(folder)}", file.read_bytes().decode(errors="replace"))

    def take_objects(self, lab: Lab) -> None:
        """Take every object of the cluster, without the data of Secrets."""
        for path, obj in _objects(lab):
            if path.endswith("/secrets"):
                obj.pop("data", None)
            meta = obj.get("metadata", {})
            self.add(f"{path} {meta.get('namespace', '')}/{meta.get('name', '')}", json.dumps(obj, ensure_ascii=False))

    def leaks(self, secrets: Mapping[str, bytes], exempt: Mapping[str, str] | None = None) -> list[str]:
        """Say what leaked where: channel, the secret's label, its encoding; never the value.

        `exempt` maps a secret's label to a part of the names of the channels that may hold it.
        """
        canary = Canary(secrets)
        found = []
        for channel, text in self.channels.items():
            for leak in canary.find(text):
                allowed = (exempt or {}).get(leak.secret.partition(".")[0])
                if allowed is None or allowed not in channel:
                    found.append(f"{channel}: {leak.secret} as {leak.encoding}")
            found += [f"{channel}: {name}" for name, pattern in _TOKENS.items() if pattern.search(text)]
        return found


def _objects(lab: Lab) -> Iterator[tuple[str, dict[str, Any]]]:
    seen = set()
    for group, resource, _ in served(lab):
        if "/" in resource or (group, resource) in seen:
            continue
        seen.add((group, resource))
        for version in _versions(lab, group):
            root = f"/apis/{group}/{version}" if group else "/api/v1"
            try:
                answer = lab.api("GET", f"{root}/{resource}")
            except ApiError:
                continue  # no list of that kind (reviews), or not in this version
            yield from ((f"{root}/{resource}", item) for item in answer.get("items") or ())
            break


def _versions(lab: Lab, group: str) -> list[str]:
    if not group:
        return ["v1"]
    return [each["version"] for each in lab.api("GET", f"/apis/{group}")["versions"]]
