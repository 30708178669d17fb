"""A Kubernetes control plane of our own: etcd, API server, controller manager, scheduler, and kwok for the nodes.

Each binary is the real one; what is not real is the nodes' side: kwok plays the kubelets by `kwok-stages.yaml`.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import kubeconfig
from tests.lab.http import ApiError, Http

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.lab.processes import Ports, Processes

STAGES = Path(__file__).with_name("kwok-stages.yaml")
ISSUER = "https://kubernetes.default.svc.cluster.local"
LOOPBACK = "127.0.0.1"
FAKE_NODE = {"lab.voicekeys.dev/node": "simulated"}


@dataclass(frozen=True)
class ControlPlaneOptions:
    """What a control plane may be made of. `users` are extra names of the token file: `{"alice": ["group", …]}`.

    `address` is where its API server listens: another one than loopback where pods have to reach it.
    """

    nodes: int = 3
    controller_manager: bool = True
    scheduler: bool = True
    users: Mapping[str, Sequence[str]] = field(default_factory=dict)
    apiserver_flags: Sequence[str] = ()
    controller_manager_flags: Sequence[str] = ()
    address: str = LOOPBACK


@dataclass(frozen=True)
class Endpoint:
    """Where a cluster's API server is and the token of one who may do everything there."""

    api_url: str
    ca_file: Path
    admin_token: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def http(self) -> Http:
        """Return a pool of connections to it."""
        return Http(self.api_url, self.ca_file)


