"""From a store's spec to a Vault client: the CA is read (and later read again), the way to log in is chosen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from voicekeys.api.store import AppRoleAuth, JwtAuth, KubernetesAuth, TokenAuth
from voicekeys.clients.vault.access import AppRoleLogin, JwtLogin, KubernetesLogin, StaticToken, VaultAccess
from voicekeys.clients.vault.store import VaultStore
from voicekeys.model.errors import Terminal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import Protocol

    from voicekeys.api.store import SecretRef, StoreSpec
    from voicekeys.clients.vault.access import AuthMethod, Credential, ReadCa
    from voicekeys.clients.vault.calls import Clock
    from voicekeys.model.identity import Identity

    class Own(Protocol):
        """Reads the operator's own Secrets and ConfigMaps."""

        async def read_own(self, kind: str, name: str, key: str) -> str | None:
            """One value, None where it is missing."""

        async def mint_token(self, identity: Identity, audience: str) -> str:
            """A ServiceAccount token."""


async def connect(
    name: str,
    spec: StoreSpec,
    own: Own,
    *,
    observe: Callable[[str, str, float], None],
    clock: Clock,
    rng: random.Random,
) -> VaultStore:
    """Make the client of a store; nothing is sent to Vault yet.

    Args:
        name: the store's name, for messages.
        spec: where Vault is, how to log in.
        own: reads the CA and credentials, mints tokens.
        observe: told each request.
        clock: time.
        rng: jitter.

    Raises:
        Terminal: the CA's ConfigMap is missing. (A CA that is no certificate shows at the first read, as TLSFailed.)
        ApiError: the ConfigMap could not be read.
    """
    read_ca = _ca_reader(spec, own)
    access = VaultAccess(
        address=spec.vault.address,
        namespace=spec.vault.namespace,
        mount=spec.vault.mount,
        ca_pem=await _ca(name, spec, read_ca),
        timeout=spec.vault.timeout.total_seconds(),
        auth=_auth(name, spec, own),
        read_ca=read_ca,
    )
    return VaultStore(access, mint_token=own.mint_token, observe=observe, clock=clock, rng=rng)


def _ca_reader(spec: StoreSpec, own: Own) -> ReadCa | None:
    reference = spec.vault.ca_config_map_ref
    return partial(own.read_own, "ConfigMap", reference.name, reference.key) if reference is not None else None


async def _ca(name: str, spec: StoreSpec, read: ReadCa | None) -> str | None:
    reference = spec.vault.ca_config_map_ref
    if read is None or reference is None:
        return spec.vault.ca_bundle
    found = await read()
    if found is None:
        message = (
            f"VoiceKeyStore {name}: ConfigMap {reference.name} of the operator's namespace has no key {reference.key}: "
            "create it with the CA's certificate in PEM"
        )
        raise Terminal("CAMissing", message)
    return found


def _auth(name: str, spec: StoreSpec, own: Own) -> AuthMethod:
    method = spec.auth.method
    match method:
        case KubernetesAuth():
            return KubernetesLogin(method.mount_path, method.role, method.audience)
        case JwtAuth():
            return JwtLogin(method.mount_path, method.role, method.audience)
        case AppRoleAuth():
            return AppRoleLogin(method.mount_path, method.role_id, _credential(name, method.secret_ref, own))
        case TokenAuth():
            return StaticToken(_credential(name, method.secret_ref, own))


def _credential(name: str, reference: SecretRef, own: Own) -> Credential:
    async def read() -> str:
        found = await own.read_own("Secret", reference.name, reference.key)
        if found is None:
            message = (
                f"VoiceKeyStore {name}: Secret {reference.name} of the operator's namespace has no key "
                f"{reference.key}: create it"
            )
            raise Terminal("CredentialMissing", message)
        return found.strip()

    return read
