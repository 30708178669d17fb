"""A whole lab in one object: a real control plane, simulated nodes and a real Vault that trusts the cluster's tokens.

::

    with Lab.start() as lab:
        lab.put_key("voice-prod/frejun", api_key="…")
        print(lab.kubectl("get", "nodes"))
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import yaml

from tests.lab import kubeconfig
from tests.lab.binaries import find_binaries
from tests.lab.cluster import Cluster
from tests.lab.controlplane import LOOPBACK, ControlPlane, ControlPlaneOptions, Endpoint
from tests.lab.processes import LabError, Ports, Processes, eventually
from tests.lab.vault import Vault

if TYPE_CHECKING:
    from types import TracebackType

    from tests.lab.build import Say

READER = "voicekeys-reader"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
COMMON = ("kubectl", "vault", "vault-plugin-auth-kubernetes")


def needed(*, control_plane: bool = True, nodes: bool = True) -> tuple[str, ...]:
    """Return the names of the binaries of a lab, with or without a control plane of its own, and simulated nodes."""
    return (*COMMON, *(CONTROL_PLANE if control_plane else ()), *(("kwok",) if nodes or control_plane else ()))


class Lab:
    """A running lab; made by `start`, ended by `close` or at the end of a `with` block.

    `refuses_own` names the choice of a run whose tests are to use another cluster: none of them may start a control
    plane then. `dir` is its one folder, `kubeconfig` its administrator's, `vault` its Vault
    (`lab.vault("GET", "sys/mounts")`).
    """

    refuses_own: ClassVar[str] = ""

    def __init__(self, folder: Path, processes: Processes, ports: Ports) -> None:
        self.dir = folder
        self.processes = processes
        self.ports = ports
        self.binaries: Mapping[str, Path] = {}
        self.has_controllers = True
        self.cluster: Cluster
        self.vault: Vault

    @classmethod
    def start(
        cls,
        *,
        nodes: int = 3,
        controller_manager: bool = True,
        scheduler: bool = True,
        users: Mapping[str, Sequence[str]] | None = None,
        apiserver_flags: Sequence[str] = (),
        controller_manager_flags: Sequence[str] = (),
        vault_tls: bool = False,
        readers: Sequence[str] = (READER,),
        endpoint: Endpoint | None = None,
        address: str = LOOPBACK,
        keep: bool = False,
        say: Say = print,
    ) -> Self:
        """Start a lab in a new temporary folder and return when all of it answers.

        `nodes` simulated nodes; `users` are further names of the token file with their groups; `readers` are the
        ServiceAccount names that Vault's role `voicekeys` accepts; `endpoint` is another cluster to use instead of a
        control plane of the lab's own; `address` is where API server and Vault listen; `keep` leaves the
        folder behind; `say` gets the lines that tell where the binaries are from. Raises LabError with the log of what
        failed.
        """
        if cls.refuses_own and endpoint is None:
            raise LabError(f"{cls.refuses_own}: this starts a control plane; ask for the fixture own_control_plane")
        folder = Path(tempfile.mkdtemp(prefix="voicekeys-lab-"))
        lab = cls(folder, Processes(folder, remove=not keep), Ports())
        try:
            lab.binaries = find_binaries(needed(control_plane=endpoint is None, nodes=nodes > 0), say)
            options = ControlPlaneOptions(
                nodes, controller_manager, scheduler, users or {}, apiserver_flags, controller_manager_flags, address
            )
            lab._launch(options, endpoint, vault_tls=vault_tls)
            lab._trust(readers)
            lab.processes.check()
        except BaseException:
            lab.close()
            raise
        return lab

    def _launch(self, options: ControlPlaneOptions, endpoint: Endpoint | None, *, vault_tls: bool) -> None:
        """Start control plane and Vault side by side, and wait for both."""
        self.has_controllers = endpoint is not None or options.controller_manager
        plane = ControlPlane(self.binaries, self.processes, self.ports, self.dir)
        own = None if endpoint else plane.launch(options)
        self.vault = Vault(self.binaries, self.processes, self.ports, self.dir, options.address)
        self.vault.launch(tls=vault_tls)
        self.vault.initialise()
        if own:
            plane.settle(own, options)
        endpoint = endpoint or own
        assert endpoint is not None
        plane.populate(endpoint, options.nodes)
        self.cluster = Cluster(endpoint)
        self.kubeconfig = self._write_kubeconfig("admin", endpoint.admin_token, "default")

    def _trust(self, readers: Sequence[str]) -> None:
        """Let Vault review the cluster's tokens, by a ServiceAccount that may do just that."""
        token = self.cluster.make_reviewer()
        self.vault.enable_kubernetes(self.api_url, self.ca_file.read_text(), token, readers)

    # ---- what it is

    @property
    def api_url(self) -> str:
        """The API server's URL."""
        return self.cluster.endpoint.api_url

    @property
    def ca_file(self) -> Path:
        """The CA of the API server's certificate."""
        return self.cluster.endpoint.ca_file

    @property
    def admin_token(self) -> str:
        """A bearer token of a cluster administrator."""
        return self.cluster.endpoint.admin_token

    @property
    def vault_addr(self) -> str:
        """Vault's address."""
        return self.vault.address

    @property
    def vault_token(self) -> str:
        """Vault's root token."""
        return self.vault.token

    def logs(self, name: str) -> str:
        """Return the log of a process, such as `kube-apiserver` or `vault`."""
        return self.processes.logs(name)

    # ---- the cluster

    def api(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Call the API server; see `Cluster.call`. Raises ApiError at 400 and above."""
        return self.cluster.call(method, path, body, **options)

    def apply(self, objects: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Server-side apply objects (YAML text, a YAML file, dicts) in order; return them as the server has them."""
        if isinstance(objects, Path):
            objects = objects.read_text()
        if isinstance(objects, str):
            objects = [each for each in yaml.safe_load_all(objects) if each]
        if isinstance(objects, Mapping):
            objects = [objects]
        return [self.cluster.apply(each) for each in objects]

    def kubectl(self, *args: str | Path, stdin: str | None = None, as_user: str | None = None) -> str:
        """Run the real kubectl as administrator, or impersonating `as_user`; return stdout.

        Raises LabError with kubectl's own words when it fails.
        """
        argv = [str(self.binaries["kubectl"]), f"--kubeconfig={self.kubeconfig}", *map(str, args)]
        if as_user:
            argv.append(f"--as={as_user}")
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise LabError(f"kubectl {' '.join(map(str, args))}: {done.stderr.strip()}")
        return done.stdout

    def make_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace and wait until its `default` ServiceAccount is there, without which no pod can be made."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.api("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        if self.has_controllers:
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            eventually(lambda: self.cluster.exists(account), f"ServiceAccount default in {name}", pause=0.02)
        return name

    def kubeconfig_for(self, who: str) -> Path:
        """Return a kubeconfig of a user of the token file, or of a ServiceAccount named `namespace/name`.

        An account that is missing is made. A ServiceAccount's token comes from TokenRequest and lasts 24 hours.
        """
        namespace, slash, name = who.partition("/")
        if slash:
            return self._write_kubeconfig(f"{namespace}.{name}", self.cluster.token_for(namespace, name), namespace)
        if who not in self.cluster.endpoint.tokens:
            raise LabError(f"no user {who!r} in the token file: name it in Lab.start(users=…)")
        return self._write_kubeconfig(who, self.cluster.endpoint.tokens[who], "default")

    def _write_kubeconfig(self, name: str, token: str, namespace: str) -> Path:
        file = self.dir / f"{name}.kubeconfig"
        return kubeconfig.write(file, api_url=self.api_url, ca_file=self.ca_file, token=token, namespace=namespace)

    # ---- Vault

    def put_key(self, path: str, **fields: Any) -> int:
        """Put a new version of a key at `path` below the mount `secret`; return the version."""
        return self.vault.put(path, fields)

    def allow(self, namespace: str, prefix: str) -> str:
        """Let a namespace read below a path prefix as well, by a role whose name is returned."""
        return self.vault.allow(namespace, prefix)

    def login(self, namespace: str, name: str = READER, role: str = "voicekeys", mount: str = "kubernetes") -> str:
        """Log a ServiceAccount in to Vault as the operator would, and return Vault's client token."""
        jwt = self.cluster.token_for(namespace, name, audience="vault")
        answer = self.vault("POST", f"auth/{mount}/login", {"role": role, "jwt": jwt}, token="")
        return str(answer["auth"]["client_token"])

    def enable_jwt(self) -> None:
        """Mount JWT auth in Vault (role `voicekeys`), which checks the cluster's tokens by its public keys."""
        self.cluster.publish_issuer()
        self.vault.enable_jwt(f"{self.api_url}/openid/v1/jwks", self.ca_file.read_text())

    def enable_approle(self, *prefixes: str) -> tuple[str, str]:
        """Mount AppRole auth in Vault; return a role id and a secret id that may read below the prefixes (or all)."""
        return self.vault.enable_approle(prefixes or ("+",))

    # ---- its end

    def freeze_api(self) -> None:
        """Stop the API server's process where it is: connections are taken by the kernel, and nothing is answered."""
        self.processes.signal("kube-apiserver", "STOP")

    def thaw_api(self) -> None:
        """Let a frozen API server go on."""
        self.processes.signal("kube-apiserver", "CONT")

    def close(self) -> None:
        """End every process and remove the folder."""
        if hasattr(self, "cluster"):
            self.cluster.close()
        self.processes.close()
        self.ports.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
