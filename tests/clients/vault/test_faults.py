"""Wrong answers that a real Vault cannot be made to give, each over a real socket."""

from __future__ import annotations

import asyncio
import time
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from tests.clients.vault.conftest import Stores, fixed
from tests.clients.vault.faulty import (
    CREATED,
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
from voicekeys.model.errors import SourceDenied, SourceError, SourceGarbage, SourceMissing, StoreDown
from voicekeys.model.identity import OPERATOR

if TYPE_CHECKING:
    from voicekeys.clients.vault import VaultStore

pytestmark = pytest.mark.asyncio


async def fails(store: VaultStore, version: int = 0) -> SourceError:
    with pytest.raises(SourceError) as raised:
        await store.read(OPERATOR, "voice/frejun", version)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "canary" not in str(raised.value)
    return raised.value


STATUSES: list[tuple[Behaviour, type[SourceError], str, int]] = [
    # behaviour, class, reason, reads until then (3: two retries in the call)
    (status(400, "canary"), SourceError, "VaultRefused", 1),
    (status(401, "canary"), SourceDenied, "ReadDenied", 1),
    (status(403, "canary"), SourceDenied, "ReadDenied", 1),
    (status(403, "permission denied", "invalid token"), SourceDenied, "TokenRejected", 1),
    (status(404), SourceMissing, "PathNotFound", 1),
    (status(404, 'no handler for route "secret/data/canary"'), SourceMissing, "MountNotFound", 1),
    (status(405, "canary"), SourceMissing, "NotKvV2", 1),
    (status(412, "canary"), StoreDown, "VaultBehind", 3),
    (status(429, "canary"), StoreDown, "RateLimited", 3),
    (status(472, "canary"), StoreDown, "VaultStandby", 1),
    (status(473, "canary"), StoreDown, "VaultStandby", 1),
    (status(500, "canary"), StoreDown, "VaultError", 3),
    (status(500, "local node not active but active cluster node not found"), StoreDown, "VaultStandby", 1),
    (status(501, "canary"), StoreDown, "VaultUninitialized", 1),
    (status(502, "canary"), StoreDown, "VaultError", 3),
    (status(503, "Vault is sealed"), StoreDown, "VaultSealed", 1),
    (answer(b"<html>canary</html>", 503), StoreDown, "VaultError", 3),
    (answer(b"<html>canary</html>", 403), SourceDenied, "ReadDenied", 1),
    (status(204), SourceGarbage, "GarbledAnswer", 1),
    (status(418, "canary"), SourceGarbage, "GarbledAnswer", 1),
    (cut, StoreDown, "ConnectionCut", 3),
    (hang_up, StoreDown, "ConnectionCut", 3),
    (endless, SourceGarbage, "AnswerTooLarge", 1),
    (answer({"data": "x" * 3_000_000}), SourceGarbage, "AnswerTooLarge", 1),
]


@pytest.mark.parametrize(
    ("behaviour", "kind", "reason", "reads"),
    STATUSES,
    ids=[f"{number}-{case[2]}" for number, case in enumerate(STATUSES)],
)
async def test_each_refusal(
    faulty: FaultyVault, stores: Stores, behaviour: Behaviour, kind: type[SourceError], reason: str, reads: int
) -> None:
    faulty.always = behaviour
    store = stores(faulty.address, fixed("hvs.canary"))
    error = await fails(store)
    assert (type(error), error.reason) == (kind, reason)
    assert stores.requests("read") == reads
    assert stores.seen["read", reason] == reads
    # Nothing is broken by it: the next proper answer is read.
    faulty.always = None
    assert (await store.read(OPERATOR, "voice/frejun")).version == 1


@pytest.mark.parametrize("behaviour", [status(412), status(429), status(500), status(502), cut, hang_up])
async def test_what_is_gone_in_a_moment_is_not_seen(faulty: FaultyVault, stores: Stores, behaviour: Behaviour) -> None:
    faulty.reads.extend([behaviour, behaviour])
    started = time.monotonic()
    assert (await stores(faulty.address, fixed("hvs.canary")).read(OPERATOR, "voice/frejun")).version == 1
    assert time.monotonic() - started < 1


GARBAGE: list[Behaviour] = [
    answer(b""),
    answer(b"canary"),
    answer(b'{"data": {"data": {"k": "canary"'),
    answer(b"[" * 100_000),
    answer(b'{"data": {"data": {"k": "\xff canary"}}}'),
    answer([]),
    answer(None),
    answer({}),
    answer({"data": None}),
    answer({"data": "canary"}),
    answer({"data": {"data": {"k": "canary"}}}),
    answer({"data": {"data": {"k": "canary"}, "metadata": "canary"}}),
    answer({"data": {"metadata": {"version": 1, "created_time": CREATED}}}),
    key(None),
    key("canary"),
    key(["canary"]),
    key({"k": "canary"}, version="1"),
    key({"k": "canary"}, version=0),
    key({"k": "canary"}, version=-1),
    key({"k": "canary"}, version=True),
    key({"k": "canary"}, version=None),
    key({"k": "canary"}, created_time=None),
    key({"k": "canary"}, created_time=7),
    key({"k": "canary"}, created_time="canary"),
    key({"k": "canary"}, created_time="2026-01-02T03:04:05"),
    key({"k": "canary"}, created_time="0001-01-01T00:00:00+14:00"),
]


@pytest.mark.parametrize("behaviour", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage(faulty: FaultyVault, stores: Stores, behaviour: Behaviour) -> None:
    faulty.always = behaviour
    error = await fails(stores(faulty.address, fixed("hvs.canary")))
    assert isinstance(error, SourceGarbage)
    assert stores.requests("read") == 1


async def test_another_version_than_the_pinned_one_is_garbage(faulty: FaultyVault, stores: Stores) -> None:
    faulty.always = key({"k": "v"}, version=3)
    assert (await fails(stores(faulty.address, fixed("hvs.canary")), 2)).reason == "GarbledAnswer"


async def test_the_same_object_is_the_same_bytes_whatever_the_order_of_its_names(
    faulty: FaultyVault, stores: Stores
) -> None:
    faulty.reads.extend([key({"o": {"a": 1, "b": [{"c": 1, "d": 2}]}}), key({"o": {"b": [{"d": 2, "c": 1}], "a": 1}})])
    store = stores(faulty.address, fixed("hvs.canary"))
    read = [(await store.read(OPERATOR, "a")).fields.reveal("o") for _ in range(2)]
    assert read == [b'{"a":1,"b":[{"c":1,"d":2}]}'] * 2


async def test_a_version_that_will_be_deleted_later_is_still_read(faulty: FaultyVault, stores: Stores) -> None:
    faulty.always = key({"k": "v"}, deletion_time="2999-01-01T00:00:00Z")
    assert (await stores(faulty.address, fixed("hvs.canary")).read(OPERATOR, "a")).fields.reveal("k") == b"v"


async def test_an_answer_that_is_not_http(stores: Stores) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-canary\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await fails(stores(f"http://127.0.0.1:{port}", fixed("hvs.canary")))
    server.close()
    assert (type(error), error.reason) == (SourceGarbage, "GarbledAnswer")


async def test_slow_is_a_timeout(faulty: FaultyVault, stores: Stores) -> None:
    faulty.always = slow(30, key({}))
    started = time.monotonic()
    error = await fails(stores(faulty.address, fixed("hvs.canary"), timeout=0.3))
    assert (error.reason, stores.requests("read")) == ("VaultTimeout", 1)
    assert 0.25 < time.monotonic() - started < 0.6


async def test_slow_errors_end_within_twice_the_timeout(faulty: FaultyVault, stores: Stores) -> None:
    faulty.always = slow(0.45, status(500))
    started = time.monotonic()
    error = await fails(stores(faulty.address, fixed("hvs.canary"), timeout=0.5))
    assert time.monotonic() - started < 1.6
    # A third try could not end in time: it is not begun. (On a busy machine an answer may come too late to be heard.)
    assert error.reason in {"VaultError", "VaultTimeout"}
    assert stores.requests("read") <= 2


async def test_a_slow_login_and_a_slow_read_end_within_twice_the_timeout(faulty: FaultyVault, stores: Stores) -> None:
    faulty.logins.append(slow(0.4, answer({"auth": {"client_token": "hvs.canary", "lease_duration": 60}})))
    faulty.always = slow(0.4, status(500))
    started = time.monotonic()
    store = stores(faulty.address, timeout=0.5)
    with pytest.raises(StoreDown):
        await store.read(OPERATOR._replace(namespace="n", service_account="s"), "voice/frejun")
    assert time.monotonic() - started < 1.2


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("0", 0, 0), ("999999", 300, 300), ("Sat, 01 Jan 2000 00:00:00 GMT", 0, 0)],
)
async def test_retry_after_is_passed_on(
    faulty: FaultyVault, stores: Stores, header: str, least: float, most: float
) -> None:
    faulty.always = status(429, headers={"Retry-After": header})
    error = await fails(stores(faulty.address, fixed("hvs.canary")))
    assert error.retry_after is not None
    assert least <= error.retry_after <= most
    # A long wait is not sat out in the call.
    assert stores.requests("read") == (1 if least > 1 else 3)


