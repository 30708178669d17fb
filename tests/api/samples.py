"""Statuses with every field set, as the operator would write them in the middle of a rotation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from voicekeys.api.binding import AgentKind
from voicekeys.api.status import (
    AgentStatus,
    BindingStatus,
    Condition,
    ConditionStatus,
    Emergency,
    Frozen,
    Handled,
    HistoryEntry,
    KeyStatus,
    OldPod,
    Outcome,
    Phase,
    RotationStatus,
    SecretStatus,
    StoreStatus,
)

NOW: Final = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)

READY: Final = Condition(
    type="Ready",
    status=ConditionStatus.TRUE,
    reason="Current",
    message="Key version 7 is in the Secret frejun-api-key and in all 3 pods that take calls.",
    last_transition_time=NOW,
    observed_generation=3,
)

BINDING_STATUS: Final = BindingStatus(
    observed_generation=3,
    conditions=(READY,),
    digest_key="k1",
    key=KeyStatus(
        version=7, created_time=NOW, rotate_by=NOW + timedelta(days=90), fingerprint="hmac-sha256:0011223344556677"
    ),
    secret=SecretStatus(name="frejun-api-key", digest="8899aabbccddeeff", written_time=NOW),
    rotation=RotationStatus(
        id="r-6-7",
        phase=Phase.DRAINING,
        from_version=6,
        to_version=7,
        started_time=NOW,
        pods=3,
        pods_on_old_key=2,
        refused_digest="0102030405060708",
        arm="now",
    ),
    agents=(
        AgentStatus(
            kind=AgentKind.DEPLOYMENT,
            name="receptionist",
            uid="8a2f",
            desired=3,
            current=1,
            draining=2,
            trigger="8899aabbccddeeff",
            digest="8899aabbccddeeff",
            previous_trigger="",
            previous_digest="0102030405060708",
            patched_time=NOW,
            restarts=(NOW - timedelta(hours=1), NOW),
            old_pods=(
                OldPod(uid="1", name="receptionist-a"),
                OldPod(
                    uid="2",
                    name="receptionist-b",
                    node="node-1",
                    grace_seconds=1800,
                    deadline=NOW + timedelta(minutes=30),
                    vanished_time=NOW,
                ),
            ),
            unwitnessed=0,
            unarmed=1,
            hook_patch='{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":1845}}}}',
            completed=12,
            forced=1,
            aborted=1,
            oldest_call_time=NOW - timedelta(minutes=9),
            intended_trigger="0a0b0c0d0e0f1011",
            diverged_time=NOW,
            previous_diverged_time=NOW,
            strips=1,
            drain_token="drain-token-of-receptionist",
        ),
        AgentStatus(kind=AgentKind.DAEMON_SET, name="edge"),
    ),
    gauge_image="registry.example.com/voicekeys/operator:0.1.0",
    handled=Handled(sync_now="2", arm="now", release="receptionist-a", approve="1", leaked="1"),
    history=(
        HistoryEntry(
            id="r-5-6",
            from_version=5,
            to_version=6,
            started_time=NOW - timedelta(days=90),
            finished_time=NOW - timedelta(days=90) + timedelta(minutes=31),
            outcome=Outcome.COMPLETED,
            pods=3,
            unwitnessed=0,
            completed=12,
            forced=1,
            aborted=1,
        ),
    ),
    frozen=Frozen(since=NOW, calls=1, pod="receptionist-a"),
    emergency=Emergency(since=NOW, version=6, created_time=NOW, fingerprint="0" * 32),
)

STORE_STATUS: Final = StoreStatus(
    observed_generation=1, conditions=(READY,), bindings=12, last_error="403 on voice/production/frejun"
)
