"""The store's spec: what is left out has its promised value, and the auth method says what a login needs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from tests.crds.objects import AUTHS, store
from voicekeys.api.store import (
    AppRoleAuth,
    Auth,
    ConfigMapRef,
    JwtAuth,
    KubernetesAuth,
    LabelSelector,
    LabelSelectorOperator,
    LabelSelectorRequirement,
    Poll,
    Rule,
    SecretRef,
    TokenAuth,
    Vault,
    parse_store_spec,
)


def _spec(**changes: Any) -> dict[str, Any]:
    """Return a short spec with ``changes``."""
    rule = {"name": "all", "namespaceSelector": {}, "pathPrefixes": ["voice"], "environment": "staging"}
    return {"vault": {"address": "https://vault"}, "auth": {"kubernetes": {"role": "r"}}, "rules": [rule]} | changes


def test_a_short_spec_is_filled_with_defaults() -> None:
    spec = parse_store_spec(_spec())
    assert spec.vault == Vault(address="https://vault", mount="secret", insecure=False, timeout=timedelta(seconds=10))
    assert spec.auth.method == KubernetesAuth(role="r", mount_path="kubernetes", audience="vault")
    assert spec.poll == Poll(interval=None, reads_per_second=10)
    assert spec.rules == (
        Rule(name="all", namespace_selector=LabelSelector(), path_prefixes=("voice",), environment="staging"),
    )
    assert not spec.suspend


def test_every_field_is_read_from_bytes_as_from_a_mapping() -> None:
    raw = store(ca_config_map=True)["spec"]
    spec = parse_store_spec(orjson.dumps(raw))
    assert spec == parse_store_spec(raw)
    assert spec.vault.namespace == "admin/voice"
    assert spec.vault.ca_config_map_ref == ConfigMapRef(name="vault-ca", key="ca.crt")
    assert spec.poll.interval == timedelta(seconds=30)
    assert spec.rules[0].namespace_selector == LabelSelector(
        match_labels={"voicekeys-env": "production"},
        match_expressions=(
            LabelSelectorRequirement(
                key="kubernetes.io/metadata.name", operator=LabelSelectorOperator.NOT_IN, values=("kube-system",)
            ),
        ),
    )
    assert parse_store_spec(store()["spec"]).vault.ca_bundle == store()["spec"]["vault"]["caBundle"]


@pytest.mark.parametrize(
    ("name", "kind", "audience", "secret"),
    [
        ("kubernetes", KubernetesAuth, "vault", None),
        ("jwt", JwtAuth, "vault", None),
        ("appRole", AppRoleAuth, None, ("vault-approle", "secret-id")),
        ("token", TokenAuth, None, ("vault-token", "token")),
    ],
)
def test_the_method_says_what_a_login_needs(
    name: str, kind: type, audience: str | None, secret: tuple[str, str] | None
) -> None:
    auth = parse_store_spec(_spec(auth={name: AUTHS[name]})).auth
    assert isinstance(auth.method, kind)
    assert auth.audience == audience
    found = auth.secret_ref
    assert (found and (found.name, found.key)) == secret
    assert auth.lends_identity == (secret is not None)


@pytest.mark.parametrize(
    ("auth", "key"),
    [
        ({"appRole": {"roleId": "r", "secretRef": {"name": "s"}}}, "secret-id"),
        ({"token": {"secretRef": {"name": "s"}}}, "token"),
    ],
    ids=["appRole", "token"],
)
def test_each_method_has_its_own_default_key(auth: dict[str, Any], key: str) -> None:
    found = parse_store_spec(_spec(auth=auth)).auth.secret_ref
    assert isinstance(found, SecretRef)
    assert found.key == key


def test_no_method_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"set one of auth\.kubernetes, auth\.jwt, auth\.appRole, auth\.token"):
        _ = Auth().method


@pytest.mark.parametrize("missing", ["vault", "auth", "rules"])
def test_what_the_crd_requires_is_required(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        parse_store_spec({name: value for name, value in _spec().items() if name != missing})
