"""The lab's Vault: who may read what, and what goes wrong with it on demand."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab
from tests.lab.http import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.vault import Vault


def fields(vault: Vault, path: str, token: str) -> dict[str, str]:
    """Return a key's fields as a token reads them."""
    data: dict[str, str] = vault("GET", f"secret/data/{path}", token=token)["data"]["data"]
    return data


def refused(vault: Vault, path: str, token: str) -> bool:
    """Tell whether Vault denies a token a path."""
    with pytest.raises(ApiError) as caught:
        fields(vault, path, token)
    return caught.value.status == 403


@pytest.fixture
def working(lab: Lab) -> Iterator[Vault]:
    """Hand out the lab's Vault, and see that it serves when the test is over."""
    yield lab.vault
    lab.vault.thaw()
    if lab.vault("GET", "sys/seal-status", token="")["sealed"]:
        lab.vault.unseal()


def test_versions_count_up(lab: Lab, namespace: str) -> None:
    assert [lab.put_key(f"{namespace}/k", api_key=value) for value in ("a", "b")] == [1, 2]


def test_a_namespace_s_reader_reads_its_own_and_nothing_else(lab: Lab, namespace: str) -> None:
    lab.put_key(f"{namespace}/k", api_key="a")
    lab.put_key(f"{namespace}-other/k", api_key="b")
    token = lab.login(namespace)
    assert fields(lab.vault, f"{namespace}/k", token) == {"api_key": "a"}
    assert refused(lab.vault, f"{namespace}-other/k", token)
    assert refused(lab.vault, "shared/k", token)


def test_another_service_account_cannot_log_in(lab: Lab, namespace: str) -> None:
    with pytest.raises(ApiError, match="not authorized"):
        lab.login(namespace, name="somebody")


def test_an_allowed_prefix_is_readable_by_that_namespace_s_role(lab: Lab, namespace: str) -> None:
    lab.put_key("voice/production/k", api_key="a")
    lab.put_key(f"{namespace}/k", api_key="b")
    lab.put_key("voice/staging/k", api_key="c")
    role = lab.allow(namespace, "voice/production")
    token = lab.login(namespace, role=role)
    assert fields(lab.vault, "voice/production/k", token) == {"api_key": "a"}
    assert fields(lab.vault, f"{namespace}/k", token) == {"api_key": "b"}
    assert refused(lab.vault, "voice/staging/k", token)
    lab.allow(namespace, "voice/staging")
    token = lab.login(namespace, role=role)
    assert fields(lab.vault, "voice/staging/k", token) == {"api_key": "c"}
    assert fields(lab.vault, "voice/production/k", token) == {"api_key": "a"}
    with pytest.raises(ApiError, match="namespace not authorized"):
        lab.login(f"{namespace}-other", role=role)
    lab.api("DELETE", f"/api/v1/namespaces/{namespace}-other")


def test_a_shared_prefix_is_readable_by_all(lab: Lab, namespace: str) -> None:
    lab.put_key(f"common-{namespace}/k", api_key="a")
    token = lab.login(namespace)
    assert refused(lab.vault, f"common-{namespace}/k", token)
    lab.vault.share(f"common-{namespace}")
    assert fields(lab.vault, f"common-{namespace}/k", token) == {"api_key": "a"}


def test_jwt_auth_keeps_tenants_apart_too(lab: Lab, namespace: str) -> None:
    lab.enable_jwt()
    lab.put_key(f"{namespace}/k", api_key="a")
    lab.put_key(f"{namespace}-other/k", api_key="b")
    token = lab.login(namespace, mount="jwt")
    assert fields(lab.vault, f"{namespace}/k", token) == {"api_key": "a"}
    assert refused(lab.vault, f"{namespace}-other/k", token)


def test_approle_reads_what_it_was_made_for(lab: Lab) -> None:
    role_id, secret_id = lab.enable_approle("lent")
    lab.put_key("lent/k", api_key="a")
    lab.put_key("kept/k", api_key="b")
    login = lab.vault("POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id}, token="")
    token = login["auth"]["client_token"]
    assert fields(lab.vault, "lent/k", token) == {"api_key": "a"}
    assert refused(lab.vault, "kept/k", token)


def test_sealed_it_answers_503_and_unsealed_it_serves_again(working: Vault, namespace: str) -> None:
    working.put(f"{namespace}/k", {"api_key": "a"})
    working.seal()
    with pytest.raises(ApiError, match="sealed") as caught:
        fields(working, f"{namespace}/k", working.token)
    assert caught.value.status == 503
    working.unseal()
    assert fields(working, f"{namespace}/k", working.token) == {"api_key": "a"}


def test_killed_and_restarted_it_knows_its_keys_and_its_tokens(working: Vault, lab: Lab, namespace: str) -> None:
    working.put(f"{namespace}/k", {"api_key": "a"})
    token = lab.login(namespace)
    working.kill()
    with pytest.raises(ConnectionError):
        fields(working, f"{namespace}/k", token)
    working.restart()
    assert fields(working, f"{namespace}/k", token) == {"api_key": "a"}
    assert lab.login(namespace)


def test_frozen_it_takes_connections_and_answers_once_it_goes_on(working: Vault) -> None:
    working.freeze()
    start = time.monotonic()
    threading.Timer(1.0, working.thaw).start()
    assert working("GET", "sys/seal-status", token="")["sealed"] is False
    assert time.monotonic() - start >= 0.9


@pytest.mark.own_control_plane
def test_with_tls_its_certificate_is_of_its_own_ca() -> None:
    with Lab.start(vault_tls=True, nodes=0, controller_manager=False, scheduler=False) as lab:
        assert lab.vault_addr.startswith("https://127.0.0.1:")
        assert lab.vault.ca_file is not None
        assert lab.vault.ca_file.read_text() != lab.ca_file.read_text()
        lab.put_key("tls/k", api_key="a")
        assert fields(lab.vault, "tls/k", lab.login("tls")) == {"api_key": "a"}
