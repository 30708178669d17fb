"""The condition types of both kinds, declared once: what each means, which way round it is, who sets it.

``operator/CONDITIONS.md`` is generated from this table, and the status checker of the tests reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Polarity(StrEnum):
    """Which status of a condition is the good one."""

    NORMAL_TRUE = "normal-true"
    """True is good. Present on every object that was reconciled."""
    ABNORMAL_TRUE = "abnormal-true"
    """True is worth a look. Left out while there is nothing to say."""


class BindingCondition(StrEnum):
    """Condition types of a VoiceKeyBinding."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SECRET_SYNCED = "SecretSynced"  # noqa: S105 - the name of a condition
    SOURCE_REACHABLE = "SourceReachable"
    AGENTS_CURRENT = "AgentsCurrent"
    CALLS_DRAINED = "CallsDrained"
    KEY_FRESH = "KeyFresh"
    CAPACITY_AT_RISK = "CapacityAtRisk"
    LITERAL_KEY_IN_MANIFEST = "LiteralKeyInManifest"
    SHARED_ACROSS_ENVIRONMENTS = "SharedAcrossEnvironments"
    GRACE_TOO_SHORT = "GraceTooShort"
    DRAIN_ARMED = "DrainArmed"
    HOOK_CONFLICT = "HookConflict"
    DRAIN_UNREACHABLE = "DrainUnreachable"
    DRAIN_TOKEN_NOT_CHECKED = "DrainTokenNotChecked"  # noqa: S105 - the name of a condition
    NOT_READY_WHILE_DRAINING = "NotReadyWhileDraining"
    MESH_SIDECAR_CUTS_CALLS = "MeshSidecarCutsCalls"
    LIVENESS_MAY_CUT_CALLS = "LivenessMayCutCalls"
    HOST_PORT_NEEDS_ROOM = "HostPortNeedsRoom"
    HOOK_FAILED = "HookFailed"
    CALLS_FORCED = "CallsForced"
    KEY_LEAKED = "KeyLeaked"
    SUSPENDED = "Suspended"


