"""Paths lead where they say; selectors select what the API server thinks they do."""

from __future__ import annotations

from typing import Any

import pytest

from voicekeys.clients.kube.paths import Call, call_of, core_events, path, plural, selector_text
from voicekeys.model.errors import ApiInvalid


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("secrets", "shop", "key"), "/api/v1/namespaces/shop/secrets/key"),
        (("pods",), "/api/v1/pods"),
        (("namespaces", "", "shop"), "/api/v1/namespaces/shop"),
        (("deployments", "shop", "a"), "/apis/apps/v1/namespaces/shop/deployments/a"),
        (("voicekeystores", "", "vault", "status"), "/apis/voicekeys.dev/v1alpha1/voicekeystores/vault/status"),
        (("secrets", "shop", "../../x?y=1#z"), "/api/v1/namespaces/shop/secrets/..%2F..%2Fx%3Fy%3D1%23z"),
    ],
)
def test_path(arguments: tuple[str, ...], expected: str) -> None:
    assert path(*arguments) == expected


@pytest.mark.parametrize(
    "arguments", [("secrets", "..", "x"), ("secrets", "a", ".."), ("secrets", "a", "."), ("roles", "a")]
)
def test_a_name_that_leads_elsewhere_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ApiInvalid):
        path(*arguments)


def test_the_events_of_kubelets_are_those_of_the_core_api() -> None:
    assert core_events("shop") == "/api/v1/namespaces/shop/events"
    assert call_of("GET", core_events("shop")) == Call("list", "events", "list events shop")
    with pytest.raises(ApiInvalid):
        core_events("..")


def test_an_unknown_kind_is_refused() -> None:
    assert plural("StatefulSet") == "statefulsets"
    with pytest.raises(ApiInvalid, match="'CronJob'"):
        plural("CronJob")


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/namespaces/a/secrets/b", Call("get", "secrets", "get secrets a/b")),
        ("GET", "/api/v1/namespaces/a/pods", Call("list", "pods", "list pods a")),
        ("GET", "/api/v1/namespaces", Call("list", "namespaces", "list namespaces")),
        ("GET", "/api/v1/namespaces/a", Call("get", "namespaces", "get namespaces a")),
        ("WATCH", "/api/v1/secrets", Call("watch", "secrets", "watch secrets")),
        (
            "PATCH",
            "/apis/voicekeys.dev/v1alpha1/voicekeystores/v/status",
            Call("patch", "voicekeystores/status", "patch voicekeystores/status v"),
        ),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/b/token",
            Call("create", "serviceaccounts/token", "create serviceaccounts/token a/b"),
        ),
        ("GET", "/version", Call("list", "other", "list")),
    ],
)
def test_call_of(method: str, target: str, expected: Call) -> None:
    assert call_of(method, target) == expected


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, ""),
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchLabels": None, "matchExpressions": [{"key": "a", "operator": "Exists"}]}, "a"),
        (
            {
                "matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["x", "y"]},
                    {"key": "b", "operator": "NotIn", "values": ["z"]},
                    {"key": "c", "operator": "DoesNotExist"},
                ]
            },
            "a in (x,y),b notin (z),!c",
        ),
    ],
)
def test_selector_text(selector: dict[str, Any], text: str) -> None:
    assert selector_text(selector) == text


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ApiInvalid, match="'Gt'"):
        selector_text({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]})
