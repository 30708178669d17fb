"""Real nodes for a lab: containerd, kubelet and kube-proxy, each node a machine of its own to the kernel."""

from __future__ import annotations

from tests.lab.nodes.realnodes import RealNodes

__all__ = ["RealNodes"]
