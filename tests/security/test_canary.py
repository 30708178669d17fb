"""No value leaks: a whole run with forced failures, at DEBUG, leaves no key in any channel, in no encoding.

First a leak is planted in each channel, and seen; then each failure is shown to have happened, and none is found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.security import run as scenario
from tests.security.planting import OBJECTS, PROCESS
from tests.security.run import Run

if TYPE_CHECKING:
    from tests.lab import Lab

pytestmark = pytest.mark.simulated_nodes


@pytest.fixture(scope="module")
def run(
    leaks_were_seen: frozenset[str],  # noqa: ARG001  what comes first
    cluster: Lab,
    approle: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The run, done; the plants come first."""
    made = Run(cluster, tmp_path_factory.mktemp("canary"), approle)
    made.go()
    return made


def test_nothing_leaks(run: Run, leaks_were_seen: frozenset[str]) -> None:
    # First: a leak in each place was planted, and seen. Else that nothing is found here would say nothing.
    assert leaks_were_seen == {*PROCESS, *OBJECTS}
    # The user's own manifest holds that key: this is what LiteralKeyInManifest is about.
    assert run.evidence.leaks(run.secrets, exempt={"literal": f"{scenario.NAMESPACE}/literal"}) == []


def test_the_literal_key_is_where_the_user_wrote_it(run: Run) -> None:
    """The search looks into every object: it finds the one key that is in a manifest."""
    literal = {name: value for name, value in run.secrets.items() if name.startswith("literal")}

    kinds = {leak.split()[0].rpartition("/")[2] for leak in run.evidence.leaks(literal)}

    assert (
        {"deployments", "replicasets", "pods"} <= kinds <= {"deployments", "replicasets", "pods", "controllerrevisions"}
    )


def test_every_failure_happened(run: Run) -> None:
    for name, (_, reason) in (scenario.VAULT_TELLS | scenario.API_TELLS).items():
        assert run.seen[name] == reason
    for name, (_, _, reason) in scenario.UNUSABLE.items():
        assert run.seen[name] == reason, name
    answers = {status for name, status in run.seen.items() if name.startswith("notify")}
    assert answers == {"400", "401", "404", "409", "413"}


def test_both_crashes_left_a_traceback(run: Run) -> None:
    log = run.evidence.channels["log"]

    assert run.seen["exception"] == "1"
    assert run.seen["signal"] == "-6"
    assert "invalid literal for int() with base 10" in log
    assert "Fatal Python error: Aborted" in log


def test_libraries_spoke_at_debug(run: Run) -> None:
    """Else the log would hold little that could leak."""
    log = run.evidence.channels["log"]

    assert '"level":"debug"' in log
    assert '"logger":"kopf' in log
    assert '"logger":"asyncio"' in log


def test_every_channel_was_looked_at(run: Run) -> None:
    channels = run.evidence.channels
    for name in ("log", "environ", "cmdline", "/metrics", "/healthz", "/readyz", "/notify"):
        assert channels[name], name
    for kind in (
        "events",
        "voicekeybindings",
        "voicekeystores",
        "secrets",
        "deployments",
        "pods",
        "leases",
        "configmaps",
    ):
        assert [channel for channel in channels if f"/{kind} " in channel], kind


def test_no_core_is_dumped(run: Run) -> None:
    """A core file would hold every key in memory: the limit is nought, whatever the machine's is."""
    limits = run.evidence.channels["limits"]

    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits
