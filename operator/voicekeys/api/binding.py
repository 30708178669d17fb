"""The spec of a VoiceKeyBinding: which key, which Secret, which agents, how to drain, when to rotate.

Field docs are in ``crds/voicekeys.dev_voicekeybindings.yaml`` (``kubectl explain vkb.spec``), whose rules the API
server has checked before an object gets here. Instances are frozen; ``parse_binding_spec`` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from voicekeys.api.fields import CONFIG, Duration

DEFAULT_DRAIN_PORT: Final = 9909
"""Where an agent's drain server listens when ``drain.port`` says nothing else; always, for the gauge's."""

DEFAULT_SETTLE: Final = timedelta(seconds=5)
"""How long a draining pod still takes new calls when ``drain.settle`` says nothing else."""

DEFAULT_TEARDOWN: Final = timedelta(seconds=10)
"""From the last call's end to the container's exit when ``drain.teardown`` says nothing else."""

GRACE_RESERVE: Final = timedelta(seconds=30)
"""What arming adds to a grace period for the kubelet's own steps and a slow node."""

DEFAULT_GAUGE_PATH: Final = "/metrics"


class DeletionPolicy(StrEnum):
    """What becomes of the Secret when its binding is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class AgentKind(StrEnum):
    """The kinds of workload that an agent may be."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"


class DrainMode(StrEnum):
    """How an agent's pods finish their calls before they end."""

    HTTP = "HTTP"
    GAUGE = "Gauge"
    EXEC = "Exec"
    SIGNAL = "Signal"
    SLEEP = "Sleep"


class Inject(StrEnum):
    """How the drain hook gets onto an agent's pods."""

    POD = "Pod"
    TEMPLATE = "Template"
    OFF = "Off"


class GaugeScheme(StrEnum):
    """How a gauge asks the agent for its number of live calls."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"


def _inside_the_mount(path: str) -> str:
    """Refuse a path that could leave its prefix, also where an older CRD without this rule is installed."""
    if any(segment in {"", ".", ".."} for segment in path.split("/")):
        msg = "a path has no empty, '.' or '..' segment and no '/' at its ends"
        raise ValueError(msg)
    return path


@dataclass(frozen=True, slots=True, config=CONFIG)
class StoreRef:
    """The VoiceKeyStore to read from."""

    name: str = "default"


@dataclass(frozen=True, slots=True, config=CONFIG)
class Source:
    """Where the key is and whose identity reads it."""

    path: Annotated[str, AfterValidator(_inside_the_mount)]
    store_ref: StoreRef = StoreRef()
    version: Annotated[int, Field(ge=1)] | None = None
    service_account_name: str = "voicekeys-reader"


@dataclass(frozen=True, slots=True, config=CONFIG)
class Target:
    """The Secret that the key is written to."""

    secret_name: str | None = None
    type: str = "Opaque"
    data: Mapping[str, str] | None = None
    base64_decode: tuple[str, ...] = ()
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    adopt: bool = False
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN

    def effective_secret_name(self, binding: str) -> str:
        """Return the Secret's name: the given one, else that of the binding."""
        return self.secret_name or binding


@dataclass(frozen=True, slots=True, config=CONFIG)
class AuthorizationSecret:
    """The key of a Secret whose value a gauge sends as the header ``Authorization``."""

    name: str
    key: str


@dataclass(frozen=True, slots=True, config=CONFIG)
class Gauge:
    """Where an agent shows its number of live calls: in a JSON document, or as a Prometheus series."""

    path: str | None = None
    scheme: GaugeScheme | None = None
    json_pointer: str | None = None
    metric: str | None = None
    zero_if_present: str | None = None
    authorization_secret: AuthorizationSecret | None = None

    def url(self, port: int) -> str:
        """Return where the sidecar asks for the number: the pod's own loopback."""
        scheme = (self.scheme or GaugeScheme.HTTP).lower()
        return f"{scheme}://127.0.0.1:{port}{self.path or DEFAULT_GAUGE_PATH}"


@dataclass(frozen=True, slots=True, config=CONFIG)
class Drain:
    """How the pods of one agent finish their calls."""

    mode: DrainMode
    inject: Inject | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    max_call_duration: Duration | None = None
    settle: Duration | None = None
    teardown: Duration | None = None
    command: tuple[str, ...] = ()
    gauge: Gauge | None = None

    @property
    def effective_port(self) -> int | None:
        """The agent's port: the given one, 9909 for HTTP, None where the mode has no port."""
        if self.port is None and self.mode is DrainMode.HTTP:
            return DEFAULT_DRAIN_PORT
        return self.port

    @property
    def contract_port(self) -> int | None:
        """Where the drain contract is served: by the agent (HTTP) or its gauge; None where nobody serves it."""
        return DEFAULT_DRAIN_PORT if self.mode is DrainMode.GAUGE else self.effective_port

    @property
    def effective_settle(self) -> timedelta:
        """How long a draining pod still takes new calls."""
        return DEFAULT_SETTLE if self.settle is None else self.settle

    @property
    def effective_teardown(self) -> timedelta:
        """From the last call's end to the container's exit."""
        return DEFAULT_TEARDOWN if self.teardown is None else self.teardown

    @property
    def needed_grace(self) -> timedelta | None:
        """The least terminationGracePeriodSeconds that cuts no promised call; None where no length was promised."""
        if self.max_call_duration is None:
            return None
        return self.max_call_duration + self.effective_settle + self.effective_teardown + GRACE_RESERVE

    def effective_inject(self, *, admission: bool) -> Inject:
        """Return how the hook gets onto the pods. A command is code, which the operator puts into no workload: Off.

        Args:
            admission: the cluster serves MutatingAdmissionPolicy v1, and has our policy.
        """
        by_itself = Inject.OFF if self.command else Inject.TEMPLATE
        return self.inject or (Inject.POD if admission else by_itself)


@dataclass(frozen=True, slots=True, config=CONFIG)
class Agent:
    """One workload that uses the key."""

    kind: AgentKind
    name: str
    container: str | None = None
    drain: Drain | None = None

    @property
    def max_call_duration(self) -> timedelta | None:
        """The longest call that the user promised, None if nothing was said."""
        return self.drain.max_call_duration if self.drain else None


@dataclass(frozen=True, slots=True, config=CONFIG)
class Rollout:
    """How the agents are restarted on a new key."""

    timeout: Duration = timedelta(minutes=10)
    propagation: Duration = timedelta(seconds=5)
    max_restarts_per_hour: Annotated[int, Field(ge=1, le=60)] = 6


@dataclass(frozen=True, slots=True, config=CONFIG)
class Rotation:
    """How old a key may become."""

    max_age: Duration | None = None
    warn_before: Duration | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class BindingSpec:
    """All that the agent team says about one key."""

    environment: str
    source: Source
    suspend: bool = False
    target: Target = Target()
    agents: tuple[Agent, ...] = ()
    rollout: Rollout = Rollout()
    rotation: Rotation = Rotation()


_ADAPTER: Final = TypeAdapter(BindingSpec)


def parse_binding_spec(raw: bytes | Mapping[str, Any]) -> BindingSpec:
    """Return the model of ``raw``: a ``spec`` as JSON bytes or as the mapping that JSON gives.

    Raises ``pydantic.ValidationError`` (a ValueError) on what the CRD would have refused; the schema holds no key
    material, so its text is safe to show.
    """
    return _ADAPTER.validate_python(orjson.loads(raw) if isinstance(raw, bytes) else raw)
