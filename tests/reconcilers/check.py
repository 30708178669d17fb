"""The laws of a status, checked after every reconcile: kstatus, the invariants of conditions, and the design's own.

A rule is a function that yields what breaks it; its name goes before each finding. The verdict of kstatus is the
library's own (`tests.lab.kstatus`), so that what our conditions claim and what Flux and Argo CD see cannot differ.
`test_check.py` proves that each rule catches a status made wrong on purpose.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tests.lab.kstatus import compute
from voicekeys.api.conditions import BINDING_CONDITIONS, STORE_CONDITIONS, Polarity
from voicekeys.api.status import MAX_HOOK_PATCH, parse_binding_status, parse_store_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_STATUS_BYTES: Final = 18 * 1024  # beside the patches to commit, which have a bound of their own
MAX_MESSAGE: Final = 1024
_CAMEL_CASE: Final = re.compile(r"[A-Z][A-Za-z0-9]*")
_ADVICE: Final = re.compile(
    r"(^|[:;,.] |\bor |\band |\buntil it is )"
    r"(add|allow|annotate|ask|change|check|choose|create|delete|encode|find out|free|give|grant|install|label|let|look|"
    r"lower|make|mend|point|put|raise|remove|rename|renew|restore|resume|see|select|set|take|taken back|unseal|use|"
    r"wait|write)\b",
    re.IGNORECASE,
)
# `Ready` repeats what `Reconciling` or `Stalled` says, and `stalled_says_what_to_do` holds the latter.
_SUMMARY: Final = frozenset({"Ready", "Reconciling", "Stalled"})
# Nobody has to do anything: it goes on by itself, by the operator's own next step or as pods come and go.
_ONLY_WAITS: Final = frozenset(
    {"Propagating", "Coalescing", "Rolling", "RollingBack", "Draining", "NotRestarted", "NotUsed", "NotYet", "Pending"}
)
_SKEW: Final = timedelta(seconds=2)


@dataclass(frozen=True)
class Seen:
    """An object as a rule looks at it; ``finished``: no reconcile is half done."""

    obj: Mapping[str, Any]
    finished: bool

    @property
    def status(self) -> Mapping[str, Any]:
        return self.obj.get("status") or {}

    @property
    def conditions(self) -> list[Mapping[str, Any]]:
        return self.status.get("conditions") or []

    @property
    def observed(self) -> int:
        return int(self.status.get("observedGeneration", 0))

    @property
    def generation(self) -> int:
        return int(self.obj["metadata"]["generation"])

    @property
    def is_binding(self) -> bool:
        return bool(self.obj["kind"] == "VoiceKeyBinding")

    def one(self, kind: str) -> Mapping[str, Any]:
        return next((one for one in self.conditions if one["type"] == kind), {})

    def held(self, kind: str) -> str:
        return str(self.one(kind).get("status", ""))

    def true(self, kind: str) -> bool:
        return self.held(kind) == "True"

    @property
    def agents(self) -> list[Mapping[str, Any]]:
        return self.status.get("agents") or []

    @property
    def old_pods(self) -> list[Mapping[str, Any]]:
        return [pod for agent in self.agents for pod in agent.get("oldPods") or []]


# ---- what kstatus wants


def never_without_a_status(seen: Seen) -> Iterator[str]:
    if "observedGeneration" not in seen.status:
        yield "kstatus takes an object without status.observedGeneration for current"


def one_summary_holds(seen: Seen) -> Iterator[str]:
    held = [kind for kind in ("Ready", "Reconciling", "Stalled") if seen.true(kind)]
    if len(held) != 1:
        yield f"exactly one of Ready, Reconciling, Stalled is True, not {held}"


def ready_is_always_there(seen: Seen) -> Iterator[str]:
    if not seen.one("Ready"):
        yield "Ready is missing"


def ready_says_why_not(seen: Seen) -> Iterator[str]:
    for kind in ("Reconciling", "Stalled"):
        ready, why = seen.one("Ready"), seen.one(kind)
        if ready and seen.true(kind) and (ready["reason"], ready["message"]) != (why["reason"], why["message"]):
            yield f"Ready says {ready['reason']}, {kind} says {why['reason']}"


def generations_agree(seen: Seen) -> Iterator[str]:
    if seen.observed > seen.generation:
        yield f"observedGeneration {seen.observed} is ahead of generation {seen.generation}"
    if seen.finished and seen.observed < seen.generation:
        yield f"observedGeneration {seen.observed} is behind generation {seen.generation}"
    for one in seen.conditions:
        if one.get("observedGeneration") != seen.observed:
            yield f"{one['type']} is of generation {one.get('observedGeneration')}, the status of {seen.observed}"


def kstatus_sees_what_we_claim(seen: Seen) -> Iterator[str]:
    claims = {"Ready": "Current", "Reconciling": "InProgress", "Stalled": "Failed"}
    claimed = next((verdict for kind, verdict in claims.items() if seen.true(kind)), "InProgress")
    if seen.observed != seen.generation:
        claimed = "InProgress"
    if "deletionTimestamp" in seen.obj["metadata"]:
        claimed = "Terminating"
    verdict, message = compute(seen.obj)
    if verdict != claimed:
        yield f"we claim {claimed}, kstatus says {verdict}: {message}"


# ---- what holds for every condition


def types_are_known_and_the_right_way_round(seen: Seen) -> Iterator[str]:
    table = {doc.type.value: doc for doc in (BINDING_CONDITIONS if seen.is_binding else STORE_CONDITIONS)}
    for one in seen.conditions:
        doc = table.get(one["type"])
        if doc is None:
            yield f"{one['type']} is not in the table of conditions"
        elif doc.polarity is Polarity.ABNORMAL_TRUE and one["status"] != "True":
            yield f"{one['type']} is {one['status']}: an abnormal-true condition is there only while it is True"


def types_come_once_and_sorted(seen: Seen) -> Iterator[str]:
    types = [one["type"] for one in seen.conditions]
    yield from (f"{kind} comes {count} times" for kind, count in Counter(types).items() if count > 1)
    if types != sorted(types):
        yield f"conditions are not sorted: {types}"


def reasons_are_words(seen: Seen) -> Iterator[str]:
    for one in seen.conditions:
        if not _CAMEL_CASE.fullmatch(one["reason"]):
            yield f"{one['type']}: reason {one['reason']!r} is not one CamelCase word"


def messages_are_for_people(seen: Seen) -> Iterator[str]:
    for one in seen.conditions:
        message = one["message"]
        if not message or message != " ".join(message.split(" ")).strip() or "\n" in message:
            yield f"{one['type']}: message {message!r} is empty or not one line"
        if message.endswith("."):
            yield f"{one['type']}: a message ends without a dot: {message!r}"
        if len(message) > MAX_MESSAGE:
            yield f"{one['type']}: a message of {len(message)} characters"


def stalled_says_what_to_do(seen: Seen) -> Iterator[str]:
    message = seen.one("Stalled").get("message", "")
    if seen.true("Stalled") and not _ADVICE.search(message):
        yield f"Stalled does not say what to do: {message!r}"


def what_is_wrong_says_what_to_do(seen: Seen) -> Iterator[str]:
    table = {doc.type.value: doc for doc in (BINDING_CONDITIONS if seen.is_binding else STORE_CONDITIONS)}
    for one in seen.conditions:
        doc = table.get(one["type"])
        if doc is None or one["type"] in _SUMMARY or one["reason"] in _ONLY_WAITS:
            continue
        abnormal = one["status"] == "True" if doc.polarity is Polarity.ABNORMAL_TRUE else one["status"] != "True"
        if abnormal and not _ADVICE.search(one["message"]):
            yield f"{one['type']}={one['status']} ({one['reason']}) does not say what to do: {one['message']!r}"


def times_are_past(seen: Seen) -> Iterator[str]:
    latest = datetime.now(UTC) + _SKEW
    for one in seen.conditions:
        if datetime.fromisoformat(one["lastTransitionTime"]) > latest:
            yield f"{one['type']}: lastTransitionTime {one['lastTransitionTime']} is in the future"


# ---- what the design wants


def a_source_that_fails_stalls_nothing(seen: Seen) -> Iterator[str]:
    source, stalled = seen.one("SourceReachable"), seen.one("Stalled")
    if source.get("status") == "False" and stalled and stalled["reason"] == source["reason"]:
        yield f"SourceReachable=False ({source['reason']}) set Stalled"


def ready_means_secret_and_agents(seen: Seen) -> Iterator[str]:
    if not seen.is_binding or not seen.true("Ready") or seen.true("Suspended"):
        return
    if seen.observed != seen.generation:
        return  # it is about a spec of before, which may have named no agent
    if not seen.true("SecretSynced"):
        yield f"Ready while SecretSynced is {seen.held('SecretSynced') or 'missing'}"
    if seen.obj["spec"].get("agents") and not seen.true("AgentsCurrent"):
        yield f"Ready with agents while AgentsCurrent is {seen.held('AgentsCurrent') or 'missing'}"


def ready_has_no_rollout_in_flight(seen: Seen) -> Iterator[str]:
    phase = (seen.status.get("rotation") or {}).get("phase", "Idle")
    if (
        seen.finished
        and seen.true("Ready")
        and not seen.true("Suspended")
        and phase not in {"Idle", "Draining", "Frozen"}
    ):
        yield f"Ready in phase {phase}"


def suspended_follows_the_spec(seen: Seen) -> Iterator[str]:
    if seen.finished and seen.obj["spec"].get("suspend") and not seen.true("Suspended"):
        yield "spec.suspend is set, Suspended is not"


def old_pods_add_up(seen: Seen) -> Iterator[str]:
    change, held = seen.status.get("rotation") or {}, len(seen.old_pods)
    idle = change.get("phase", "Idle") == "Idle"
    counted = change.get("podsOnOldKey")
    if idle and counted is not None:
        yield f"podsOnOldKey is {counted} although no key change is in flight"
    if seen.finished and not idle and counted is not None and counted != held:
        yield f"podsOnOldKey is {counted}, but {held} old pods are listed"
    if counted is not None and change.get("pods", 0) < counted:
        yield f"{counted} pods on the old key of {change.get('pods', 0)}"
    for uid, count in Counter(pod["uid"] for pod in seen.old_pods).items():
        if count > 1 and len(seen.status["agents"]) == 1:
            yield f"old pod {uid} is listed {count} times"


def the_oldest_call_is_on_an_old_pod(seen: Seen) -> Iterator[str]:
    for agent in seen.agents:
        if "oldestCallTime" in agent and not agent.get("oldPods"):
            yield f"{agent['name']} has a call since {agent['oldestCallTime']}, but no pod on an older key"


def calls_drained_follows_the_old_pods(seen: Seen) -> Iterator[str]:
    if not seen.finished or not seen.one("CallsDrained"):
        return
    vanished = any("vanishedTime" in pod for pod in seen.old_pods)
    # Old pods are listed from the restart on; before it, all of them are on the old key, and NotRestarted says so.
    waiting = seen.one("CallsDrained")["reason"] == "NotRestarted" and not seen.true("Ready")
    expected = "Unknown" if vanished else "False" if seen.old_pods or waiting else "True"
    if seen.held("CallsDrained") != expected:
        yield f"CallsDrained is {seen.held('CallsDrained')}, {len(seen.old_pods)} old pods say {expected}"


def a_leak_is_told_and_has_no_way_back(seen: Seen) -> Iterator[str]:
    leak, change = seen.status.get("emergency"), seen.status.get("rotation") or {}
    if seen.finished and not seen.true("Suspended") and bool(leak) != seen.true("KeyLeaked"):
        yield f"KeyLeaked is {seen.held('KeyLeaked') or 'missing'}, status.emergency is {leak}"
    if leak and change.get("phase") == "RollingBack":
        yield f"on the way back to version {change.get('fromVersion')} while version {leak['version']} has leaked"


def the_status_stays_small(seen: Seen) -> Iterator[str]:
    patches = sum(len(json.dumps(agent.get("hookPatch", ""), ensure_ascii=False)) for agent in seen.agents)
    size = len(json.dumps(seen.status, separators=(",", ":"), ensure_ascii=False)) - patches
    if size >= MAX_STATUS_BYTES:
        yield f"the status has {size} bytes"


def a_patch_is_there_to_commit(seen: Seen) -> Iterator[str]:
    """Pods have to be without a hook for it, and it can be parsed: whole, and of a pod template alone."""
    shown = [agent for agent in seen.agents if "hookPatch" in agent]
    if sum(len(agent["hookPatch"]) for agent in shown) > MAX_HOOK_PATCH:
        yield f"patches have more than {MAX_HOOK_PATCH} characters"
    for agent in shown:
        if not agent.get("unarmed"):
            yield f"{agent['name']} has a patch, but no unarmed pod"
        try:
            whole = set(json.loads(agent["hookPatch"])["spec"]) == {"template"}
        except (ValueError, LookupError, TypeError):
            whole = False
        if not whole:
            yield f"the patch of {agent['name']} is none of a pod template: {agent['hookPatch']}"


def the_model_reads_it(seen: Seen) -> Iterator[str]:
    try:
        (parse_binding_status if seen.is_binding else parse_store_status)(dict(seen.status))
    except ValueError as error:
        yield f"the status cannot be read back: {error}"


RULES: Final[tuple[Callable[[Seen], Iterator[str]], ...]] = (
    one_summary_holds,
    ready_is_always_there,
    ready_says_why_not,
    generations_agree,
    kstatus_sees_what_we_claim,
    types_are_known_and_the_right_way_round,
    types_come_once_and_sorted,
    reasons_are_words,
    messages_are_for_people,
    stalled_says_what_to_do,
    what_is_wrong_says_what_to_do,
    times_are_past,
    a_source_that_fails_stalls_nothing,
    ready_means_secret_and_agents,
    ready_has_no_rollout_in_flight,
    suspended_follows_the_spec,
    old_pods_add_up,
    the_oldest_call_is_on_an_old_pod,
    calls_drained_follows_the_old_pods,
    a_leak_is_told_and_has_no_way_back,
    the_status_stays_small,
    a_patch_is_there_to_commit,
    the_model_reads_it,
)


def violations(obj: Mapping[str, Any], *, finished: bool = True) -> list[str]:
    """Return what breaks a rule, each as ``rule: what``; empty when all is well.

    Args:
        obj: a VoiceKeyBinding or VoiceKeyStore as the API server has it.
        finished: the reconcile that wrote it came to its end. False for what a watch sees in between (an intent that
            is recorded before an act, a spec that nobody has looked at yet).
    """
    seen = Seen(obj, finished)
    missing = [f"never_without_a_status: {what}" for what in never_without_a_status(seen)]
    if missing or seen.observed == -1:  # -1: nobody has looked at it, and the CRD's default says so
        return missing
    return [f"{rule.__name__}: {what}" for rule in RULES for what in rule(seen)]


def check_binding(obj: Mapping[str, Any], *, finished: bool = True) -> None:
    """Raise AssertionError, listing every broken rule, unless a binding's status keeps the laws; see `violations`."""
    _check(obj, "VoiceKeyBinding", finished=finished)


def check_store(obj: Mapping[str, Any], *, finished: bool = True) -> None:
    """The same of a store."""
    _check(obj, "VoiceKeyStore", finished=finished)


def _check(obj: Mapping[str, Any], kind: str, *, finished: bool) -> None:
    assert obj["kind"] == kind, f"not a {kind} but a {obj['kind']}"
    found = violations(obj, finished=finished)
    status = json.dumps(obj.get("status"), indent=1)
    assert not found, "\n  ".join([f"{kind} {obj['metadata']['name']}:", *found, status])
