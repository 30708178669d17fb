"""Before a workload is restarted: what must hold, and what a user should know."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests import gen
from voicekeys.model.verdict import Verdict
from voicekeys.policies import preflight

if TYPE_CHECKING:
    from voicekeys.model.payload import Payload
    from voicekeys.model.workload import Workload

ID = "Deployment voice/receptionist"
SECRET = gen.SECRET
NOT_USED = Verdict(
    "SecretNotUsed",
    f"{ID} does not read Secret {SECRET} by env, envFrom or a volume, so a restart would bring it no new key: "
    "add a secretKeyRef to its pod template, or take it out of spec.agents",
)
FULL = {"metadata": {"name": "team"}, "status": {"hard": {"pods": "3"}, "used": {"pods": "3"}}}

BLOCKS = {
    "nothing in the way": (gen.deployment(), [], None),
    "the Secret is not read": (gen.deployment(gen.env()), [], NOT_USED),
    "the strategy ends every pod first": (
        gen.deployment(gen.strategy("Recreate")),
        [],
        Verdict(
            "NotRollingUpdate",
            f"{ID} has strategy Recreate, which ends every pod before the first new one starts: set spec.strategy.type "
            "to RollingUpdate, with maxUnavailable 0 and maxSurge 1",
        ),
    ),
    "no room for the surge": (
        gen.deployment(),
        [FULL],
        Verdict(
            "QuotaExceeded",
            f"{ID} needs room for 1 more pod(s) while it restarts: that is 1 of pods, but ResourceQuota team has only "
            "0 of 3 left: raise it to 4, or lower maxSurge",
        ),
    ),
    "without a surge a full quota is no matter": (
        gen.deployment(gen.strategy("RollingUpdate", maxSurge=0, maxUnavailable=1)),
        [FULL],
        None,
    ),
    "a StatefulSet has no surge": (gen.stateful_set(), [FULL], None),
    "OnDelete is the user's own pace": (gen.stateful_set(gen.strategy("OnDelete")), [], None),
    "the first fault is the one to show": (gen.deployment(gen.env(), gen.strategy("Recreate")), [FULL], NOT_USED),
}


@pytest.mark.parametrize(("workload", "quotas", "verdict"), BLOCKS.values(), ids=BLOCKS)
def test_block(workload: Workload, quotas: list[dict[str, Any]], verdict: Verdict | None) -> None:
    assert preflight.block(workload, SECRET, quotas) == verdict


NO_SURGE = gen.strategy("RollingUpdate", maxSurge=0, maxUnavailable=1)
EXTRA = {
    "Deployment": (gen.deployment(), 1, 3),
    "Deployment without a surge": (gen.deployment(NO_SURGE), 0, 3),
    "Deployment of eight, as it is by default": (gen.deployment(gen.strategy("RollingUpdate"), gen.replicas(8)), 2, 8),
    "Deployment of no pod": (gen.deployment(gen.replicas(0)), 1, 0),
    "StatefulSet": (gen.stateful_set(), 0, 0),
    "DaemonSet": (gen.daemon_set(), 0, 0),
    "DaemonSet with a surge": (
        gen.daemon_set(gen.strategy("RollingUpdate", maxSurge=1, maxUnavailable=0), gen.replicas(5)),
        1,
        5,
    ),
}


@pytest.mark.parametrize(("workload", "without", "with_calls"), EXTRA.values(), ids=EXTRA)
def test_the_most_pods_beside_those_that_are_there(workload: Workload, without: int, with_calls: int) -> None:
    assert preflight.most_extra(workload, drains=False) == without
    assert preflight.most_extra(workload, drains=True) == with_calls


def _quota(hard: Any, used: Any, resource: str = "pods") -> list[dict[str, Any]]:
    return [{"metadata": {"name": "team"}, "status": {"hard": {resource: hard}, "used": {resource: used}}}]


ROOM = {
    "for the surge alone": (_quota(5, 3), 0, "3 of pods, but ResourceQuota team has only 2 of 5 left: raise it to 6"),
    "for all of them": (_quota(6, 3), 0, None),
    "for all but the one that makes room": (_quota(6, 4), 1, None),
    "while a change before still drains": (_quota(8, 6), 0, "only 2 of 8 left: raise it to 9"),
    "of cpu": (
        _quota("1", "750m", "requests.cpu"),
        0,
        "0.75 of requests.cpu, but ResourceQuota team has only 0.25 of 1 left: raise it to 1.5",
    ),
}


@pytest.mark.parametrize(("quotas", "there", "words"), ROOM.values(), ids=ROOM)
def test_room_for_every_old_pod_beside_every_new_one(
    quotas: list[dict[str, Any]], there: int, words: str | None
) -> None:
    reader = [{"name": "agent", "env": [reads(SECRET)], "resources": {"requests": {"cpu": "250m"}}}]
    found = preflight.block(gen.deployment(gen.pod_spec(containers=reader)), SECRET, quotas, there, drains=True)
    assert (found is None) == (words is None)
    if found is not None:
        assert found.reason == "QuotaExceeded"
        assert (words or "") in found.message
        assert "maxSurge" not in found.message


def reads(name: str) -> dict[str, Any]:
    return {"name": "K", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}


USES = {
    "env": ({"containers": [{"env": [{"name": "X", "value": "1"}, reads(SECRET)]}]}, True),
    "env of an init container": ({"initContainers": [{"env": [reads(SECRET)]}], "containers": []}, True),
    "env of the second container": ({"containers": [{}, {"env": [reads(SECRET)]}]}, True),
    "envFrom": ({"containers": [{"envFrom": [{"secretRef": {"name": SECRET}}]}]}, True),
    "a volume": ({"containers": [], "volumes": [{"secret": {"secretName": SECRET}}]}, True),
    "a projected volume": (
        {"volumes": [{"emptyDir": {}}, {"projected": {"sources": [{"configMap": {}}, {"secret": {"name": SECRET}}]}}]},
        True,
    ),
    "another Secret everywhere": (
        {
            "containers": [{"env": [reads("x")], "envFrom": [{"secretRef": {"name": "x"}}]}],
            "volumes": [{"secret": {"secretName": "x"}}, {"projected": {"sources": [{"secret": {"name": "x"}}]}}],
        },
        False,
    ),
    "a ConfigMap of that name": ({"containers": [{"envFrom": [{"configMapRef": {"name": SECRET}}]}]}, False),
    "nothing": ({"containers": [{"env": None, "envFrom": None}], "volumes": None}, False),
}


@pytest.mark.parametrize(("pod_spec", "uses"), USES.values(), ids=USES)
def test_a_pod_reads_the_secret_by(pod_spec: dict[str, Any], uses: bool) -> None:  # noqa: FBT001
    assert preflight.uses_secret(pod_spec, SECRET) is uses


SURGES = {
    "Deployment, as written": (gen.deployment(), (1, 0)),
    "Deployment, defaults of 3 pods": (gen.deployment(gen.strategy("RollingUpdate")), (1, 0)),
    "Deployment, defaults of 8 pods": (gen.deployment(gen.strategy("RollingUpdate"), gen.replicas(8)), (2, 2)),
    "Deployment, shares round up and down": (
        gen.deployment(gen.strategy("RollingUpdate", maxSurge="10%", maxUnavailable="10%")),
        (1, 0),
    ),
    "Deployment, nothing allowed becomes one": (
        gen.deployment(gen.strategy("RollingUpdate", maxSurge=0, maxUnavailable="10%")),
        (0, 1),
    ),
    "Deployment, Recreate lacks all": (gen.deployment(gen.strategy("Recreate")), (0, 3)),
    "StatefulSet": (gen.stateful_set(), (0, 1)),
    "DaemonSet, defaults": (gen.daemon_set(), (0, 1)),
    "DaemonSet, a share rounds up": (gen.daemon_set(gen.strategy("RollingUpdate", maxUnavailable="10%")), (0, 1)),
    "DaemonSet with a surge": (gen.daemon_set(gen.strategy("RollingUpdate", maxSurge=1, maxUnavailable=0)), (1, 0)),
    "DaemonSet, OnDelete": (gen.daemon_set(gen.strategy("OnDelete")), (0, 1)),
}


@pytest.mark.parametrize(("workload", "expected"), SURGES.values(), ids=SURGES)
def test_surge(workload: Workload, expected: tuple[int, int]) -> None:
    assert preflight.surge(workload) == expected


def _lacks(kind: str, pods: str, field: str) -> Verdict:
    return Verdict(
        "UnavailableDuringRollout",
        f"{kind} voice/receptionist may lack {pods} pods while it restarts: set {field}.rollingUpdate to "
        "maxUnavailable 0 and maxSurge 1 (or more)",
    )


RISKS = {
    "a surge and nothing unavailable": (gen.deployment(), None),
    "a Deployment by its defaults": (
        gen.deployment(gen.strategy("RollingUpdate"), gen.replicas(8)),
        _lacks("Deployment", "2 of its 8", "spec.strategy"),
    ),
    "a DaemonSet by its defaults": (gen.daemon_set(), _lacks("DaemonSet", "1 of its 3", "spec.updateStrategy")),
    "a Deployment that ends all pods first": (
        gen.deployment(gen.strategy("Recreate")),
        _lacks("Deployment", "3 of its 3", "spec.strategy"),
    ),
    "a StatefulSet": (
        gen.stateful_set(),
        Verdict(
            "NoSurge",
            "StatefulSet voice/receptionist: a StatefulSet ends a pod before its successor starts, so capacity is "
            "short by one pod for as long as its last call takes: add a replica to spare, or use a Deployment with "
            "maxSurge",
        ),
    ),
    "a StatefulSet that waits for the user": (
        gen.stateful_set(gen.strategy("OnDelete")),
        Verdict(
            "OnDelete",
            "StatefulSet voice/receptionist has updateStrategy OnDelete, so its pods count as on the old key until "
            "they were replaced: delete them one by one after each change of the key, or set updateStrategy to "
            "RollingUpdate",
        ),
    ),
}


@pytest.mark.parametrize(("workload", "verdict"), RISKS.values(), ids=RISKS)
def test_capacity_at_risk(workload: Workload, verdict: Verdict | None) -> None:
    assert preflight.capacity_at_risk(workload) == verdict


GRACES = {
    "no call length promised": (60, None, None),
    "longer than the longest call": (1845, timedelta(minutes=30), None),
    "just as long": (1800, timedelta(minutes=30), None),
    "shorter": (
        1799,
        timedelta(minutes=30),
        Verdict(
            "GraceTooShort",
            f"{ID} is killed 1799 s after its end was asked for, but drain.maxCallDuration promises calls of 1800 s: "
            "set terminationGracePeriodSeconds to 1845",
        ),
    ),
}


@pytest.mark.parametrize(("grace", "longest", "verdict"), GRACES.values(), ids=GRACES)
def test_grace_too_short(grace: int, longest: timedelta | None, verdict: Verdict | None) -> None:
    workload = gen.deployment(gen.pod_spec(terminationGracePeriodSeconds=grace))
    assert preflight.grace_too_short(workload, longest) == verdict


def test_a_workload_without_a_grace_has_the_default() -> None:
    workload = gen.deployment(gen.drop("spec.template.spec.terminationGracePeriodSeconds"))
    assert preflight.grace_too_short(workload, timedelta(seconds=30)) is None
    assert preflight.grace_too_short(workload, timedelta(seconds=31)) is not None


KEY = gen.payload(api_key=gen.CANARY, pin="1234")
LITERALS = {
    "the key itself, whatever it is called": ("X", gen.CANARY, KEY, True),
    "a short value may be equal by chance": ("X", "1234", KEY, False),
    "only the whole value counts": ("X", gen.CANARY + "x", KEY, False),
    "the key is not known": ("X", gen.CANARY, None, False),
    "a Twilio key": ("TWILIO_API_KEY", "SK" + "0a" * 16, KEY, True),
    "a LiveKit key": ("LIVEKIT_API_KEY", "APIabcdef123456", KEY, True),
    "a Deepgram key": ("DEEPGRAM_TOKEN", "0a" * 20, KEY, True),
    "a 64-digit hex key": ("AUTH", "0a" * 32, KEY, True),
    "an OpenAI key": ("openai_apikey", "sk-" + "a1" * 12, KEY, True),
    "a JWT": ("JWT_SECRET", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", KEY, True),
    "what looks like a key under an innocent name": ("COMMIT", "0a" * 20, KEY, False),
    "a secret name with an innocent value": ("API_KEY_FILE", "/var/run/key", KEY, False),
    "no value": ("API_KEY", "", KEY, False),
}


@pytest.mark.parametrize(("name", "value", "key", "literal"), LITERALS.values(), ids=LITERALS)
def test_a_literal_key(name: str, value: str, key: Payload | None, literal: bool) -> None:  # noqa: FBT001
    verdict = preflight.literal_key(gen.deployment(gen.env({"name": name, "value": value})), key)
    expected = Verdict(
        "LiteralKeyInManifest",
        f"{ID}, container agent: env {name} holds what is or looks like a key as plain text, readable to whoever "
        "reads the manifest and out of reach of any rotation: use valueFrom.secretKeyRef, and change that key at its "
        "provider",
    )
    assert verdict == (expected if literal else None)
    assert not value or value not in str(verdict)


def test_a_reference_is_no_literal() -> None:
    assert preflight.literal_key(gen.deployment(), KEY) is None


def test_pods_of_an_unfinished_restart_make_room_and_the_way_back_needs_none() -> None:
    full = [{"metadata": {"name": "q"}, "status": {"hard": {"pods": "4"}, "used": {"pods": "4"}}}]
    refused = preflight.block(gen.deployment(), SECRET, full)
    assert refused is not None
    assert refused.reason == "QuotaExceeded"
    assert preflight.block(gen.deployment(), SECRET, full, 1) is None
    assert preflight.block(gen.deployment(), SECRET, None) is None
