"""The configuration files of a node's containerd, CNI and kubelet. All paths in them are the node's own (init.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path("/var/node")
PAUSE = "voicekeys.lab/pause:1"
# A node that is gone is found out after this many seconds (`--node-monitor-grace-period`): the default is 50.
LEASE_SECONDS = 12
GRACE_SECONDS = 16


def containerd(cni: Path) -> str:
    """Return containerd's config.toml. `root` and `state` are the usual folders, which are the node's own here."""
    return f"""\
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without it no pod starts where the machine withholds CAP_SYS_RESOURCE ("can't get final child's PID from pipe").
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{FOLDER}/cni"
"""


def cni(pods: str) -> str:
    """Return the CNI configuration of a node whose pods have the subnet `pods`.

    Each pod has a cable of its own (`ptp`) and no bridge: a Service's answer between two pods of one node then passes
    the node's iptables without `br_netfilter`, which would be the whole machine's.
    """
    ipam = {"type": "host-local", "subnet": pods, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/var/lib/cni"}
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": "lab", "plugins": [plugin]}, indent=1)


def kubelet(cgroup_root: str, overrides: Mapping[str, Any]) -> str:
    """Return the kubelet's KubeletConfiguration, with `overrides` of single fields."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # What else is on this machine's disk and in its memory must not move a test's pods.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "nodeStatusUpdateFrequency": "3s",
        "resolvConf": f"{FOLDER}/resolv.conf",
        # Nobody reaches it but this machine and the lab's own pods.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        # Image pulls and what the kubelet asks of the API server are not to be what a test waits for.
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        **overrides,
    }
    return yaml.safe_dump(config, sort_keys=False)
