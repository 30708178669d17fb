"""When each alert fires, and when it does not. Second 0 is 1970, so a timestamp of 600 is ten minutes into a case."""

from __future__ import annotations

from tests.alerts.rules import Case

OF = {"namespace": "voice", "name": "frejun", "store": "vault", "environment": "production"}
ONE = 'namespace="voice",name="frejun",store="vault",environment="production"'
POD = 'instance="10.0.0.1:8080",pod="voicekeys-operator-a"'
OTHER = 'instance="10.0.0.2:8080",pod="voicekeys-operator-b"'


def _of(metric: str, labels: str = ONE, pod: str = POD) -> str:
    return f"voicekeys_{metric}{{{labels},{pod}}}"


ROTATE_BY = _of("key_rotate_by_timestamp_seconds")
CREATED = _of("key_created_timestamp_seconds")
LAST_READ = _of("source_last_read_timestamp_seconds")
READY = _of("binding_ready")
OLD_PODS = _of("pods_on_old_key")
DEADLINE = _of("pod_kill_deadline_timestamp_seconds")
SHARED = _of("key_shared_across_environments")
CALLS = _of("draining_calls")
FORCED = _of("calls_ended_total", f'{ONE},outcome="forced"')
COMPLETED = _of("calls_ended_total", f'{ONE},outcome="completed"')
REACHABLE = _of("store_reachable", 'store="vault"')
LOGGED_IN = _of("store_logged_in", 'store="vault"')


def _phase(phase: str) -> str:
    return _of("rotation_phase", f'{ONE},phase="{phase}"')


def _stalled(reason: str) -> str:
    return _of("binding_stalled", f'{ONE},reason="{reason}"')


def _leads(pod: str) -> str:
    return f"voicekeys_leader{{{pod}}}"


AGE = "{{ $value | humanizeDuration }}"
LEFT = "{{ $value | humanizePercentage }}"
SINCE = "{{ if gt $value 1e9 }}since the operator started{{ else }}for {{ $value | humanizeDuration }}{{ end }}"

KEYS = (
    Case(
        "a key past rotateBy", "VoiceKeyStale", {ROTATE_BY: "600x30"}, "20m", OF,
        {"{{ $value | humanizeTimestamp }}": "1970-01-01 00:10:00 +0000 UTC"},
    ),
    Case("a key before rotateBy", "VoiceKeyStale", {ROTATE_BY: "6000x30"}, "20m"),
    Case("a key without maxAge", "VoiceKeyStale", {CREATED: "0x30"}, "20m"),
    Case(
        "a 25th of maxAge left", "VoiceKeyNearsRotateBy", {CREATED: "0x200", ROTATE_BY: "10000x200"}, "160m", OF,
        {LEFT: "4%"},
    ),
    Case("half of maxAge left", "VoiceKeyNearsRotateBy", {CREATED: "0x200", ROTATE_BY: "18000x200"}, "150m"),
    Case("past: the other alert's", "VoiceKeyNearsRotateBy", {CREATED: "0x200", ROTATE_BY: "6000x200"}, "150m"),
    Case("one key in two environments", "VoiceKeySharedAcrossEnvironments", {SHARED: "1x30"}, "15m", OF),
    Case("each environment its own key", "VoiceKeySharedAcrossEnvironments", {SHARED: "0x30"}, "15m"),
    Case("shared for a moment", "VoiceKeySharedAcrossEnvironments", {SHARED: "0x5 1x5 0x20"}, "15m"),
    Case("unread for 80 minutes", "VoiceKeySourceNotRead", {LAST_READ: "600x100"}, "90m", OF, {SINCE: "for 1h 20m 0s"}),
    Case(
        "never read since the start", "VoiceKeySourceNotRead", {LAST_READ: "0x60"}, "300000h", OF,
        {SINCE: "since the operator started"}, "10000h",
    ),
    Case("read at each minute", "VoiceKeySourceNotRead", {LAST_READ: "0+60x100"}, "90m"),
    Case("late, but read in the end", "VoiceKeySourceNotRead", {LAST_READ: "600x70 4200+60x40"}, "90m"),
    Case("suspended: nothing is to be read", "VoiceKeySourceNotRead", {READY: "1x100"}, "90m"),
)  # fmt: skip