async def test_retry_after_as_a_date(faulty: FaultyVault, stores: Stores) -> None:
    date = format_datetime(stores.clock.now().replace(microsecond=0), usegmt=True)
    stores.clock.ahead -= 60
    faulty.always = status(503, "Vault is sealed", headers={"Retry-After": date})
    error = await fails(stores(faulty.address, fixed("hvs.canary")))
    assert error.retry_after is not None
    assert 55 < error.retry_after <= 61


@pytest.mark.parametrize("header", ["soon", "-1", "", "1e9", "nan", "Sat, 99 Xxx 2000"])
async def test_a_retry_after_that_says_nothing_is_left_out(faulty: FaultyVault, stores: Stores, header: str) -> None:
    faulty.always = status(429, headers={"Retry-After": header})
    assert (await fails(stores(faulty.address, fixed("hvs.canary")))).retry_after is None


async def test_a_short_retry_after_is_waited_for(faulty: FaultyVault, stores: Stores) -> None:
    faulty.reads.append(status(429, headers={"Retry-After": "1"}))
    started = time.monotonic()
    await stores(faulty.address, fixed("hvs.canary")).read(OPERATOR, "a")
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("code", [307, 308])
async def test_a_standby_s_redirect_is_followed_with_the_token(faulty: FaultyVault, stores: Stores, code: int) -> None:
    active = FaultyVault()
    await active.start()
    faulty.always = redirect(f"{active.address}/v1/secret/data/voice/frejun?version=1", code)
    store = stores(faulty.address, fixed("hvs.canary"), namespace="team")
    assert (await store.read(OPERATOR, "voice/frejun", 1)).version == 1
    await active.stop()
    method, path, headers = active.requests[0]
    assert (method, path) == ("GET", "/v1/secret/data/voice/frejun?version=1")
    assert (headers["X-Vault-Token"], headers["X-Vault-Namespace"]) == ("hvs.canary", "team")


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("ftp://127.0.0.1/v1/secret/data/a", 307),
        ("http://user:canary@127.0.0.1:1/v1/secret/data/a", 307),
        ("http://127.0.0.1:1/elsewhere", 307),
        ("/ui/", 307),
        ("", 307),
        ("http://[broken/v1/", 307),
        ("/v1/secret/data/a", 301),
        ("/v1/secret/data/a", 302),
        ("/v1/secret/data/a", 303),
        ("/v1/secret/data/voice/frejun", 307),  # in circles
    ],
)
async def test_any_other_redirect_is_refused(faulty: FaultyVault, stores: Stores, location: str, code: int) -> None:
    faulty.always = redirect(location, code)
    error = await fails(stores(faulty.address, fixed("hvs.canary")))
    assert (type(error), error.reason) == (StoreDown, "VaultRedirect")
    assert len(faulty.requests) <= 3


async def test_headers_and_nothing_of_the_environment(
    faulty: FaultyVault, stores: Stores, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".vault-token").write_text("hvs.from-home")
    (home / ".netrc").write_text("machine 127.0.0.1 login from password netrc\n")
    for name, value in {
        "HOME": str(home),
        "VAULT_TOKEN": "hvs.from-env",
        "VAULT_ADDR": "http://127.0.0.1:1",
        "VAULT_NAMESPACE": "from-env",
        "VAULT_CACERT": "/nowhere",
        "http_proxy": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    store = stores(faulty.address)
    await store.read(OPERATOR._replace(namespace="n", service_account="s"), "a")
    (_, login_path, login), (_, read_path, read) = faulty.requests
    assert (login_path, read_path) == ("/v1/auth/kubernetes/login", "/v1/secret/data/a")
    assert "X-Vault-Token" not in login
    assert read["X-Vault-Token"] == "hvs.canary-token-1"
    for headers in (login, read):
        assert headers["X-Vault-Request"] == "true"
        assert "from" not in str(headers)
        assert not {"X-Vault-Namespace", "Authorization", "Cookie"} & set(headers)