class ControlPlane:
    """The processes of one control plane and its endpoint. `launch` starts it, `settle` waits until it can be used."""

    def __init__(self, binaries: Mapping[str, Path], processes: Processes, ports: Ports, folder: Path) -> None:
        self._binaries = binaries
        self._processes = processes
        self._ports = ports
        self._folder = folder

    def launch(self, options: ControlPlaneOptions) -> Endpoint:
        """Start etcd and the API server, and return the endpoint at once: nothing answers there yet."""
        etcd = self._start_etcd()
        # Users of the system's own kind have names of their own in managedFields and audit, yet may do everything.
        users = {
            "admin": ["system:masters"],
            **{f"system:{name}": ["system:masters"] for name in ("kube-controller-manager", "kube-scheduler", "kwok")},
            **options.users,
        }
        tokens = {name: secrets.token_hex(16) for name in users}
        port = self._ports.take()
        flags = [f"--bind-address={options.address}", f"--secure-port={port}", *options.apiserver_flags]
        self._start_apiserver(etcd, self._write_tokens(users, tokens), flags)
        url = f"https://{options.address}:{port}"
        return Endpoint(url, self._folder / "pki" / "apiserver.crt", tokens["admin"], tokens)

    def settle(self, endpoint: Endpoint, options: ControlPlaneOptions) -> None:
        """Wait for the API server, then start controller manager and scheduler."""
        self._await_apiserver(endpoint)
        if options.controller_manager:
            self._start_controller_manager(endpoint, options.controller_manager_flags)
        if options.scheduler:
            self._start_scheduler(endpoint)

    def populate(self, endpoint: Endpoint, nodes: int) -> None:
        """Register simulated nodes with a cluster, this one or another, and start kwok for them, and only for them."""
        if nodes:
            http = endpoint.http()
            add_nodes(http, endpoint.admin_token, nodes)
            http.close()
            self._start_kwok(endpoint, endpoint.tokens.get("system:kwok", endpoint.admin_token))

    def _start_etcd(self) -> str:
        client, peer = (f"http://127.0.0.1:{self._ports.take()}" for _ in range(2))
        argv: list[str | Path] = [
            self._binaries["etcd"],
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        self._processes.start("etcd", argv)
        return client

    def _write_tokens(self, users: Mapping[str, Sequence[str]], tokens: Mapping[str, str]) -> Path:
        file = self._folder / "tokens.csv"
        file.touch(mode=0o600)
        file.write_text("".join(f'{tokens[name]},{name},{name},"{",".join(users[name])}"\n' for name in users))
        return file

    def _start_apiserver(self, etcd: str, tokens: Path, flags: Sequence[str]) -> None:
        key = self._folder / "service-account.key"
        key.touch(mode=0o600)
        key.write_text(signing_key())
        argv: list[str | Path] = [
            self._binaries["kube-apiserver"],
            f"--etcd-servers={etcd}",
            f"--cert-dir={self._folder / 'pki'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--allow-privileged=true",
            # One server: the reconciler of `kubernetes` endpoints would only write.
            "--endpoint-reconciler-type=none",
            *flags,
        ]
        self._processes.start("kube-apiserver", argv)

    def _await_apiserver(self, endpoint: Endpoint) -> None:
        def answers() -> bool:
            if not endpoint.ca_file.exists():
                return False
            http = endpoint.http()
            try:
                http.json("GET", "/readyz", headers=bearer(endpoint.admin_token))
            except ApiError:
                return False
            finally:
                http.close()
            return True

        self._processes.wait("kube-apiserver", answers, "ready", seconds=90)

    def _kubeconfig(self, endpoint: Endpoint, user: str, token: str) -> Path:
        file = self._folder / f"{user}.kubeconfig"
        return kubeconfig.write(file, api_url=endpoint.api_url, ca_file=endpoint.ca_file, token=token)

    def _start_controller_manager(self, endpoint: Endpoint, flags: Sequence[str]) -> None:
        config = self._kubeconfig(
            endpoint, "kube-controller-manager", endpoint.tokens["system:kube-controller-manager"]
        )
        argv: list[str | Path] = [
            self._binaries["kube-controller-manager"],
            f"--kubeconfig={config}",
            f"--service-account-private-key-file={self._folder / 'service-account.key'}",
            f"--root-ca-file={endpoint.ca_file}",
            f"--cert-dir={self._folder / 'pki'}",
            f"--secure-port={self._ports.take()}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            *flags,
        ]
        self._processes.start("kube-controller-manager", argv)

    def _start_scheduler(self, endpoint: Endpoint) -> None:
        config = self._kubeconfig(endpoint, "kube-scheduler", endpoint.tokens["system:kube-scheduler"])
        argv: list[str | Path] = [
            self._binaries["kube-scheduler"],
            f"--kubeconfig={config}",
            f"--cert-dir={self._folder / 'pki'}",
            f"--secure-port={self._ports.take()}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]
        self._processes.start("kube-scheduler", argv)

    def _start_kwok(self, endpoint: Endpoint, token: str) -> None:
        config = self._kubeconfig(endpoint, "kwok", token)
        selector = ",".join(f"{key}={value}" for key, value in FAKE_NODE.items())
        argv: list[str | Path] = [
            self._binaries["kwok"],
            f"--kubeconfig={config}",
            f"--config={STAGES}",
            f"--manage-nodes-with-label-selector={selector}",
            "--node-lease-duration-seconds=40",
        ]
        self._processes.start("kwok", argv)


def add_nodes(http: Http, token: str, count: int) -> None:
    """Register `count` nodes named node-0, node-1 … that kwok plays."""
    for number in range(count):
        http.json("POST", "/api/v1/nodes", node(f"node-{number}"), bearer(token))


def node(name: str) -> dict[str, Any]:
    """Return a Node with room for 1,000 pods."""
    room = {"cpu": "256", "memory": "1Ti", "pods": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {**FAKE_NODE, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"capacity": room, "allocatable": room, "nodeInfo": {"kubeletVersion": "kwok"}},
    }


def bearer(token: str, as_user: str | None = None) -> dict[str, str]:
    """Return the headers of a request with a token, made as another user (impersonation) when one is named."""
    return {"Authorization": f"Bearer {token}"} | ({"Impersonate-User": as_user} if as_user else {})


def signing_key() -> str:
    """Return a new P-256 private key as PEM (SEC 1), with which the API server signs ServiceAccount tokens.

    An EC private key is any random number below the curve's order, so no library is needed to make one: RFC 5915 gives
    the ASN.1, in which the public half may be left out.
    """
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    number = (secrets.randbelow(order - 1) + 1).to_bytes(32, "big")
    der = bytes.fromhex("30310201010420") + number + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END EC PRIVATE KEY-----\n"
