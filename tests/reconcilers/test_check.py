"""The checker of statuses catches each kind of wrong status: one mutation for each rule."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests import gen
from tests.api.samples import BINDING_STATUS
from tests.reconcilers import check
from tests.reconcilers.check import check_binding, check_store, violations
from voicekeys.api.status import AgentStatus, dump_status

MEND = "write a working key into Vault"
AGENT = {"kind": "Deployment", "name": "receptionist"}
PATCH = '{"spec":{"template":{"spec":{}}}}'
POD = {"uid": "u-a", "name": "receptionist-a"}
VANISHED = POD | {"vanishedTime": gen.text(gen.NOW)}
DRAINING = {"id": "v7", "phase": "Draining", "fromVersion": 6, "toVersion": 7, "startedTime": gen.text(gen.NOW)}


def stalled(reason: str = "FieldMissing", message: str = MEND) -> gen.Modifier:
    def modify(obj: gen.Object) -> None:
        gen.condition("Ready", "False", reason, message)(obj)
        gen.condition("Stalled", "True", reason, message)(obj)

    return modify


def reconciling(obj: gen.Object) -> None:
    gen.condition("Ready", "False", "Rolling", "1 of 3 pods serve")(obj)
    gen.condition("Reconciling", "True", "Rolling", "1 of 3 pods serve")(obj)


def agent(*old_pods: gen.Object) -> gen.Modifier:
    return gen.put("status.agents", [{"kind": "Deployment", "name": "receptionist", "oldPods": list(old_pods)}])


def rotation(**fields: object) -> gen.Modifier:
    return gen.put("status.rotation", DRAINING | fields)


def unsorted(obj: gen.Object) -> None:
    obj["status"]["conditions"].reverse()


def doubled(obj: gen.Object) -> None:
    obj["status"]["conditions"].append(dict(obj["status"]["conditions"][-1]))


def other_generation(obj: gen.Object) -> None:
    obj["status"]["conditions"][0]["observedGeneration"] = 2


SUSPENDED = gen.condition("Suspended", "True", "Suspended", "spec.suspend stops every act until it is taken back")
UNREACHABLE = gen.condition("SourceReachable", "False", "Sealed", "unseal Vault")
DRAINED_NOT = gen.condition("CallsDrained", "False", "Draining", "1 pod(s) on the old key have not ended yet")
LEAK = {"since": gen.text(gen.NOW), "version": 6}
LEAKED = gen.condition("KeyLeaked", "True", "NewKeyAwaited", "version 6 has leaked: put a new one into Vault")

GOOD = {
    "the key is in place": (),
    "a change is on its way": (reconciling, gen.condition("AgentsCurrent", "False", "Rolling", "1 of 3 pods serve")),
    "a person must act": (stalled(), gen.condition("SecretSynced", "False", "FieldMissing", MEND)),
    "Vault does not answer, the last good key is in place": (UNREACHABLE,),
    "a person must act, and Vault does not answer": (stalled(), UNREACHABLE),
    "without agents": (gen.agents(), gen.without("AgentsCurrent"), gen.without("CallsDrained")),
    "suspended while a rollout was on": (
        gen.put("spec.suspend", True),
        SUSPENDED,
        gen.condition("AgentsCurrent", "False", "Rolling", "1 of 3 pods serve"),
    ),
    "old pods finish their calls": (agent(POD), DRAINED_NOT, rotation(pods=3, podsOnOldKey=1)),
    "a pod vanished": (
        agent(VANISHED),
        gen.condition("CallsDrained", "Unknown", "Unwitnessed", "1 pod(s) vanished: look on their nodes"),
        rotation(pods=3, podsOnOldKey=1),
    ),
    "the key has leaked": (LEAKED, gen.put("status.emergency", LEAK)),
    "it is being deleted": (gen.put("metadata.deletionTimestamp", gen.text(gen.NOW)),),
    "nobody has looked at it": (gen.put("status", {"observedGeneration": -1}),),
}
UNSEEN = {"the first agent was named just now": (gen.put("metadata.generation", 4), gen.without("AgentsCurrent"))}


@pytest.mark.parametrize("modifiers", GOOD.values(), ids=GOOD)
def test_a_good_status_passes(modifiers: tuple[gen.Modifier, ...]) -> None:
    check_binding(gen.ready_binding(*modifiers))
    check_binding(gen.ready_binding(*modifiers), finished=False)


@pytest.mark.parametrize("modifiers", UNSEEN.values(), ids=UNSEEN)
def test_a_spec_that_nobody_has_looked_at_is_no_fault_of_the_status(modifiers: tuple[gen.Modifier, ...]) -> None:
    check_binding(gen.ready_binding(*modifiers), finished=False)


BAD = {
    "no status": ("never_without_a_status", gen.drop("status")),
    "Ready beside Reconciling": (
        "one_summary_holds",
        gen.condition("Reconciling", "True", "KeyInPlace", "the current key is in place"),
    ),
    "Ready beside Stalled": (
        "one_summary_holds",
        gen.condition("Stalled", "True", "KeyInPlace", "the current key is in place"),
    ),
    "Reconciling beside Stalled": ("one_summary_holds", stalled(), reconciling),
    "not Ready, and nothing says why": ("one_summary_holds", gen.condition("Ready", "False", "Rolling", "soon")),
    "no Ready": ("ready_is_always_there", gen.without("Ready")),
    "Ready says something else than Stalled": (
        "ready_says_why_not",
        stalled(),
        gen.condition("Ready", "False", "FieldMissing", "something else"),
    ),
    "a status from the future": ("generations_agree", gen.put("status.observedGeneration", 4)),
    "a status of the generation before": ("generations_agree", gen.put("metadata.generation", 4)),
    "one condition of the generation before": ("generations_agree", other_generation),
    "kstatus sees it move": (
        "kstatus_sees_what_we_claim",
        gen.condition("Reconciling", "True", "KeyInPlace", "the current key is in place"),
    ),
    "kstatus sees it fail": (
        "kstatus_sees_what_we_claim",
        gen.condition("Stalled", "True", "KeyInPlace", "the current key is in place"),
    ),
    "a condition that nobody knows": (
        "types_are_known_and_the_right_way_round",
        gen.condition("Shiny", "True", "VeryShiny", "shines"),
    ),
    "a condition of the other kind": (
        "types_are_known_and_the_right_way_round",
        gen.condition("LoggedIn", "True", "LoggedIn", "logins succeed"),
    ),
    "an abnormal condition that is not so": (
        "types_are_known_and_the_right_way_round",
        gen.condition("CapacityAtRisk", "False", "Fine", "no capacity is at risk"),
    ),
    "a type twice": ("types_come_once_and_sorted", doubled),
    "types unsorted": ("types_come_once_and_sorted", unsorted),
    "a reason of two words": ("reasons_are_words", gen.condition("KeyFresh", "True", "Very_Fresh", "the key is young")),
    "a reason in small letters": ("reasons_are_words", gen.condition("KeyFresh", "True", "fresh", "the key is young")),
    "no message": ("messages_are_for_people", gen.condition("KeyFresh", "True", "Fresh", "")),
    "a message of two lines": ("messages_are_for_people", gen.condition("KeyFresh", "True", "Fresh", "a\nb")),
    "a message with a space at its end": ("messages_are_for_people", gen.condition("KeyFresh", "True", "Fresh", "a ")),
    "a message with a dot": ("messages_are_for_people", gen.condition("KeyFresh", "True", "Fresh", "It is.")),
    "a message that nobody reads": ("messages_are_for_people", gen.condition("KeyFresh", "True", "Fresh", "a" * 1025)),
    "Stalled without advice": ("stalled_says_what_to_do", stalled("Broken", "something is broken")),
    "Vault does not answer, without advice": (
        "what_is_wrong_says_what_to_do",
        gen.condition("SourceReachable", "False", "Sealed", "Vault is sealed"),
    ),
    "agents at risk, without advice": (
        "what_is_wrong_says_what_to_do",
        gen.condition("CapacityAtRisk", "True", "CapacityAtRisk", "pods end before new ones serve"),
    ),
    "a time in the future": (
        "times_are_past",
        gen.condition("KeyFresh", "True", "Fresh", "young", since=datetime.now(UTC) + timedelta(hours=1)),
    ),
    "Vault does not answer, and that stalls": ("a_source_that_fails_stalls_nothing", UNREACHABLE, stalled("Sealed")),
    "Ready without the Secret": (
        "ready_means_secret_and_agents",
        gen.condition("SecretSynced", "False", "FieldMissing", MEND),
    ),
    "Ready, nothing said of the Secret": ("ready_means_secret_and_agents", gen.without("SecretSynced")),
    "Ready with old agents": (
        "ready_means_secret_and_agents",
        gen.condition("AgentsCurrent", "False", "Rolling", "1 of 3 pods serve"),
    ),
    "Ready, nothing said of the agents": ("ready_means_secret_and_agents", gen.without("AgentsCurrent")),
    "Ready while a rollout is on": ("ready_has_no_rollout_in_flight", rotation(phase="Rolling")),
    "suspended in silence": ("suspended_follows_the_spec", gen.put("spec.suspend", True)),
    "a count without a change": ("old_pods_add_up", rotation(phase="Idle", pods=1, podsOnOldKey=1)),
    "a count that is not the pods'": ("old_pods_add_up", agent(POD), DRAINED_NOT, rotation(pods=3, podsOnOldKey=2)),
    "more pods left than there were": ("old_pods_add_up", agent(POD), DRAINED_NOT, rotation(pods=0, podsOnOldKey=1)),
    "a pod twice": ("old_pods_add_up", agent(POD, POD), DRAINED_NOT, rotation(pods=2, podsOnOldKey=2)),
    "a call on no pod": (
        "the_oldest_call_is_on_an_old_pod",
        gen.put("status.agents", [AGENT | {"oldestCallTime": gen.text(gen.NOW)}]),
    ),
    "drained, with a pod left": ("calls_drained_follows_the_old_pods", agent(POD), rotation(pods=1, podsOnOldKey=1)),
    "not drained, with no pod left": ("calls_drained_follows_the_old_pods", DRAINED_NOT),
    "drained, with a pod that vanished": ("calls_drained_follows_the_old_pods", agent(VANISHED)),
    "a leak in silence": ("a_leak_is_told_and_has_no_way_back", gen.put("status.emergency", LEAK)),
    "a leak that is none": ("a_leak_is_told_and_has_no_way_back", LEAKED),
    "the way back after a leak": (
        "a_leak_is_told_and_has_no_way_back",
        LEAKED,
        gen.put("status.emergency", LEAK),
        rotation(phase="RollingBack"),
    ),
    "a status that grew": (
        "the_status_stays_small",
        agent(*({"uid": f"u-{number}", "name": "a" * 50} for number in range(300))),
    ),
    "a patch for pods that have their hook": (
        "a_patch_is_there_to_commit",
        gen.put("status.agents", [AGENT | {"unarmed": 0, "hookPatch": PATCH}]),
    ),
    "a patch that was cut": (
        "a_patch_is_there_to_commit",
        gen.put("status.agents", [AGENT | {"unarmed": 1, "hookPatch": PATCH[:-1]}]),
    ),
    "a patch of something else": (
        "a_patch_is_there_to_commit",
        gen.put("status.agents", [AGENT | {"unarmed": 1, "hookPatch": '{"spec":{"replicas":0}}'}]),
    ),
    "patches without end": (
        "a_patch_is_there_to_commit",
        gen.put("status.agents", [AGENT | {"unarmed": 1, "hookPatch": PATCH + " " * 8192}]),
    ),
    "a status that nobody can read": ("the_model_reads_it", rotation(phase="Thinking")),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_wrong_status_is_caught(case: tuple[str, *tuple[gen.Modifier, ...]]) -> None:
    rule, *modifiers = case
    obj = gen.ready_binding(*modifiers)
    assert rule in {found.partition(":")[0] for found in violations(obj)}
    with pytest.raises(AssertionError, match=rf"(?s)VoiceKeyBinding frejun:.*{re.escape(rule)}"):
        check_binding(obj)


def test_every_rule_has_its_wrong_status() -> None:
    assert {rule for rule, *_ in BAD.values()} == {
        rule.__name__ for rule in (check.never_without_a_status, *check.RULES)
    }


IN_BETWEEN = {
    "a spec that nobody has looked at": (gen.put("metadata.generation", 4),),
    "an intent, written before the act": (agent(POD), rotation(phase="Staged", pods=1)),
    "suspended a moment ago": (gen.put("spec.suspend", True), gen.put("metadata.generation", 4)),
}


@pytest.mark.parametrize("modifiers", IN_BETWEEN.values(), ids=IN_BETWEEN)
def test_what_is_half_done_passes_as_such(modifiers: tuple[gen.Modifier, ...]) -> None:
    check_binding(gen.ready_binding(*modifiers), finished=False)
    assert violations(gen.ready_binding(*modifiers))


def test_a_full_status_is_small_enough() -> None:
    """16 agents, 10 of them with 6 pods on the old key each, and the restarts of an hour at the default budget.

    Beside them, the patches of manifests have 8 KiB of their own.
    """
    sample = BINDING_STATUS.agents[0]
    pods = [
        {"uid": f"{number:08d}-0000-0000-0000-000000000000", "name": f"receptionist-{number}-abcde"}
        for number in range(6)
    ]
    agents = [dump_status(BINDING_STATUS)["agents"][0] | {"name": f"agent-{number}"} for number in range(16)]
    assert isinstance(sample, AgentStatus)
    for one in agents:
        del one["intendedTrigger"], one["divergedTime"]  # they go when the template is patched, which brings old pods
    for one in agents[:10]:
        one["oldPods"] = [pod | {"deadline": gen.text(gen.NOW), "node": "node-1", "graceSeconds": 1800} for pod in pods]
    for one in agents[10:]:
        del one["oldPods"], one["oldestCallTime"]
    obj = gen.ready_binding(gen.put("status.agents", agents))
    assert not list(check.the_status_stays_small(check.Seen(obj, finished=True)))


STORE = (
    gen.put("status", {"observedGeneration": 1, "conditions": []}),
    gen.condition("LoggedIn", "True", "LoggedIn", "logins succeed"),
    gen.condition("Reachable", "True", "Answers", "Vault answers"),
    gen.condition("Ready", "True", "Answers", "Vault answers"),
)


def test_a_store_is_checked_by_its_own_table() -> None:
    check_store(gen.store(*STORE))
    with pytest.raises(AssertionError, match="SecretSynced is not in the table"):
        check_store(gen.store(*STORE, gen.condition("SecretSynced", "True", "Synced", "it is there")))
    with pytest.raises(AssertionError, match="not a VoiceKeyBinding"):
        check_binding(gen.store(*STORE))
