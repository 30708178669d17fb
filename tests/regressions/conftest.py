"""The lab of the reconcile tests, for faults that were once there: each test shows what a user would have seen."""

from __future__ import annotations

from tests.reconcilers.conftest import account, cluster, operator, pytest_pyfunc_call, statuses, together, world

__all__ = ["account", "cluster", "operator", "pytest_pyfunc_call", "statuses", "together", "world"]
