"""Argo CD's health check, run by the Lua that Argo CD runs (5.1), over the statuses that matter."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import EXAMPLES

SCRIPT = (EXAMPLES / "argocd" / "health.lua").read_text()
GENERATION = 3


def health(obj: dict[str, Any]) -> tuple[str, str]:
    """Return the status and message that Argo CD would show for an object."""
    # By name, since the package has no types.
    lua = importlib.import_module("lupa.lua51").LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = _table(lua, obj)
    answer = lua.execute(SCRIPT)
    return answer["status"], answer["message"]


def _table(lua: Any, value: Any) -> Any:
    """Turn JSON into Lua tables, lists counted from 1, as Argo CD does."""
    if isinstance(value, dict):
        return lua.table_from({key: _table(lua, each) for key, each in value.items()})
    if isinstance(value, list):
        return lua.table_from([_table(lua, each) for each in value])
    return value


def binding(*, suspend: bool = False, seen: int = GENERATION, **conditions: str) -> dict[str, Any]:
    """Return a binding with conditions, each given as `Type="Status: message"`."""
    listed = []
    for kind, text in conditions.items():
        status, _, message = text.partition(": ")
        listed.append({"type": kind, "status": status, "reason": "Test", "message": message})
    return {
        "metadata": {"generation": GENERATION},
        "spec": {"suspend": suspend},
        "status": {"observedGeneration": seen, "conditions": listed},
    }


@pytest.mark.parametrize(
    ("obj", "status", "message"),
    [
        ({"metadata": {"generation": 1}}, "Progressing", "Waiting for voicekeys"),
        ({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}}, "Progressing", "Waiting for voicekeys"),
        (binding(Ready="True: in use"), "Healthy", "in use"),
        (binding(Ready="True: in use", seen=2), "Progressing", "Waiting for voicekeys to see this generation"),
        (binding(Ready="False: rolling", Reconciling="True: 1 of 3 pods"), "Progressing", "1 of 3 pods"),
        (binding(Ready="False: rolling"), "Progressing", "rolling"),
        (binding(Ready="Unknown: no store yet"), "Progressing", "no store yet"),
        (
            binding(Ready="False: refused", Stalled="True: add the path to rule voice"),
            "Degraded",
            "add the path to rule voice",
        ),
        (binding(Ready="True: in use", CallsDrained="False: 2 old pods have calls"), "Healthy", "in use"),
        (binding(Ready="True: in use", SourceReachable="False: Vault is sealed"), "Healthy", "in use"),
        (binding(Ready="True: in use", Stalled="False: "), "Healthy", "in use"),
        (binding(Ready="False: x", suspend=True), "Suspended", "spec.suspend is true"),
        (binding(Ready="True: in use", suspend=True, seen=2), "Suspended", "spec.suspend is true"),
    ],
)
def test_health(obj: dict[str, Any], status: str, message: str) -> None:
    assert health(obj) == (status, message)


@pytest.mark.parametrize("kind", ["VoiceKeyBinding", "VoiceKeyStore"])
def test_the_config_map_has_the_same_script_for_both_kinds(kind: str) -> None:
    config = yaml.safe_load((EXAMPLES / "argocd" / "health-checks.yaml").read_text())

    assert config["data"][f"resource.customizations.health.voicekeys.dev_{kind}"] == SCRIPT
