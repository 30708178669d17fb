"""A real Vault server on loopback: KV v2, Kubernetes auth, and whatever goes wrong with a Vault, on demand.

It keeps its data on disk and is initialised with one unseal key, so that it can be killed and started again with all
it knew. The policy of `setup` keeps tenants apart by the namespace that each login's token names.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tests.lab.binaries import PLUGIN
from tests.lab.controlplane import ISSUER, LOOPBACK
from tests.lab.http import ApiError, Http
from tests.lab.processes import LabError, Ports, Processes, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ROLE = "voicekeys"
AUDIENCE = "vault"
MOUNT = "secret"


class Vault:
    """One Vault server. `launch` starts it, `initialise` makes it usable, the rest is for tests."""

    def __init__(
        self,
        binaries: Mapping[str, Path],
        processes: Processes,
        ports: Ports,
        folder: Path,
        host: str = LOOPBACK,
    ) -> None:
        self._binaries = binaries
        self._processes = processes
        self._folder = folder / "vault"
        self._plugins = self._folder / "plugins"
        self._port = ports.take()
        self._cluster_port = ports.take()
        self._unseal_key = ""
        self.token = ""
        self.ca_file: Path | None = None
        self._host = host
        self.address = f"http://{host}:{self._port}"

    def launch(self, *, tls: bool) -> None:
        """Start the server, sealed and empty. With `tls` under a certificate of a CA of its own (`ca_file`)."""
        self._plugins.mkdir(parents=True)
        (self._folder / "data").mkdir()
        if PLUGIN in self._binaries:
            link(self._binaries[PLUGIN], self._plugins / PLUGIN)
        listener = ["  tls_disable = true"]
        if tls:
            listener = self._make_certificate()
            self.address = f"https://{self._host}:{self._port}"
        config = self._folder / "vault.hcl"
        config.write_text(
            "\n".join(
                [
                    # The store of the `minimal` build that outlives the process; with itself as its one peer.
                    f'storage "raft" {{\n  path = "{self._folder / "data"}"',
                    '  node_id = "lab"\n  performance_multiplier = "1"\n}',
                    f'listener "tcp" {{\n  address = "{self._host}:{self._port}"',
                    f'  cluster_address = "127.0.0.1:{self._cluster_port}"',
                    *listener,
                    "}",
                    f'api_addr = "{self.address}"',
                    f'cluster_addr = "https://127.0.0.1:{self._cluster_port}"',
                    f'plugin_directory = "{self._plugins}"',
                    "disable_mlock = true",
                ]
            )
        )
        self._http = Http(self.address, self.ca_file)
        self._start()

    def initialise(self) -> None:
        """Initialise and unseal the server; `token` is then its root token. Mount KV v2 at `secret`."""
        self._await("sealed", lambda status: not status["initialized"])
        made = self._http.json("PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.token, self._unseal_key = made["root_token"], made["keys"][0]
        self.unseal()
        self("POST", f"sys/mounts/{MOUNT}", {"type": "kv", "options": {"version": "2"}})
        # A KV v2 mount answers 400 until its upgrade, which runs after the mount call has returned, is done.
        eventually(self._mounted, "KV v2 mounted", pause=0.05)

    def __call__(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """Send a request to `/v1/<path>` (as root, or with `token`; "" for none) and return the decoded answer.

        Raises ApiError at 400 and above. Vault's LIST is `GET path?list=true`.
        """
        used = self.token if token is None else token
        return self._http.json(method, f"/v1/{path}", body, {"X-Vault-Token": used} if used else None)

    # ---- what tests do with keys and policies

    def put(self, path: str, fields: Mapping[str, Any]) -> int:
        """Put a new version of a key at `path` below the KV mount, and return its number."""
        return int(self("POST", f"{MOUNT}/data/{path}", {"data": dict(fields)})["data"]["version"])

    def allow(self, namespace: str, prefix: str) -> str:
        """Make a role with which ServiceAccounts of one namespace read below a path prefix too; return its name."""
        name = f"{ROLE}-{namespace}"
        policy = f"{name}-{hashlib.sha256(prefix.encode()).hexdigest()[:8]}"
        self("PUT", f"sys/policies/acl/{policy}", {"policy": readable(f"{MOUNT}/data/{prefix.strip('/')}/*")})
        try:
            known = self("GET", f"auth/kubernetes/role/{name}")["data"]["token_policies"]
        except ApiError:
            known = [ROLE, f"{ROLE}-shared"]
        self._role(name, ["*"], [namespace], sorted({*known, policy}))
        return name

    def share(self, prefix: str) -> None:
        """Let every login of the role `voicekeys` read below a path prefix; the last call's prefix is the one."""
        self("PUT", f"sys/policies/acl/{ROLE}-shared", {"policy": readable(f"{MOUNT}/data/{prefix.strip('/')}/*")})

    # ---- auth methods

    def enable_kubernetes(self, api_url: str, ca: str, reviewer_token: str, accounts: Sequence[str]) -> None:
        """Mount Kubernetes auth, with the role `voicekeys` for ServiceAccounts of these names in any namespace."""
        self("POST", "sys/auth/kubernetes", {"type": self._kubernetes_type()})
        config = {
            "kubernetes_host": api_url,
            "kubernetes_ca_cert": ca,
            "token_reviewer_jwt": reviewer_token,
            "disable_local_ca_jwt": True,
        }
        self("POST", "auth/kubernetes/config", config)
        self._write_tenant_policy("kubernetes", "service_account_namespace")
        self._role(ROLE, accounts, ["*"], [ROLE, f"{ROLE}-shared"])

    def enable_jwt(self, jwks_url: str, ca: str) -> None:
        """Mount JWT auth at `jwt`, its keys being the API server's, with a role `voicekeys` like Kubernetes auth's."""
        self._mount_auth("jwt")
        self("POST", "auth/jwt/config", {"jwks_url": jwks_url, "jwks_ca_pem": ca, "bound_issuer": ISSUER})
        self._write_tenant_policy("jwt", "namespace")
        role = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [AUDIENCE],
            "claim_mappings": {"/kubernetes.io/namespace": "namespace"},
            "token_policies": [f"{ROLE}-jwt"],
            "token_ttl": "1h",
        }
        self("POST", f"auth/jwt/role/{ROLE}", role)

    def enable_approle(self, prefixes: Sequence[str] = ("+",)) -> tuple[str, str]:
        """Mount AppRole auth at `approle`; return a role id and a secret id that read below the path prefixes."""
        self._mount_auth("approle")
        policy = "\n".join(readable(f"{MOUNT}/data/{prefix}/*") for prefix in prefixes)
        self("PUT", f"sys/policies/acl/{ROLE}-approle", {"policy": policy})
        self("POST", f"auth/approle/role/{ROLE}", {"token_policies": [f"{ROLE}-approle"], "token_ttl": "1h"})
        role_id = self("GET", f"auth/approle/role/{ROLE}/role-id")["data"]["role_id"]
        secret_id = self("POST", f"auth/approle/role/{ROLE}/secret-id", {})["data"]["secret_id"]
        return str(role_id), str(secret_id)

    # ---- what goes wrong with a Vault

    def seal(self) -> None:
        """Seal it: it answers 503 to all but its health."""
        self("PUT", "sys/seal")
        self._await("sealed", lambda status: bool(status["sealed"]))

    def unseal(self) -> None:
        """Unseal it and wait until it serves."""
        self._http.json("PUT", "/v1/sys/unseal", {"key": self._unseal_key})
        self._await("unsealed and active", lambda status: not status["sealed"] and not status["standby"])

    def freeze(self) -> None:
        """Stop its process where it is: connections are taken by the kernel, and nothing is answered."""
        self._processes.signal("vault", "STOP")

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._processes.signal("vault", "CONT")

    def kill(self) -> None:
        """Kill its process: connections are refused."""
        self._processes.kill("vault")

    def restart(self) -> None:
        """Start it again after `kill`, or anew, at the same address with its data, and unseal it."""
        if self._processes.code("vault") is None:
            self._processes.stop("vault")
        self._start()
        self._await("started", lambda status: bool(status["initialized"]))
        self.unseal()

    # ---- inner workings

    def _start(self) -> None:
        argv: list[str | Path] = [
            self._binaries["vault"],
            "server",
            f"-config={self._folder / 'vault.hcl'}",
            "-log-level=info",
        ]
        # On TERM it ends its plugin as well, should the supervisor itself be killed.
        self._processes.start("vault", argv, death="TERM")

    def _await(self, what: str, wanted: Any) -> None:
        def asked() -> bool:
            # Any state counts as an answer, so the status of each is 200.
            codes = "standbycode=200&sealedcode=200&uninitcode=200"
            return bool(wanted(self._http.json("GET", f"/v1/sys/health?{codes}")))

        self._processes.wait("vault", asked, what)

    def _mounted(self) -> bool:
        try:
            self("GET", f"{MOUNT}/config")
        except ApiError:
            return False
        return True

    def _kubernetes_type(self) -> str:
        """Return the type of Kubernetes auth: built into a release, a plugin to register in the `minimal` build."""
        if "kubernetes" in self("GET", "sys/plugins/catalog")["data"]["auth"]:
            return "kubernetes"
        if PLUGIN not in self._binaries:
            raise LabError(f"this Vault has no Kubernetes auth built in, and {PLUGIN} is not there")
        digest = hashlib.sha256((self._plugins / PLUGIN).read_bytes()).hexdigest()
        self("PUT", f"sys/plugins/catalog/auth/{PLUGIN}", {"sha256": digest, "command": PLUGIN})
        return PLUGIN

    def _mount_auth(self, kind: str) -> None:
        """Mount an auth method at its own name, unless an earlier test of the same lab has."""
        if f"{kind}/" not in self("GET", "sys/auth")["data"]:
            self("POST", f"sys/auth/{kind}", {"type": kind})

    def _write_tenant_policy(self, mount: str, field: str) -> None:
        accessor = self("GET", "sys/auth")["data"][f"{mount}/"]["accessor"]
        own = f"{{{{identity.entity.aliases.{accessor}.metadata.{field}}}}}"
        name = ROLE if mount == "kubernetes" else f"{ROLE}-{mount}"
        self("PUT", f"sys/policies/acl/{name}", {"policy": readable(f"{MOUNT}/data/{own}/*")})

    def _role(self, name: str, accounts: Sequence[str], namespaces: Sequence[str], policies: Sequence[str]) -> None:
        role = {
            "bound_service_account_names": list(accounts),
            "bound_service_account_namespaces": list(namespaces),
            "audience": AUDIENCE,
            "token_policies": list(policies),
            "token_ttl": "1h",
        }
        self("POST", f"auth/kubernetes/role/{name}", role)

    def _make_certificate(self) -> list[str]:
        """Let a throw-away dev server make a CA and a certificate for its address; return the listener's settings."""
        folder = self._folder / "tls"
        folder.mkdir()
        argv: list[str | Path] = [
            self._binaries["vault"],
            "server",
            "-dev",
            "-dev-tls",
            f"-dev-tls-cert-dir={folder}",
            "-dev-no-store-token",
            f"-dev-listen-address={self._host}:{self._port}",
            f"-dev-tls-san={self._host}",
        ]
        self._processes.start("vault-tls", argv)
        files = [folder / f"vault-{name}.pem" for name in ("ca", "cert", "key")]
        self._processes.wait("vault-tls", lambda: all(f.exists() and f.stat().st_size for f in files), "certified")
        # Ended politely, it would take the files away with it.
        self._processes.kill("vault-tls")
        self.ca_file = files[0]
        return [f'  tls_cert_file = "{files[1]}"', f'  tls_key_file = "{files[2]}"']


def readable(path: str) -> str:
    """Return a policy that lets one read a path: as little as an operator that only reads keys needs."""
    return f'path "{path}" {{ capabilities = ["read"] }}'


def link(source: Path, target: Path) -> None:
    """Put a file where another name is wanted: Vault refuses a plugin behind a symbolic link."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        target.write_bytes(source.read_bytes())
        target.chmod(0o755)
