"""What it takes to reach one Vault and to log in to it, as plain values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Credential = Callable[[], Awaitable[str]]
"""Reads a secret anew at each call, so that a rotated one is found."""
ReadCa = Callable[[], Awaitable[str | None]]
"""Reads a CA anew at each call; None where it is missing."""


class Token:
    """A Vault token that no ``repr``, ``str`` or ``format`` shows.

    Args:
        text: the token as Vault wants it in ``X-Vault-Token``.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the token in the clear, for a request's header."""
        return self._text

    def __repr__(self) -> str:
        return "Token()"


@dataclass(frozen=True, slots=True)
class KubernetesLogin:
    """Log in by Vault's Kubernetes auth method, as the ServiceAccount that reads.

    Args:
        mount_path: where the auth method is mounted, without ``auth/``.
        role: the auth method's role.
        audience: audience of the ServiceAccount token that is minted for the login.
    """

    mount_path: str
    role: str
    audience: str


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """Log in by Vault's JWT auth method, as the ServiceAccount that reads. Arguments as `KubernetesLogin`."""

    mount_path: str
    role: str
    audience: str


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """Log in by AppRole: one login for every binding of the store.

    Args:
        mount_path: where the auth method is mounted, without ``auth/``.
        role_id: the AppRole's role id.
        secret_id: reads the secret id; called at each login.
    """

    mount_path: str
    role_id: str = field(repr=False)
    secret_id: Credential = field(repr=False)


@dataclass(frozen=True, slots=True)
class StaticToken:
    """Use a token that someone else made, renews and revokes.

    Args:
        token: reads the token; called every five minutes, and when Vault rejects the one in use.
    """

    token: Credential = field(repr=False)


AuthMethod = KubernetesLogin | JwtLogin | AppRoleLogin | StaticToken


@dataclass(frozen=True, slots=True)
class VaultAccess:
    """One Vault and the way in.

    Args:
        address: ``http(s)://host[:port]``.
        namespace: Vault Enterprise namespace; None or empty sends no header.
        mount: path of the KV v2 mount.
        ca_pem: PEM of the CAs to trust instead of the system's; None trusts the system's.
        timeout: seconds for one request; a read with all its retries and logins ends within twice that.
        auth: how to log in.
        read_ca: reads ``ca_pem`` again, where it can change while the store runs.
    """

    address: str
    namespace: str | None
    mount: str
    ca_pem: str | None
    timeout: float
    auth: AuthMethod
    read_ca: ReadCa | None = None


def describe(auth: AuthMethod) -> str:
    """Name the way in, for messages: role and auth mount, never a credential."""
    match auth:
        case KubernetesLogin() | JwtLogin():
            return f"role {auth.role} of auth/{auth.mount_path}"
        case AppRoleLogin():
            return f"the AppRole of auth/{auth.mount_path}"
        case StaticToken():
            return "the store's token"
