"""What every test may ask for: `lab`, one lab for the whole run, and `namespace`, a fresh one for each test."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, LabError
from tests.lab.binaries import find_binaries, look
from tests.lab.clusters import CHOICES, describe, hint_at_kind, open_lab
from tests.lab.lab import needed

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of a cluster; kind's `--keep-cluster` is pytest-kind's own."""
    group = parser.getgroup("voicekeys")
    group.addoption(
        "--cluster",
        choices=CHOICES,
        default="lab",
        help="where tests run: a control plane of their own (lab, the default), kind (needs Docker), "
        "or the current context of your kubeconfig (asks first)",
    )
    group.addoption("--yes", action="store_true", help="with --cluster=current: do not ask")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers of the lab."""
    config.addinivalue_line("markers", "own_control_plane: rests on the lab's own API server; only with --cluster=lab")
    config.addinivalue_line("markers", "simulated_nodes: rests on the lab's simulated nodes; not on your own cluster")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Only labs of our own stand side by side: another cluster gets one test at a time."""
    if config.getoption("cluster") != "lab" and config.getoption("numprocesses", None):
        config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Build what is missing before the workers start: their output is not seen."""
    _prepare(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with a reason, what the chosen cluster cannot play."""
    cluster = config.getoption("cluster")
    for item in items:
        if cluster == "current" and item.get_closest_marker("simulated_nodes"):
            item.add_marker(pytest.mark.skip(reason="needs simulated nodes: --cluster=lab or kind"))
        if cluster != "lab" and item.get_closest_marker("own_control_plane"):
            item.add_marker(pytest.mark.skip(reason="needs the lab's own API server: --cluster=lab"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say which cluster is used, ask where it is the user's, build what is missing: before any test's timeout runs."""
    config = session.config
    wanted = any("lab" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not config.option.collectonly and not hasattr(config, "workerinput"):
        _prepare(config)


def _prepare(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    try:
        print()
        prepare(config.getoption("cluster"), assume_yes=config.getoption("yes"))
    except LabError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    finally:
        capture.resume_global_capture()


def prepare(cluster: str, *, assume_yes: bool) -> None:
    """Do the slow part of starting a lab ahead of it. Raises LabError when the user says no, or a build fails."""
    print(describe(cluster))
    if cluster == "current" and not assume_yes:
        question = "The tests create and delete namespaces, CRDs and cluster roles there. Go on? [y/N] "
        if not sys.stdin.isatty() or input(question).strip().lower() not in {"y", "yes"}:
            raise LabError("not confirmed: say y, or give --yes")
    names = (*needed(control_plane=cluster == "lab", nodes=cluster != "current"), "kstatus")
    if cluster == "lab" and "kube-apiserver" in look(names).missing:
        hint_at_kind(print)
    find_binaries(names)


def silent(_line: str) -> None:
    """Say nothing: it has been said."""


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """Start the run's lab, and end it after the last test."""
    keep = pytestconfig.getoption("keep_cluster")
    with open_lab(pytestconfig.getoption("cluster"), keep=keep, say=silent) as started:
        yield started


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """Make a namespace for one test, deleted after it (its pods end in the background)."""
    name = f"test-{next(_numbers)}"
    lab.make_namespace(name)
    yield name
    lab.api("DELETE", f"/api/v1/namespaces/{name}")
