"""Every exception that aiohttp, hvac, ssl or the system can raise is one of our errors."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
from hvac import exceptions as hvac_errors

from voicekeys.clients.vault.errors import FOREIGN, Reason, fault_of, from_foreign
from voicekeys.model.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = (aiohttp.ClientError, hvac_errors.VaultError, ssl.SSLError, OSError, asyncio.TimeoutError, TimeoutError)
# Classes that need a server of another protocol, or a proxy, both of which we never ask for.
FOREIGN_MODULES = ("aiohttp", "hvac", "ssl", "builtins", "socket", "asyncio")


def family(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


def foreign() -> list[type[BaseException]]:
    """List all of them, but the two roots that stand for nothing by themselves."""
    found = {each for root in ROOTS for each in family(root) if each.__module__.split(".")[0] in FOREIGN_MODULES}
    return sorted(found - {aiohttp.ClientError, hvac_errors.VaultError}, key=lambda each: each.__qualname__)


@pytest.mark.parametrize("kind", foreign(), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_it_is_mapped(kind: type[BaseException]) -> None:
    fault = fault_of(kind)
    assert fault is not None
    error, reason, text = fault
    assert issubclass(error, SourceError)
    assert reason in Reason
    assert "{" not in text.replace("{detail}", "")


def test_an_unmapped_one_would_be_noticed() -> None:
    """The roots are no catch-alls: new children of theirs have no fault, and the test above would fail."""

    class NewInAiohttp(aiohttp.ClientError):
        pass

    class NewInHvac(hvac_errors.VaultError):  # type: ignore[misc]  # hvac has no types
        pass

    assert fault_of(NewInAiohttp) is None
    assert fault_of(NewInHvac) is None
    # Until it is mapped it is an outage, not a crash.
    assert from_foreign(NewInAiohttp("canary"), "Vault").reason == Reason.UNREACHABLE


def test_the_walk_finds_the_leaves() -> None:
    found = set(foreign())
    assert {
        aiohttp.ClientConnectorDNSError,
        hvac_errors.VaultDown,
        ssl.SSLCertVerificationError,
        socket.gaierror,
    } <= found
    assert len(found) > 60
    assert all(kind in found or kind in ROOTS for kind in FOREIGN)


def test_nothing_of_the_foreign_exception_is_quoted() -> None:
    leaky = [
        hvac_errors.Forbidden("canary", errors=["canary"], text="canary", json={"canary": "canary"}, url="canary"),
        aiohttp.ServerDisconnectedError("canary"),
        aiohttp.ClientPayloadError("canary"),
        OSError(111, "canary"),
        aiohttp.InvalidURL("canary"),
        ValueError("canary"),
    ]
    for error in leaky:
        assert "canary" not in repr(from_foreign(error, "Vault"))


def test_a_connector_s_error_tells_what_the_system_said() -> None:
    key = None
    refused = aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, "refused"))  # type: ignore[arg-type]
    assert "(Connection refused)" in from_foreign(refused, "Vault").message
    untrusted = ssl.SSLCertVerificationError(1, "failed")
    untrusted.verify_message = "self-signed certificate"
    wrapped = aiohttp.ClientConnectorCertificateError(key, untrusted)  # type: ignore[arg-type]
    error = from_foreign(wrapped, "Vault")
    assert error.reason == Reason.TLS_FAILED
    assert "(self-signed certificate)" in error.message