ROTATIONS = (
    Case("rolling for 40 minutes", "VoiceKeyRotationStuck", {_phase("Rolling"): "1x60"}, "40m", OF),
    Case(
        "to and fro without an end", "VoiceKeyRotationStuck",
        {_phase("Rolling"): "1x15 _x16 1x20", _phase("RollingBack"): "_x16 1x14 _x20"}, "45m", OF,
    ),
    Case("a pod vanished unseen", "VoiceKeyRotationStuck", {_phase("Frozen"): "1x60"}, "40m", OF),
    Case("waiting for calls to end", "VoiceKeyRotationStuck", {_phase("Draining"): "1x60"}, "40m"),
    Case(
        "rolled at once", "VoiceKeyRotationStuck", {_phase("Rolling"): "1x10", _phase("Idle"): "_x11 1x60"}, "40m"
    ),
    Case("old pods for three hours", "VoiceKeyOldKeyHeld", {OLD_PODS: "2x180"}, "170m", OF, {"{{ $value }}": "2"}),
    Case(
        "the lead changed meanwhile", "VoiceKeyOldKeyHeld",
        {OLD_PODS: "2x60 stale", _of("pods_on_old_key", ONE, OTHER): "_x62 2x100"}, "150m", OF, {"{{ $value }}": "2"},
    ),
    Case("drained in an hour", "VoiceKeyOldKeyHeld", {OLD_PODS: "2x60 0x120"}, "170m"),
    Case("all pods on the new key", "VoiceKeyOldKeyHeld", {OLD_PODS: "0x180"}, "170m"),
    Case("past its deadline", "VoiceKeyPodPastKillDeadline", {DEADLINE: "600x30"}, "20m", OF, {AGE: "10m 0s"}),
    Case("before its deadline", "VoiceKeyPodPastKillDeadline", {DEADLINE: "6000x30"}, "20m"),
    Case("gone at its deadline", "VoiceKeyPodPastKillDeadline", {DEADLINE: "600x10 stale"}, "20m"),
    Case("a call was cut", "VoiceKeyCallsForced", {FORCED: "0x5 2x20"}, "15m", OF),
    Case("another replica's count", "VoiceKeyCallsForced", {
        FORCED: "2x3 stale", _of("calls_ended_total", f'{ONE},outcome="forced"', OTHER): "_x4 0x3 1x20",
    }, "15m", OF),
    Case("all calls ended by themselves", "VoiceKeyCallsForced", {FORCED: "0x30", COMPLETED: "0x5 9x20"}, "15m"),
    Case("cut long ago", "VoiceKeyCallsForced", {FORCED: "0x5 2x100"}, "90m"),
    Case(
        "live after the deadline", "VoiceKeyCallsPastDeadline", {CALLS: "3x30", DEADLINE: "600x30"}, "12m", OF,
        {"{{ $value }}": "3"},
    ),
    Case("live before the deadline", "VoiceKeyCallsPastDeadline", {CALLS: "3x30", DEADLINE: "6000x30"}, "12m"),
    Case("none live", "VoiceKeyCallsPastDeadline", {CALLS: "0x30", DEADLINE: "600x30"}, "12m"),
    Case("cut at the deadline", "VoiceKeyCallsPastDeadline", {CALLS: "3x10 stale", DEADLINE: "600x10 stale"}, "12m"),
    Case(
        "restarted too often", "VoiceKeyRestartBudgetSpent", {_stalled("RestartBudgetSpent"): "1x10"}, "5m",
        {**OF, "reason": "RestartBudgetSpent"},
    ),
    Case("stalled for another reason", "VoiceKeyRestartBudgetSpent", {_stalled("TargetConflict"): "1x10"}, "5m"),
    Case("not stalled", "VoiceKeyRestartBudgetSpent", {READY: "1x10"}, "5m"),
    Case(
        "stalled for a quarter of an hour", "VoiceKeyStalled", {_stalled("TargetConflict"): "1x20"}, "15m",
        {**OF, "reason": "TargetConflict"},
    ),
    Case("by the budget: the other alert's", "VoiceKeyStalled", {_stalled("RestartBudgetSpent"): "1x20"}, "15m"),
    Case("stalled and mended", "VoiceKeyStalled", {_stalled("TargetConflict"): "1x5 stale"}, "15m"),
    Case("not ready for half an hour", "VoiceKeyBindingNotReady", {READY: "0x40"}, "30m", OF),
    Case("ready", "VoiceKeyBindingNotReady", {READY: "1x40"}, "30m"),
    Case("ready after a rollout", "VoiceKeyBindingNotReady", {READY: "0x12 1x40"}, "30m"),
    Case(
        "stalled: the other's", "VoiceKeyBindingNotReady", {READY: "0x40", _stalled("TargetConflict"): "1x40"}, "30m"
    ),
)  # fmt: skip

OPERATOR = (
    Case("Vault down", "VoiceKeyStoreUnreachable", {REACHABLE: "0x20"}, "10m", {"store": "vault"}),
    Case("Vault up", "VoiceKeyStoreUnreachable", {REACHABLE: "1x20"}, "10m"),
    Case("Vault away for a restart", "VoiceKeyStoreUnreachable", {REACHABLE: "1x4 0x2 1x20"}, "10m"),
    Case(
        "login refused", "VoiceKeyStoreLoginRefused", {REACHABLE: "1x20", LOGGED_IN: "0x20"}, "15m", {"store": "vault"}
    ),
    Case("Vault is down", "VoiceKeyStoreLoginRefused", {REACHABLE: "0x20", LOGGED_IN: "0x20"}, "15m"),
    Case("logged in", "VoiceKeyStoreLoginRefused", {REACHABLE: "1x20", LOGGED_IN: "1x20"}, "15m"),
    Case("no replica", "VoiceKeysOperatorDown", {"up": "1x20"}, "10m", {}),
    Case("replicas went", "VoiceKeysOperatorDown", {'voicekeys_build_info{version="1"}': "1x5 stale"}, "15m", {}),
    Case("a replica", "VoiceKeysOperatorDown", {'voicekeys_build_info{version="1"}': "1x20"}, "10m"),
    Case("two standbys", "VoiceKeysNoLeader", {_leads(POD): "0x10", _leads(OTHER): "0x10"}, "5m", {}),
    Case("one leads", "VoiceKeysNoLeader", {_leads(POD): "1x10", _leads(OTHER): "0x10"}, "5m"),
    Case("the lead changes", "VoiceKeysNoLeader", {_leads(POD): "1x4 stale", _leads(OTHER): "0x5 1x10"}, "6m"),
)  # fmt: skip

CASES = (*KEYS, *ROTATIONS, *OPERATOR)
