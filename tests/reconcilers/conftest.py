"""A lab with `deploy/` on it, the operator of each module, and tests that run side by side (see `together`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab
from tests.reconcilers.harness import Operator, errors, install_deploy
from tests.reconcilers.together import StatusWatch, Together

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker by which a test asks for another tenant than the usual one."""
    config.addinivalue_line("markers", "tenant: arguments of the World of this test (store=False, reader=False)")


@pytest.fixture(scope="package")
def account() -> dict[str, str]:
    """The ServiceAccount that operators run as, once `cluster` has installed it."""
    return {}


@pytest.fixture(scope="package")
def cluster(own_control_plane: None, account: dict[str, str]) -> Iterator[Lab]:  # noqa: ARG001
    """A lab of its own: `deploy/` brings cluster-wide policies, which other tests should not meet by chance."""
    # Many rollouts go on at the same time, which the controllers' own limits (20 requests a second) would stretch.
    quick = ["--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-deployment-syncs=20"]
    with Lab.start(controller_manager_flags=quick) as lab:
        account["name"] = install_deploy(lab)
        yield lab


@pytest.fixture(scope="package")
def statuses(cluster: Lab) -> Iterator[StatusWatch]:
    """Every status that a binding ever had."""
    watch = StatusWatch(cluster)
    yield watch
    watch.close()


@pytest.fixture(scope="module")
def operator(cluster: Lab, account: dict[str, str]) -> Iterator[Operator]:
    """The operator of a module, with exactly the rights that `deploy/` gives it; its log must hold no error."""
    running = Operator(cluster, account=account["name"]).start()
    yield running
    wrong = errors(running)
    assert running.stop() == 0
    assert not wrong, "\n".join(str(line).replace("\\n", "\n") for line in wrong)


@pytest.fixture(scope="module")
def together(
    request: pytest.FixtureRequest, cluster: Lab, operator: Operator, statuses: StatusWatch
) -> Iterator[Together]:
    """The module's tests that ask for `world`, all started."""
    module = request.node
    mine = [
        item
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.getparent(pytest.Module) is module
        and "world" in item.fixturenames
    ]
    running = Together(mine, cluster, operator, statuses)
    yield running
    running.close()


@pytest.fixture
def world(together: Together) -> Together:
    """A tenant for the test; it gets its World from `Together`, in whose thread it runs."""
    return together


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Wait for a test that runs in a thread already, instead of calling it."""
    together = pyfuncitem.funcargs.get("together")
    if not isinstance(together, Together) or "world" not in pyfuncitem.fixturenames:
        return None
    together.wait(pyfuncitem)
    return True
