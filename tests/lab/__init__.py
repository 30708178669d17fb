"""A real Kubernetes API server and a real Vault on this machine, for tests, the demo and the benchmark."""

from __future__ import annotations

from tests.lab.lab import Lab
from tests.lab.processes import LabError

__all__ = ["Lab", "LabError"]
