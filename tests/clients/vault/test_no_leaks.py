"""No token, JWT or key value in any text that this client makes: exceptions, tracebacks with locals, reprs, logs."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from typing import TYPE_CHECKING

import pytest

from tests.clients.vault.faulty import (
    Behaviour,
    FaultyVault,
    answer,
    cut,
    endless,
    hang_up,
    key,
    redirect,
    slow,
    status,
)
from voicekeys.clients.vault import AppRoleLogin, JwtLogin, StaticToken, VaultStore
from voicekeys.clients.vault.access import Token
from voicekeys.clients.vault.answer import Answer
from voicekeys.clients.vault.grants import Grant
from voicekeys.model.errors import SourceError
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.vault.conftest import Stores

CANARY = "canary"
TENANT = Identity("tenant", "voicekeys-reader")
pytestmark = pytest.mark.asyncio


def forms() -> list[str]:
    """Every form in which a secret could show: plain, hexadecimal, and base64 at each of its three alignments."""
    encoded = [base64.b64encode(b"x" * pad + CANARY.encode()).decode()[4 if pad else 0 : 8] for pad in range(3)]
    return [CANARY, CANARY.encode().hex(), *encoded]


def leaks(text: str) -> list[str]:
    """Lines that show a secret."""
    return [line for line in text.splitlines() if any(form in line for form in forms())]


def with_locals(error: BaseException) -> str:
    """Format a traceback as the most talkative loggers do."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()) + repr(error)


def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Log at DEBUG, with asyncio's debug mode, in which every callback is slow and told of."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 0


async def secret() -> str:
    return "hvs.canary-credential"


BEHAVIOURS: list[Behaviour] = [
    status(400, "canary"),
    status(403, "canary"),
    status(403, "canary", "invalid token"),
    status(404, "canary"),
    status(412, "canary"),
    status(429, "canary", headers={"Retry-After": "canary"}),
    status(500, "canary"),
    status(503, "canary Vault is sealed"),
    answer(b"canary"),
    answer(b'{"canary": "canary'),
    answer({"data": {"data": {"k": "canary"}}}),
    key("canary"),
    key({"k": "canary"}, version="canary"),
    key({"k": "canary"}, created_time="canary"),
    redirect("http://canary:canary@127.0.0.1/v1/canary"),
    cut,
    hang_up,
    endless,
    slow(2, key({"k": "canary"})),
]


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=range(len(BEHAVIOURS)))
async def test_failed_reads(
    faulty: FaultyVault, stores: Stores, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    stores.mint = lambda *_: "canary-jwt"
    log_everything(caplog)
    store = stores(faulty.address, timeout=0.5)
    await store.read(TENANT, "a")
    faulty.always = behaviour
    stores.clock.ahead += 301
    with pytest.raises(SourceError) as raised:
        await store.read(TENANT, "a")
    assert leaks(with_locals(raised.value)) == []
    assert leaks(caplog.text) == []


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=range(len(BEHAVIOURS)))
async def test_failed_logins(
    faulty: FaultyVault, stores: Stores, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    stores.mint = lambda *_: "canary-jwt"
    log_everything(caplog)
    for auth in (JwtLogin("jwt", "r", "a"), AppRoleLogin("approle", "canary-role-id", secret)):
        faulty.logins.extend([behaviour] * 3)
        store = stores(faulty.address, auth, timeout=0.5)
        with pytest.raises(SourceError) as raised:
            await store.read(TENANT, "a")
        assert leaks(with_locals(raised.value)) == []
        faulty.logins.clear()
    assert leaks(caplog.text) == []


async def test_what_can_be_printed(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address, StaticToken(secret))
    found = await store.read(OPERATOR, "a")
    grant = Grant(Token("hvs.canary"), 1.0, renewable=True, revocable=True)
    made = [Token("hvs.canary"), Answer(200, {"k": "canary"}), grant, AppRoleLogin("approle", "canary", secret)]
    printed = "\n".join(show(each) for each in (*parts(store), found, found.fields, *made))
    assert "Session(" in printed
    assert "Transport" in printed
    assert leaks(printed) == []


def show(thing: object) -> str:
    return f"{thing!r} {thing!s} {thing:}"


def parts(store: VaultStore) -> Iterator[object]:
    """Give every object of ours that a store consists of."""
    todo: list[object] = [store]
    seen: set[int] = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        yield thing
        inside = dict(getattr(thing, "__dict__", {}))
        for name in getattr(thing, "__dataclass_fields__", ()):
            inside[name] = getattr(thing, name)
        for value in inside.values():
            members = value.values() if isinstance(value, dict) else [value]
            todo += [each for each in members if type(each).__module__.startswith(("voicekeys", "hvac"))]


async def test_the_checks_would_see_a_leak() -> None:
    jwt = "canary-jwt"
    with pytest.raises(ZeroDivisionError) as raised:  # in whose text only the locals show it
        1 // len(jwt[:0])
    assert leaks(with_locals(raised.value))
    for lead in ("", "a", "ab", "abc"):
        assert leaks(base64.b64encode(f"{lead}canary sings".encode()).decode())
    assert leaks(show({"token": "hvs.canary"}))
