"""What a kubelet is told by a real process: who is dead, and whether Vault has answered yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.actions import Hold
from tests.faults.proxy import Proxy
from tests.lab.processes import eventually
from tests.reconcilers.harness import Operator, install
from tests.reconcilers.world import World

if TYPE_CHECKING:
    from tests.lab import Lab

pytestmark = pytest.mark.own_control_plane

SILENT = 5  # seconds; the API server's bookmarks come about once a minute


def checks(operator: Operator, path: str) -> tuple[int, dict[str, str]]:
    """A probe's status, and what each of its checks says."""
    code, text = operator.get(path)
    body: dict[str, Any] = json.loads(text)
    return code, body["checks"]


def test_a_watch_that_starves_is_named(lab: Lab) -> None:
    install(lab)
    operator = Operator(lab, "starved", log_level="INFO", silent_seconds=SILENT).start()
    assert checks(operator, "/healthz") == (200, {"loop": "ok", "watch": "ok"})
    world = World(lab, operator)
    eventually(lambda: checks(operator, "/healthz")[0] == 503, "a watch is dead", 30)
    said = checks(operator, "/healthz")[1]
    assert said["loop"] == "ok"
    assert f"no sign of life for {SILENT} s on the watch of" in said["watch"]
    eventually(lambda: "voicekeystores" in checks(operator, "/healthz")[1]["watch"], "the store's watch starves", 30)
    world.store(poll={"interval": "60s"})
    eventually(lambda: "voicekeystores" not in checks(operator, "/healthz")[1]["watch"], "it hears again", 5)
    eventually(lambda: "secrets" in checks(operator, "/healthz")[1]["watch"], "the others do not", 30)
    world.close()
    assert operator.stop() == 0


def test_a_process_is_ready_once_its_vault_is_known_to_be_frozen(lab: Lab) -> None:
    install(lab)
    lab.kubectl("delete", "vks", "--all")  # those that other tests have left would make it ready
    with Proxy(lab.vault_addr) as vault:
        operator = Operator(lab, "frozen", log_level="INFO")
        world = World(lab, operator, store=False)
        frozen = Hold()
        vault.add(frozen)
        world.store(vault={"address": vault.url, "timeout": "10s"}, poll={"interval": "5s"})
        world.put()
        world.bind()
        operator.start()
        eventually(frozen.reached.is_set, "Vault is asked", 20)
        assert checks(operator, "/readyz") == (503, {"stores": "no store has answered yet"})
        assert checks(operator, "/healthz")[0] == 200, "a restart would mend nothing"
        eventually(lambda: checks(operator, "/readyz") == (200, {"stores": "ok"}), "known to be down", 60)
        world.until("SourceReachable", "False", "VaultTimeout")
        vault.calm()
        frozen.release()
        world.ready(version=1)
        assert checks(operator, "/readyz")[0] == 200
        world.close()
        assert operator.stop() == 0
