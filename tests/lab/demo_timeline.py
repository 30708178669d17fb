"""What the demo shows: facts read from the cluster, what is new in them, and lines with the seconds since start."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from tests.lab.http import ApiError
from tests.lab.processes import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab import Lab

NAMESPACE = "voice-prod"
BINDING = "frejun"
SECRET = "frejun-api-key"
AGENT = "receptionist"
VERSION_ANNOTATION = "voicekeys.dev/key-version"
TRIGGER = f"voicekeys.dev/key.{BINDING}"
OPERATOR = "operator"
PAUSE = 0.05
COLOURS = {
    "Vault": "bold yellow",
    "Secret": "bold magenta",
    "rollout": "bold cyan",
    "Ready": "bold green",
    "old key": "bold red",
    "done": "bold green",
}


class Screen:
    """A terminal with colours, or plain lines for anything else."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.began = time.monotonic()

    def start_clock(self) -> None:
        """Count seconds from here."""
        self.began = time.monotonic()

    def seconds(self) -> float:
        """Seconds since the clock's start."""
        return time.monotonic() - self.began

    def event(self, subject: str, text: str) -> None:
        """Print one line of the timeline, at once."""
        line = Text().append(f"{self.seconds():6.1f} s  ", "dim")
        line.append(f"{subject:<9}", COLOURS.get(subject, "bold")).append(f" {text}")
        self.console.print(line)

    def title(self, text: str) -> None:
        """Print a heading."""
        self.console.print(Text(f"\n{text}", "bold"))

    def plain(self, text: str) -> None:
        """Print text as it is."""
        self.console.print(Text(text.rstrip("\n")))


@dataclass(frozen=True)
class Facts:
    """What the cluster says at one moment; `old_pods` is the operator's count of pods that hold an older key."""

    secret_version: str = ""
    trigger: str = ""
    pods_ready: int = 0
    binding_version: int = 0
    ready: bool = False
    stalled: str = ""
    old_pods: int = 0
    changes: tuple[str, ...] = ()


def read_facts(lab: Lab) -> Facts:
    """Read Secret, Deployment and binding once each. An object that is not there yet counts as empty."""
    secret = _get(lab, f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}")
    agent = _get(lab, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{AGENT}")
    status = _get(lab, f"/apis/voicekeys.dev/v1alpha1/namespaces/{NAMESPACE}/voicekeybindings/{BINDING}").get(
        "status", {}
    )
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    stalled = conditions.get("Stalled", {})
    template = agent.get("spec", {}).get("template", {}).get("metadata", {})
    return Facts(
        secret_version=secret.get("metadata", {}).get("annotations", {}).get(VERSION_ANNOTATION, ""),
        trigger=template.get("annotations", {}).get(TRIGGER, ""),
        pods_ready=agent.get("status", {}).get("readyReplicas", 0),
        binding_version=status.get("key", {}).get("version", 0),
        ready=conditions.get("Ready", {}).get("status") == "True",
        stalled=stalled.get("message", "") if stalled.get("status") == "True" else "",
        old_pods=status.get("rotation", {}).get("podsOnOldKey") or 0,
        changes=tuple(f"v{each['toVersion']} {each['outcome']}" for each in status.get("history", [])),
    )


def news(before: Facts, now: Facts) -> Iterator[tuple[str, str]]:
    """Yield what differs as (subject, sentence), in the order in which a key change goes."""
    if now.secret_version and now.secret_version != before.secret_version:
        yield "Secret", f"{NAMESPACE}/{SECRET} has version {now.secret_version}"
    if before.ready and not now.ready and not now.stalled:
        yield "Ready", "no longer: the new key is on its way to the agents"
    if now.trigger != before.trigger:
        yield "rollout", f"Deployment {AGENT}: new digest on the pod template, rolling update started"
    if now.old_pods != before.old_pods:
        yield "old key", f"pods on the old key: {now.old_pods}"
    if now.ready and not before.ready:
        yield "Ready", f"version {now.binding_version} is in the Secret and in every pod that takes new calls"
    if now.stalled and now.stalled != before.stalled:
        yield "Stalled", now.stalled
    if now.changes and now.changes != before.changes:
        yield "done", "every pod on the old key was seen to end: it may be revoked"


class Timeline:
    """Prints what happens while it waits."""

    def __init__(self, lab: Lab, screen: Screen, goes_on: Callable[[], None]) -> None:
        self.lab = lab
        self.screen = screen
        self.goes_on = goes_on
        self.facts = Facts()

    def look(self) -> Facts:
        """Print what is new since the last look."""
        self.goes_on()
        now = read_facts(self.lab)
        for subject, text in news(self.facts, now):
            self.screen.event(subject, text)
        self.facts = now
        return now

    def until(self, reached: Callable[[Facts], bool], what: str, seconds: float = 120) -> None:
        """Watch until the facts are as wanted; raises LabError when the operator ends, gives up, or takes too long."""
        deadline, checked = time.monotonic() + seconds, time.monotonic()
        while not reached(self.look()):
            if self.facts.stalled:
                raise LabError(f"{what}: the binding is Stalled: {self.facts.stalled}")
            if time.monotonic() > deadline:
                raise LabError(f"not {what} after {seconds:g} s; {self._state()}")
            if time.monotonic() > checked + 1:
                self.lab.processes.check()
                checked = time.monotonic()
            time.sleep(PAUSE)

    def _state(self) -> str:
        shown = self.lab.kubectl("-n", NAMESPACE, "get", "vkb", "-o", "wide")
        return f"the binding:\n{shown}The operator's log ends:\n{self.lab.processes.tail(OPERATOR)}"


def _get(lab: Lab, path: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = lab.api("GET", path)
    except ApiError as error:
        if error.status == 404:
            return {}
        raise
    return answer
