"""Vault's KV v2, read with each tenant's own login: hvac's API classes on an asynchronous transport."""

from __future__ import annotations

from voicekeys.clients.vault.access import (
    AppRoleLogin,
    AuthMethod,
    JwtLogin,
    KubernetesLogin,
    StaticToken,
    VaultAccess,
)
from voicekeys.clients.vault.errors import Reason
from voicekeys.clients.vault.store import VaultStore

__all__ = [
    "AppRoleLogin",
    "AuthMethod",
    "JwtLogin",
    "KubernetesLogin",
    "Reason",
    "StaticToken",
    "VaultAccess",
    "VaultStore",
]
