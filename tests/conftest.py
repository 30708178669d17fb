"""What every test may ask for: `lab`, one lab for the whole run, and `namespace`, a fresh one for each test."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, LabError
from tests.lab.binaries import find_binaries, look
from tests.lab.clusters import CHOICES, describe, hint_at_kind, open_lab
from tests.lab.lab import needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_numbers = itertools.count(1)
WITHOUT_OWN = "; the tests that need one of their own are skipped there"
_SKIPPED = pytest.StashKey[str]()


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
    cluster = config.getoption("cluster")
    Lab.refuses_own = "" if cluster == "lab" else f"--cluster={cluster}"


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
    for item in items:
        if reason := _cannot(config.getoption("cluster"), item):
            item.stash[_SKIPPED] = reason
            item.add_marker(pytest.mark.skip(reason=reason))


def _cannot(cluster: str, item: pytest.Item) -> str:
    if cluster != "lab" and _owns_control_plane(item):
        return "needs an API server of its own: --cluster=lab"
    if cluster == "current" and item.get_closest_marker("simulated_nodes"):
        return "needs simulated nodes: --cluster=lab or kind"
    return ""


def _owns_control_plane(item: pytest.Item) -> bool:
    """Whether a test rests on a control plane of its own, by itself or by a fixture that starts one."""
    return bool(item.get_closest_marker("own_control_plane")) or "own_control_plane" in _fixtures(item)


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Tell before the first test how many the chosen cluster cannot play."""
    counted = Counter(item.stash[_SKIPPED] for item in items if _SKIPPED in item.stash)
    chosen = f"--cluster={config.getoption('cluster')}"
    return [f"{chosen}: {count} of {len(items)} tests are skipped: {why}" for why, count in counted.most_common()]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say which cluster is used, ask where it is the user's, build what is missing: before any test's timeout runs."""
    config = session.config
    run = [item for item in session.items if _SKIPPED not in item.stash]
    wanted = any("lab" in _fixtures(item) or _owns_control_plane(item) for item in run)
    if wanted and not config.option.collectonly and not hasattr(config, "workerinput"):
        _prepare(config)


def _prepare(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    try:
        print()
        prepare(config.getoption("cluster"), assume_yes=config.getoption("yes"), but=WITHOUT_OWN)
    except LabError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    finally:
        capture.resume_global_capture()


def prepare(cluster: str, *, assume_yes: bool, but: str = "") -> None:
    """Do the slow part of starting a lab ahead of it; `but` is said where kind is hinted at.

    Raises LabError when the user says no, or a build fails.
    """
    print(describe(cluster))
    if cluster == "current" and not assume_yes:
        question = "The tests create and delete namespaces, CRDs and cluster roles there. Go on? [y/N] "
        if not sys.stdin.isatty() or input(question).strip().lower() not in {"y", "yes"}:
            raise LabError("not confirmed: say y, or give --yes")
    names = (*needed(control_plane=cluster == "lab", nodes=cluster != "current"), "kstatus")
    if cluster == "lab" and "kube-apiserver" in look(names).missing:
        hint_at_kind(print, but)
    find_binaries(names)


def silent(_line: str) -> None:
    """Say nothing: it has been said."""


@pytest.fixture(scope="session")
def own_control_plane() -> None:
    """What a fixture asks for that starts a control plane of its own: its tests run with --cluster=lab alone."""


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
