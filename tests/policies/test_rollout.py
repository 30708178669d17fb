"""One agent's next step: never before the Secret is everywhere, never beyond the budget, always with a way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests import gen
from tests.policies.rollouts import ADOPTED, BLOCK, PATCHED, progress, restarts
from voicekeys.api.binding import Rollout
from voicekeys.model.verdict import Verdict
from voicekeys.policies import rollout as policy
from voicekeys.policies.rollout import Do, Progress, Step

ID = "Deployment voice/receptionist"

BEFORE = {
    "the template may be patched": (
        progress(),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
    "preflight found something in the way": (
        progress(),
        BLOCK,
        Step(Do.HOLD, BLOCK, gen.at(60), stalls=True),
    ),
    "a node may still serve the old Secret": (
        progress(ready_at=gen.at(3)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "Propagating",
                f"the Secret has the new key; {ID} restarts 5 s later, when every node can read it",
            ),
            gen.at(3),
        ),
    ),
    "the key of before is back, and a node may still serve the other": (
        progress(replace(ADOPTED, digest="d2", diverged_time=gen.NOW), ready_at=gen.at(3)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "Propagating",
                f"the Secret holds the key of {ID} again; whether a pod read another one shows soon",
            ),
            gen.at(3),
        ),
    ),
    "the budget of the hour is spent": (
        progress(spent=restarts(59, 50, 40, 30, 20, 10)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "RestartBudgetSpent",
                f"{ID} was restarted 6 times within an hour, as often as spec.rollout.maxRestartsPerHour allows; it "
                "goes on at 2026-03-01T12:01:00Z. Find out what changes the key so often, or raise the number",
            ),
            gen.at(60),
            stalls=True,
        ),
    ),
    "the budget was lowered below what is spent": (
        progress(spent=restarts(59, 50, 40), settings=Rollout(max_restarts_per_hour=1)),
        None,
        Step(
            Do.HOLD,
            Verdict(
                "RestartBudgetSpent",
                f"{ID} was restarted 3 times within an hour, as often as spec.rollout.maxRestartsPerHour allows; it "
                "goes on at 2026-03-01T12:20:00Z. Find out what changes the key so often, or raise the number",
            ),
            gen.at(20 * 60),
            stalls=True,
        ),
    ),
    "a way back costs no restart of the budget": (
        progress(spent=restarts(59, 50, 40, 30, 20, 10), rolling_back=True),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
    "the key that replaces a leaked one waits for no budget": (
        progress(spent=restarts(59, 50, 40, 30, 20, 10), leaked=True),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
    "what preflight finds holds it up all the same": (
        progress(leaked=True),
        BLOCK,
        Step(Do.HOLD, BLOCK, gen.at(60), stalls=True),
    ),
    "a paused workload is patched all the same": (
        progress(workload=gen.deployment(gen.put("spec.paused", True))),
        None,
        Step(Do.PATCH, Verdict("Patching", f"{ID} is being restarted on the new key")),
    ),
}

BEFORE["somebody takes the trigger off again and again"] = (
    progress(
        replace(ADOPTED, strips=2),
        workload=gen.deployment(
            gen.put("metadata.managedFields", [{"manager": "argocd-controller", "fieldsV1": {"f:spec": {}}}])
        ),
        annotation="voicekeys.dev/key.frejun",
    ),
    None,
    Step(
        Do.HOLD,
        Verdict(
            "TriggerRemoved",
            f"argocd-controller took annotation voicekeys.dev/key.frejun off the pod template of {ID}, or changed it, "
            "so that its pods restart for nothing: let that tool ignore annotations of /spec/template/metadata (Argo "
            "CD: ignoreDifferences with RespectIgnoreDifferences=true; Helm, Kustomize: no patch that replaces them), "
            "then annotate the binding with voicekeys.dev/sync-now",
        ),
        stalls=True,
    ),
)

HALF = gen.deployment(gen.rolling(updated=2, available=3))
NONE = gen.deployment(gen.rolling(updated=1, available=3))
BROKEN = gen.pod(
    "receptionist-y",
    gen.put("status.containerStatuses", [{"name": "agent", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]),
)
LATE = gen.at(600)
TIMED_OUT = f"1 of 3 pods of {ID} serve 10 min after the restart on the new key"

AFTER = {
    "nothing is to be done": (progress(replace(ADOPTED, digest="d2")), Step(Do.NOTHING)),
    "all new pods serve, the old ones are on their way out": (progress(PATCHED, old_serving=0), Step(Do.NOTHING)),
    "new pods come": (
        progress(PATCHED, workload=HALF),
        Step(Do.WATCH, Verdict("Rolling", f"2 of 3 pods of {ID} serve; they restart on the new key"), LATE),
    ),
    "all new pods are there, an old one still takes calls": (
        progress(PATCHED, old_serving=1),
        Step(Do.WATCH, Verdict("Rolling", f"3 of 3 pods of {ID} serve; they restart on the new key"), LATE),
    ),
    "the controller has not seen the patch": (
        progress(PATCHED, workload=gen.deployment(gen.put("metadata.generation", 4)), old_serving=0),
        Step(Do.WATCH, Verdict("Rolling", f"3 of 3 pods of {ID} serve; they restart on the new key"), LATE),
    ),
    "the user's pause": (
        progress(PATCHED, workload=gen.deployment(gen.put("spec.paused", True), gen.rolling(0, 3)), now=LATE),
        Step(
            Do.HOLD,
            Verdict(
                "WaitingForResume",
                f"{ID} is paused and carries the new key: resume it, and its pods restart (kubectl rollout resume)",
            ),
        ),
    ),
    "the user deletes the pods": (
        progress(PATCHED, workload=gen.stateful_set(gen.strategy("OnDelete"), gen.rolling(0, 3)), now=LATE),
        Step(
            Do.WATCH,
            Verdict(
                "WaitingForDelete",
                "StatefulSet voice/receptionist carries the new key; delete its old pods one by one, each takes the "
                "key as it returns",
            ),
        ),
    ),
    "the user's partition keeps the other pods": (
        progress(
            PATCHED,
            workload=gen.stateful_set(gen.strategy("RollingUpdate", partition=2), gen.rolling(1, 3)),
            now=LATE,
        ),
        Step(
            Do.WATCH,
            Verdict(
                "WaitingForPartition",
                "StatefulSet voice/receptionist carries the new key; its pods below "
                "spec.updateStrategy.rollingUpdate.partition 2 take it when you set partition to 0",
            ),
        ),
    ),
    "a partition of 0 holds nothing": (
        progress(PATCHED, workload=gen.stateful_set(gen.strategy("RollingUpdate", partition=0), gen.rolling(2, 3))),
        Step(
            Do.WATCH,
            Verdict("Rolling", "2 of 3 pods of StatefulSet voice/receptionist serve; they restart on the new key"),
            LATE,
        ),
    ),
    "new pods did not come in time: back": (
        progress(PATCHED, workload=NONE, now=LATE, troubled=[BROKEN]),
        Step(
            Do.ROLL_BACK,
            Verdict(
                "NewKeyRefused",
                f"{TIMED_OUT} (receptionist-y: container agent: ImagePullBackOff). Versions are being changed back: "
                "put a working key into Vault",
            ),
            stalls=True,
        ),
    ),
    "new pods of a joint restart did not come in time": (
        progress(PATCHED, workload=NONE, now=LATE, along=["c", "d"]),
        Step(
            Do.ROLL_BACK,
            Verdict(
                "NewKeyRefused",
                f"{TIMED_OUT}, which brought the keys of VoiceKeyBinding c and d, too: any of them may be the cause. "
                "Versions are being changed back: put a working key into Vault",
            ),
            stalls=True,
        ),
    ),
    "below the partition a pod that does not start is refused, too": (
        progress(
            PATCHED,
            workload=gen.stateful_set(gen.strategy("RollingUpdate", partition=2), gen.rolling(1, 2)),
            now=LATE,
            settings=Rollout(timeout=timedelta(seconds=90)),
        ),
        Step(
            Do.ROLL_BACK,
            Verdict(
                "NewKeyRefused",
                "1 of 3 pods of StatefulSet voice/receptionist serve 90 s after the restart on the new key. Versions "
                "are being changed back: put a working key into Vault",
            ),
            stalls=True,
        ),
    ),
    "a controller that is away has refused nothing": (
        progress(PATCHED, workload=gen.deployment(gen.put("metadata.generation", 4)), now=LATE),
        Step(
            Do.WATCH,
            Verdict(
                "Rolling",
                f"3 of 3 pods of {ID} serve 10 min after the restart on the new key: the workload's controller has not "
                "taken it up yet",
            ),
        ),
    ),
    "a leaked key is not put back": (
        progress(PATCHED, workload=NONE, now=LATE, leaked=True),
        Step(
            Do.WATCH,
            Verdict(
                "LeakedKeyNotPutBack",
                f"{TIMED_OUT}. The previous key has leaked and is not put back: put a working key into Vault",
            ),
            stalls=True,
        ),
    ),
    "there is nothing to go back to": (
        progress(replace(PATCHED, previous_digest=None), workload=NONE, now=LATE),
        Step(Do.WATCH, Verdict("RolloutTimedOut", f"{TIMED_OUT}: see `kubectl describe pod`"), stalls=True),
    ),
    "the way back goes on": (
        progress(PATCHED, workload=HALF, rolling_back=True),
        Step(Do.WATCH, Verdict("RollingBack", f"2 of 3 pods of {ID} serve; they go back to the previous key"), LATE),
    ),
    "the way back does not come in time, either": (
        progress(PATCHED, workload=NONE, now=LATE, rolling_back=True),
        Step(Do.WATCH, Verdict("RolloutTimedOut", f"{TIMED_OUT}: see `kubectl describe pod`"), stalls=True),
    ),
    "a way back that is not recorded as patched is followed": (
        progress(replace(PATCHED, patched_time=None), workload=HALF, rolling_back=True, now=LATE),
        Step(
            Do.WATCH,
            Verdict("RollingBack", f"2 of 3 pods of {ID} serve; they go back to the previous key"),
            LATE + timedelta(minutes=10),
        ),
    ),
    "the way back is done": (progress(PATCHED, old_serving=0, rolling_back=True), Step(Do.NOTHING)),
}
STEPS = BEFORE | {what: (state, None, step) for what, (state, step) in AFTER.items()}


@pytest.mark.parametrize(("state", "block", "step"), STEPS.values(), ids=STEPS)
def test_the_next_step(state: Progress, block: Verdict | None, step: Step) -> None:
    assert policy.decide(state, block) == step
