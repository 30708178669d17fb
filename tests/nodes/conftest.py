"""Two real nodes for the tests of this folder, and why those are skipped where there can be none."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import LabError
from tests.lab.binaries import find_binaries
from tests.lab.nodes import RealNodes, images
from tests.lab.nodes.requirements import BINARIES, missing
from tests.nodes import lines, pods
from tests.nodes.footprint import changed, footprint, sysctls
from tests.nodes.install import overlay
from tests.nodes.stage import Stage
from tests.nodes.witness import Witness
from tests.reconcilers.harness import HOME, NOTIFY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nodes.scenes import Scene

pytest.register_assert_rewrite("tests.nodes.facts")
FOLDER = Path(__file__).parent
_numbers = itertools.count(1)
# The first run builds a kubelet and two images.
TIMEOUT = 1200
AT_ONCE = 2
"""So many test processes, each with two real nodes, two cores carry."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "real_nodes: needs root and containerd, runc … on this machine: see the reason")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them with a reason where there can be no real nodes."""
    lack = _lack(config)
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.real_nodes)
            item.add_marker(pytest.mark.timeout(TIMEOUT))
            if lack:
                item.add_marker(pytest.mark.skip(reason=lack))


def _lack(config: pytest.Config) -> str:
    """Why there can be no real nodes in this run; empty when there can."""
    if config.getoption("cluster") != "lab":
        return "real nodes are the lab's own: --cluster=lab"
    if (processes := _processes(config)) > AT_ONCE:
        return f"two real nodes for each of {processes} test processes are too much: run them by `hatch run nodes`"
    return missing() or ""


def _processes(config: pytest.Config) -> int:
    """How many test processes this run has."""
    told = config.workerinput["workercount"] if hasattr(config, "workerinput") else config.getoption("numprocesses", 1)
    return int(told or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Build what is missing before the workers start: their output is not seen."""
    if not _lack(config):
        _prepare(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, where its progress can be seen."""
    config = session.config
    wanted = any(FOLDER in item.path.parents for item in session.items)
    if wanted and not _lack(config) and not config.option.collectonly and not hasattr(config, "workerinput"):
        _prepare(config)


def _prepare(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    try:
        find_binaries(BINARIES)
        images.operator()
    except LabError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    finally:
        capture.resume_global_capture()


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNodes]:
    """Two real nodes that have the test agent's image; after their end the machine is as it was found."""
    before, settings = footprint(), sysctls()
    with RealNodes.start(count=2, say=lambda _line: None) as started:
        started.load(pods.image(tmp_path_factory.mktemp("agent"), say=lambda _line: None))
        started.load(lines.image(tmp_path_factory.mktemp("line"), say=lambda _line: None))
        yield started
    assert footprint() == before
    assert changed(settings) == {}


@pytest.fixture(scope="session")
def witness(nodes: RealNodes) -> Iterator[Witness]:
    """The one whom agents tell what happens to them."""
    with Witness(nodes.network.address) as listening:
        yield listening


@pytest.fixture(scope="session")
def operator(nodes: RealNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The operator as `kubectl apply -k deploy/` installs it, running in pods; its end too."""
    nodes.load(images.operator(say=lambda _line: None))
    nodes.lab.kubectl("apply", "--server-side", "-k", overlay(tmp_path_factory.mktemp("overlay")))
    notify = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "voicekeys-notify-key", "namespace": HOME}}
    nodes.lab.apply({**notify, "stringData": {"key": NOTIFY_KEY.decode()}})
    nodes.lab.kubectl("-n", HOME, "rollout", "status", "deployment/voicekeys-operator", "--timeout=120s")
    yield
    nodes.lab.kubectl("-n", HOME, "delete", "deployment", "voicekeys-operator", "--wait=false")


@pytest.fixture
def scene(nodes: RealNodes, witness: Witness) -> Scene:
    """Make an agent with a binding in a namespace of its own."""

    def make(**options: Any) -> lines.Lines:
        return lines.Lines(Stage(nodes, witness, nodes.lab.make_namespace(f"calls-{next(_numbers)}")), **options)

    return make


@pytest.fixture(scope="module")
def stage(nodes: RealNodes, witness: Witness, request: pytest.FixtureRequest) -> Stage:
    """A namespace for a module's pods."""
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    return Stage(nodes, witness, nodes.lab.make_namespace(name))
