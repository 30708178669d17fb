"""When the client logs in, and above all when it does not: under crowds, refusals, outages and cancellations."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING

import pytest

from tests.clients.vault.faulty import FaultyVault, answer, hang_up, key, slow, status
from voicekeys.clients.vault import AppRoleLogin, StaticToken, VaultStore
from voicekeys.model.errors import SourceDenied, SourceError, SourceGarbage, StoreDown
from voicekeys.model.identity import OPERATOR, Identity

if TYPE_CHECKING:
    from tests.clients.vault.conftest import Stores

pytestmark = pytest.mark.asyncio
TENANT = Identity("tenant", "voicekeys-reader")


async def outcomes(store: VaultStore, number: int, identity: Identity = TENANT) -> set[str]:
    """Read many paths at once; give the distinct outcomes."""
    done = await asyncio.gather(
        *(store.read(identity, f"path/{each}") for each in range(number)), return_exceptions=True
    )
    assert all(isinstance(each, SourceError) for each in done if isinstance(each, BaseException))
    return {each.reason if isinstance(each, SourceError) else "ok" for each in done}


async def test_a_crowd_shares_one_login_and_one_failure(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.append(slow(0.1, status(403, "permission denied")))
    assert await outcomes(store, 1000) == {"LoginDenied"}
    assert (faulty.count("/login"), len(stores.minted), stores.requests("read")) == (1, 1, 0)


async def test_a_refused_login_is_not_tried_by_each_path_and_ever_more_rarely(
    faulty: FaultyVault, stores: Stores
) -> None:
    store = stores(faulty.address)
    faulty.logins.extend([status(403)] * 1000)
    tried = []
    for _ in range(120):  # ten minutes, a poll every five seconds
        assert await outcomes(store, 10) == {"LoginDenied"}
        tried.append(faulty.count("/login"))
        stores.clock.ahead += 5
    assert tried[0] == 1
    assert 10 <= tried[-1] <= 20
    faulty.logins.clear()
    stores.clock.ahead += 75
    assert await outcomes(store, 10) == {"ok"}


async def test_a_remembered_refusal_says_when_to_come_back(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.append(status(400))
    answered = []
    for _ in range(2):
        with pytest.raises(SourceDenied) as raised:
            await store.read(TENANT, "a")
        answered.append(raised.value.answered)
    assert answered == [True, False], "the second time Vault was not asked"
    assert raised.value.retry_after is not None
    assert 3 < raised.value.retry_after <= 6


async def test_an_outage_at_login_is_not_remembered_as_a_refusal(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.extend([status(500)] * 3)
    assert await outcomes(store, 50) == {"VaultError"}
    assert faulty.count("/login") == 3
    assert await outcomes(store, 50) == {"ok"}


async def test_an_identity_that_is_refused_stops_no_other(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.append(status(403))
    assert await outcomes(store, 5) == {"LoginDenied"}
    assert await outcomes(store, 5, Identity("other", "voicekeys-reader")) == {"ok"}


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"client_token": ""},
        {"client_token": 7, "lease_duration": 60},
        {"client_token": "hvs.canary"},
        {"client_token": "hvs.canary", "lease_duration": "60"},
        {"client_token": "hvs.canary", "lease_duration": -1},
        {"client_token": "hvs.canary\r\nX-Evil: 1", "lease_duration": 60},
        {"client_token": "hvs.canaré", "lease_duration": 60},
        None,
        "canary",
    ],
)
async def test_a_garbled_login(faulty: FaultyVault, stores: Stores, auth: object) -> None:
    faulty.logins.append(answer({"auth": auth}))
    with pytest.raises(SourceGarbage) as raised:
        await stores(faulty.address).read(TENANT, "a")
    assert "canar" not in str(raised.value)
    assert stores.requests("read") == 0


@pytest.mark.parametrize("text", ["", " \n", "hvs.canary\nmore", "hvs.canaré"])
async def test_a_credential_that_no_header_can_carry(faulty: FaultyVault, stores: Stores, text: str) -> None:
    async def read() -> str:
        return text

    for auth in (StaticToken(read), AppRoleLogin("approle", "role-id", read)):
        with pytest.raises(SourceDenied) as raised:
            await stores(faulty.address, auth).read(OPERATOR, "a")
        assert (raised.value.reason, raised.value.answered) == ("CredentialUnavailable", False)
        assert "canar" not in str(raised.value)
    assert faulty.requests == []


async def test_a_cancelled_reader_harms_no_other(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.append(slow(0.2, answer({"auth": {"client_token": "hvs.canary", "lease_duration": 60}})))
    readers = [asyncio.create_task(store.read(TENANT, f"path/{each}")) for each in range(20)]
    await asyncio.sleep(0.1)
    for reader in readers[:19]:  # the first of them began the login
        reader.cancel()
    done = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(each) for each in done[:19]] == [asyncio.CancelledError] * 19
    assert not isinstance(done[19], BaseException)
    assert faulty.count("/login") == 1


async def test_a_login_that_everyone_gave_up_still_serves_the_next(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.append(slow(0.2, answer({"auth": {"client_token": "hvs.canary", "lease_duration": 60}})))
    reader = asyncio.create_task(store.read(TENANT, "a"))
    await asyncio.sleep(0.1)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    await store.read(TENANT, "a")
    assert faulty.count("/login") == 1


async def test_cancelled_reads_leave_the_connections_usable(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    await store.read(TENANT, "a")
    for _ in range(3):
        faulty.reads.extend([slow(0.3, key({}))] * 100)
        readers = [asyncio.create_task(store.read(TENANT, f"path/{each}")) for each in range(100)]
        await asyncio.sleep(0.1)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        faulty.reads.clear()
        assert await outcomes(store, 100) == {"ok"}


async def test_a_store_that_is_closed_tells_its_readers_so(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.logins.append(slow(5, status(500)))
    readers = [asyncio.create_task(store.read(TENANT, f"path/{each}")) for each in range(5)]
    await asyncio.sleep(0.1)
    await store.close()
    done = await asyncio.gather(*readers, return_exceptions=True)
    assert {type(each) for each in done} == {StoreDown}
    assert {each.reason for each in done if isinstance(each, StoreDown)} == {"StoreClosed"}


async def test_a_token_that_stopped_working_is_replaced_once_for_all_its_readers(
    faulty: FaultyVault, stores: Stores
) -> None:
    store = stores(faulty.address)
    await store.read(TENANT, "a")
    faulty.accepted = {"hvs.canary-token-2"}
    stores.clock.ahead += 301
    assert await outcomes(store, 200) == {"ok"}
    assert (faulty.count("/login"), len(stores.minted)) == (2, 2)


async def test_denied_paths_make_one_login_in_five_minutes_however_many_they_are(
    faulty: FaultyVault, stores: Stores
) -> None:
    store = stores(faulty.address)
    faulty.always = status(403, "permission denied")
    logins = []
    for _ in range(60):  # ten minutes, a poll every ten seconds
        assert await outcomes(store, 20) == {"ReadDenied"}
        logins.append(faulty.count("/login"))
        stores.clock.ahead += 10
    assert logins[0] == logins[20] == 1
    assert logins[-1] in (2, 3)


async def test_a_rejected_token_is_replaced_within_seconds_but_not_at_each_read(
    faulty: FaultyVault, stores: Stores
) -> None:
    store = stores(faulty.address)
    faulty.always = status(403, "permission denied", "invalid token")
    for _ in range(30):  # thirty seconds
        assert await outcomes(store, 20) == {"TokenRejected"}
        stores.clock.ahead += 1
    assert faulty.count("/login") <= 30 / 5 + 1


async def test_a_failed_renewal_logs_in_anew(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    await store.read(TENANT, "a")
    stores.clock.ahead += 0.7 * 3600
    faulty.renewals.append(status(400, "lease is not renewable"))
    assert await outcomes(store, 20) == {"ok"}
    assert (faulty.count("/renew-self"), faulty.count("/login")) == (1, 2)


async def test_a_live_token_outlasts_an_outage_of_renewals_and_logins(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    await store.read(TENANT, "a")
    stores.clock.ahead += 0.7 * 3600
    faulty.renewals.extend([status(500)] * 3)
    faulty.logins.extend([status(500)] * 3)
    assert await outcomes(store, 20) == {"ok"}
    assert (faulty.count("/renew-self"), faulty.count("/login")) == (3, 1)
    # Tried again later, not at each read.
    assert await outcomes(store, 20) == {"ok"}
    assert faulty.count("/renew-self") == 3
    stores.clock.ahead += 0.1 * 3600
    assert await outcomes(store, 20) == {"ok"}
    assert faulty.count("/renew-self") == 4


async def test_an_expired_token_is_never_sent(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    await store.read(TENANT, "a")
    stores.clock.ahead += 3601
    faulty.logins.extend([status(500)] * 3)
    before = faulty.count("/data/")
    assert await outcomes(store, 20) == {"VaultError"}
    assert faulty.count("/data/") == before


async def test_a_token_that_never_expires_is_never_renewed(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    faulty.lease = 0
    for _ in range(3):
        await store.read(TENANT, "a")
        stores.clock.ahead += 1e7
    assert (faulty.count("/renew-self"), faulty.count("/login")) == (0, 1)


async def test_identities_that_nobody_reads_with_any_more_are_forgotten(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    for number in range(50):
        await store.read(Identity(f"gone-{number}", "voicekeys-reader"), "a")
    stores.clock.ahead += 3700
    await store.read(TENANT, "a")
    stores.minted.clear()
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, Identity) and each.namespace.startswith("gone-")]
    assert held == []


async def test_closing_revokes_service_tokens_and_leaves_batch_tokens(faulty: FaultyVault, stores: Stores) -> None:
    store = stores(faulty.address)
    await store.read(TENANT, "a")
    faulty.token_type = "batch"
    await store.read(Identity("other", "voicekeys-reader"), "a")
    await store.close()
    revoked = [headers["X-Vault-Token"] for _, path, headers in faulty.requests if path.endswith("/revoke-self")]
    assert revoked == ["hvs.canary-token-1"]


async def test_a_login_cut_off_is_tried_again(faulty: FaultyVault, stores: Stores) -> None:
    faulty.logins.extend([hang_up, status(503)])
    assert (await stores(faulty.address).read(TENANT, "a")).version == 1
    assert (faulty.count("/login"), len(stores.minted)) == (3, 1)