class StoreCondition(StrEnum):
    """Condition types of a VoiceKeyStore."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    REACHABLE = "Reachable"
    LOGGED_IN = "LoggedIn"
    IDENTITY_LENT = "IdentityLent"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class ConditionDoc:
    """One row of the table: ``owner`` is the module that sets the condition, ``meaning`` reads after "True:"."""

    type: BindingCondition | StoreCondition
    polarity: Polarity
    owner: str
    feeds_ready: bool
    meaning: str


_NORMAL, _ABNORMAL = Polarity.NORMAL_TRUE, Polarity.ABNORMAL_TRUE
_OUTCOME, _SYNC, _ROLLOUT, _STORE = (f"reconcilers.{module}" for module in ("outcome", "sync", "rollout", "stores"))
_ARMING, _CALLS, _LEAKS, _HOOKS = (f"reconcilers.{module}" for module in ("arming", "calls", "leaks", "failed_hooks"))
_B, _S = BindingCondition, StoreCondition

BINDING_CONDITIONS: Final = (
    ConditionDoc(
        _B.READY,
        _NORMAL,
        _OUTCOME,
        feeds_ready=True,
        meaning="the current key is in the Secret and in every pod that takes new calls",
    ),
    ConditionDoc(
        _B.RECONCILING,
        _ABNORMAL,
        _OUTCOME,
        feeds_ready=True,
        meaning="a change is on its way into the Secret or the agents; Ready is not True meanwhile",
    ),
    ConditionDoc(
        _B.STALLED,
        _ABNORMAL,
        _OUTCOME,
        feeds_ready=True,
        meaning="nothing more happens until a person acts; the message says how. Never together with Ready",
    ),
    ConditionDoc(
        _B.SECRET_SYNCED,
        _NORMAL,
        _SYNC,
        feeds_ready=True,
        meaning="the Secret holds what the last good read of Vault gave",
    ),
    ConditionDoc(
        _B.SOURCE_REACHABLE,
        _NORMAL,
        _SYNC,
        feeds_ready=False,
        meaning="the last read from Vault succeeded. False leaves the last good key in place, and Ready True",
    ),
    ConditionDoc(
        _B.AGENTS_CURRENT,
        _NORMAL,
        _ROLLOUT,
        feeds_ready=True,
        meaning="every pod that takes new calls was started with the current key",
    ),
    ConditionDoc(
        _B.CALLS_DRAINED,
        _NORMAL,
        _ROLLOUT,
        feeds_ready=False,
        meaning="every pod on an older key was seen to end. False: some still finish calls. "
        "Unknown: one vanished and nobody saw its end",
    ),
    ConditionDoc(
        _B.KEY_FRESH,
        _NORMAL,
        _SYNC,
        feeds_ready=False,
        meaning="the key is younger than rotation.maxAge less rotation.warnBefore",
    ),
    ConditionDoc(
        _B.CAPACITY_AT_RISK,
        _ABNORMAL,
        _ROLLOUT,
        feeds_ready=False,
        meaning="a restart takes capacity away, by the workload's strategy; it goes on all the same",
    ),
    ConditionDoc(
        _B.LITERAL_KEY_IN_MANIFEST,
        _ABNORMAL,
        _ROLLOUT,
        feeds_ready=False,
        meaning="an agent's env holds a key as plain text, which no rotation reaches; the value is never shown",
    ),
    ConditionDoc(
        _B.SHARED_ACROSS_ENVIRONMENTS,
        _ABNORMAL,
        _SYNC,
        feeds_ready=False,
        meaning="the same key is used in two environments, so that a leak in one is a leak in both",
    ),
    ConditionDoc(
        _B.GRACE_TOO_SHORT,
        _ABNORMAL,
        _ROLLOUT,
        feeds_ready=False,
        meaning="terminationGracePeriodSeconds is shorter than drain.maxCallDuration: a long call would be cut",
    ),
    ConditionDoc(
        _B.DRAIN_ARMED,
        _NORMAL,
        _ARMING,
        feeds_ready=False,
        meaning="every pod of the agents that have a drain waits for its calls before it ends. False: some were made "
        "without a hook. Left out where no agent has a drain",
    ),
    ConditionDoc(
        _B.HOOK_CONFLICT,
        _ABNORMAL,
        _ARMING,
        feeds_ready=False,
        meaning="the workload's own preStop or environment is kept, and is not what drain.mode needs",
    ),
    ConditionDoc(
        _B.DRAIN_UNREACHABLE,
        _ABNORMAL,
        _CALLS,
        feeds_ready=False,
        meaning="pods do not answer at the port of their hook: their calls are unknown, and the hook may fail as well",
    ),
    ConditionDoc(
        _B.DRAIN_TOKEN_NOT_CHECKED,
        _ABNORMAL,
        _CALLS,
        feeds_ready=False,
        meaning="agents take a wrong token, so that whoever reaches the drain port can end them",
    ),
    ConditionDoc(
        _B.NOT_READY_WHILE_DRAINING,
        _ABNORMAL,
        _CALLS,
        feeds_ready=False,
        meaning="pods turned unready while they drained, which cuts calls over UDP that come by a Service",
    ),
    ConditionDoc(
        _B.MESH_SIDECAR_CUTS_CALLS,
        _ABNORMAL,
        _CALLS,
        feeds_ready=False,
        meaning="a mesh's proxy without a hook ends at once, and with it every call that goes through it",
    ),
    ConditionDoc(
        _B.LIVENESS_MAY_CUT_CALLS,
        _ABNORMAL,
        _ARMING,
        feeds_ready=False,
        meaning="a liveness probe may end an agent that is only busy",
    ),
    ConditionDoc(
        _B.HOST_PORT_NEEDS_ROOM,
        _ABNORMAL,
        _ARMING,
        feeds_ready=False,
        meaning="new pods need nodes on which no old one holds their host port",
    ),
    ConditionDoc(
        _B.HOOK_FAILED,
        _ABNORMAL,
        _HOOKS,
        feeds_ready=False,
        meaning="the preStop of a pod whose calls nobody can ask for (Exec, Sleep) failed: its calls were cut, or may "
        "have been, and the workload is not restarted before a person has approved",
    ),
    ConditionDoc(
        _B.CALLS_FORCED,
        _ABNORMAL,
        _CALLS,
        feeds_ready=False,
        meaning="a call was cut by a restart: no other one begins until a person has looked and approved",
    ),
    ConditionDoc(
        _B.KEY_LEAKED,
        _ABNORMAL,
        _LEAKS,
        feeds_ready=False,
        meaning="a person said that the key has leaked: the next one goes out whatever calls that cuts, and it is not "
        "put back",
    ),
    ConditionDoc(
        _B.SUSPENDED,
        _ABNORMAL,
        _OUTCOME,
        feeds_ready=False,
        meaning="spec.suspend of the binding or of its store stops every act",
    ),
)

STORE_CONDITIONS: Final = (
    ConditionDoc(
        _S.READY,
        _NORMAL,
        _OUTCOME,
        feeds_ready=True,
        meaning="Vault answers and the store's settings are usable",
    ),
    ConditionDoc(
        _S.RECONCILING,
        _ABNORMAL,
        _OUTCOME,
        feeds_ready=True,
        meaning="a change of the store is being taken up; Ready is not True meanwhile",
    ),
    ConditionDoc(
        _S.STALLED,
        _ABNORMAL,
        _OUTCOME,
        feeds_ready=True,
        meaning="nothing more happens until a person acts; the message says how. Never together with Ready",
    ),
    ConditionDoc(
        _S.REACHABLE,
        _NORMAL,
        _STORE,
        feeds_ready=True,
        meaning="Vault answers at spec.vault.address, trusted, unsealed and active",
    ),
    ConditionDoc(
        _S.LOGGED_IN,
        _NORMAL,
        _STORE,
        feeds_ready=False,
        meaning="no login is refused. False: one is, of which namespace the message says; the others go on. "
        "Unknown until a binding needs one",
    ),
    ConditionDoc(
        _S.IDENTITY_LENT,
        _ABNORMAL,
        _STORE,
        feeds_ready=False,
        meaning="bindings read with the operator's own Vault identity (appRole, token): "
        "only the store's rules keep tenants apart",
    ),
    ConditionDoc(
        _S.SUSPENDED,
        _ABNORMAL,
        _OUTCOME,
        feeds_ready=False,
        meaning="spec.suspend stops reads from this store and every act of its bindings",
    ),
)
