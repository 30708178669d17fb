"""The spec of a VoiceKeyStore: where Vault is, how to log in, which namespaces may read which paths.

Field docs are in ``crds/voicekeys.dev_voicekeystores.yaml`` (``kubectl explain vks.spec``), whose rules the API
server has checked before an object gets here. Instances are frozen; ``parse_store_spec`` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from voicekeys.api.fields import CONFIG, Duration


@dataclass(frozen=True, slots=True, config=CONFIG)
class ConfigMapRef:
    """A key of a ConfigMap in the operator's namespace."""

    name: str
    key: str = "ca.crt"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SecretRef:
    """A key of a Secret in the operator's namespace; the auth method says which key is meant when none is given."""

    name: str
    key: str


@dataclass(frozen=True, slots=True, config=CONFIG)
class Vault:
    """Where Vault is and how to trust it."""

    address: str
    namespace: str | None = None
    mount: str = "secret"
    ca_bundle: str | None = None
    ca_config_map_ref: ConfigMapRef | None = None
    insecure: bool = False
    timeout: Duration = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, config=CONFIG)
class KubernetesAuth:
    """Log in by Vault's Kubernetes auth method as the ServiceAccount that the binding names."""

    role: str
    mount_path: str = "kubernetes"
    audience: str = "vault"


@dataclass(frozen=True, slots=True, config=CONFIG)
class JwtAuth:
    """Log in by Vault's JWT auth method as the ServiceAccount that the binding names."""

    role: str
    mount_path: str = "jwt"
    audience: str = "vault"


@dataclass(frozen=True, slots=True, config=CONFIG)
class AppRoleSecretRef(SecretRef):
    """Where the AppRole's secret id is."""

    key: str = "secret-id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class AppRoleAuth:
    """Log in by AppRole: one identity, the operator's own, for every binding of the store."""

    role_id: str
    secret_ref: AppRoleSecretRef
    mount_path: str = "approle"


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenSecretRef(SecretRef):
    """Where the Vault token is."""

    key: str = "token"


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenAuth:
    """Use a Vault token as it is: one identity, the operator's own, for every binding of the store."""

    secret_ref: TokenSecretRef


@dataclass(frozen=True, slots=True, config=CONFIG)
class Auth:
    """How to log in; the CRD holds that exactly one method is set."""

    kubernetes: KubernetesAuth | None = None
    jwt: JwtAuth | None = None
    app_role: AppRoleAuth | None = None
    token: TokenAuth | None = None

    @property
    def method(self) -> KubernetesAuth | JwtAuth | AppRoleAuth | TokenAuth:
        """The method that is set. Raises ValueError if none is, which the CRD refuses."""
        chosen = self.kubernetes or self.jwt or self.app_role or self.token
        if chosen is None:
            msg = "set one of auth.kubernetes, auth.jwt, auth.appRole, auth.token"
            raise ValueError(msg)
        return chosen

    @property
    def audience(self) -> str | None:
        """The audience of the ServiceAccount tokens to mint, None where logins do not use any."""
        method = self.method
        return method.audience if isinstance(method, KubernetesAuth | JwtAuth) else None

    @property
    def secret_ref(self) -> SecretRef | None:
        """The Secret (of the operator's namespace) that the login needs, None where it needs none."""
        method = self.method
        return method.secret_ref if isinstance(method, AppRoleAuth | TokenAuth) else None

    @property
    def lends_identity(self) -> bool:
        """Whether bindings read with the operator's identity, not with one of their own namespace."""
        return self.secret_ref is not None


@dataclass(frozen=True, slots=True, config=CONFIG)
class Poll:
    """How often Vault is read."""

    interval: Duration | None = None
    reads_per_second: Annotated[int, Field(ge=1, le=1000)] = 10


@dataclass(frozen=True, slots=True, config=CONFIG)
class StoreRollout:
    """How many agents are restarted at once."""

    max_workloads: Annotated[int, Field(ge=1, le=10000)] | None = None


class LabelSelectorOperator(StrEnum):
    """The operators of a Kubernetes label selector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, config=CONFIG)
class LabelSelectorRequirement:
    """One expression of a label selector."""

    key: str
    operator: LabelSelectorOperator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class LabelSelector:
    """A Kubernetes label selector; the empty one selects everything."""

    match_labels: Mapping[str, str] | None = None
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class Rule:
    """Namespaces that may read some paths, under one environment name."""

    name: str
    namespace_selector: LabelSelector
    path_prefixes: tuple[str, ...]
    environment: str


@dataclass(frozen=True, slots=True, config=CONFIG)
class StoreSpec:
    """All that the platform team says about one Vault."""

    vault: Vault
    auth: Auth
    rules: tuple[Rule, ...]
    suspend: bool = False
    poll: Poll = Poll()
    rollout: StoreRollout | None = None


_ADAPTER: Final = TypeAdapter(StoreSpec)


def parse_store_spec(raw: bytes | Mapping[str, Any]) -> StoreSpec:
    """Return the model of ``raw``: a ``spec`` as JSON bytes or as the mapping that JSON gives.

    Raises ``pydantic.ValidationError`` (a ValueError) on what the CRD would have refused; the schema holds no key
    material, so its text is safe to show.
    """
    return _ADAPTER.validate_python(orjson.loads(raw) if isinstance(raw, bytes) else raw)
