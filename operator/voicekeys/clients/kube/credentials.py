"""Where the API server is and how we prove who we are.

In a pod the ServiceAccount mount is read by ourselves: importing the official ``kubernetes.config`` for that costs some
40 MiB of memory. Everywhere else (a laptop, a test) that package reads the kubeconfig, with exec plugins and all.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from voicekeys.model.errors import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_REREAD_SECONDS = 60.0
"""The kubelet renews the mounted token in place; client-go re-reads it each minute as well."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One API server and one way to log in to it.

    Args:
        server: URL without a trailing slash.
        namespace: the pod's own namespace, or the kubeconfig context's; ``default`` where neither says.
        ca_path: file with the server's CA in PEM, or None for the system's.
        insecure: the server's certificate is not checked (kubeconfig's ``insecure-skip-tls-verify``).
        authorization: value of the ``Authorization`` header, or None.
        certificate_path: client certificate in PEM, with ``private_key_path``.
        private_key_path: its key.
        proxy_url: HTTP proxy from the kubeconfig.
        tls_server_name: name to check the server's certificate against, where it is not the host.
        reread_seconds: how often `reload` is called unasked; None: only after a 401.
        reload: reads the same source again; blocking (it may run an exec plugin).
    """

    server: str
    namespace: str = "default"
    ca_path: str | None = None
    insecure: bool = False
    authorization: str | None = field(default=None, repr=False)
    certificate_path: str | None = None
    private_key_path: str | None = None
    proxy_url: str | None = None
    tls_server_name: str | None = None
    reread_seconds: float | None = None
    reload: Callable[[], Credentials] | None = field(default=None, repr=False, compare=False)

    def same_transport(self, other: Credentials) -> bool:
        """Whether connections made for ``other`` may be used on with ours: everything but the header is equal."""
        return replace(self, authorization=None) == replace(other, authorization=None)

    def ssl_context(self) -> ssl.SSLContext | bool:
        """TLS as these credentials want it.

        Returns:
            A context, or True (aiohttp's default) for a plain ``http://`` server.

        Raises:
            Terminal: a certificate file cannot be read.
        """
        if not self.server.startswith("https://"):
            return True
        try:
            context = ssl.create_default_context(cafile=self.ca_path)
            if self.certificate_path:
                context.load_cert_chain(self.certificate_path, self.private_key_path)
        except OSError as error:  # ssl.SSLError is one
            message = f"cannot read the certificates for {self.server} ({type(error).__name__}): check the kubeconfig"
            raise Terminal("KubeconfigInvalid", message) from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def kopf_connection_info(credentials: Credentials) -> dict[str, Any]:
    """Return the same credentials as keyword arguments of ``kopf.ConnectionInfo`` (kopf 1.45)."""
    scheme, _, token = (credentials.authorization or "").partition(" ")
    return {
        "server": credentials.server,
        "ca_path": credentials.ca_path,
        "insecure": credentials.insecure,
        "scheme": scheme or None,
        "token": token or None,
        "certificate_path": credentials.certificate_path,
        "private_key_path": credentials.private_key_path,
        "default_namespace": credentials.namespace,
        "proxy_url": credentials.proxy_url,
    }


def load_credentials(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    service_account: Path = SERVICE_ACCOUNT,
) -> Credentials:
    """Find the API server: in a pod by its ServiceAccount, else by the kubeconfig.

    Args:
        kubeconfig: file (or files, as ``$KUBECONFIG`` lists them); named, it wins over the pod's own account.
        context: the kubeconfig's context; default: its current one.
        service_account: folder of the mounted token, CA and namespace.

    Raises:
        Terminal: there is neither, or it cannot be used.
    """
    if kubeconfig is None and context is None and _in_cluster(service_account):
        return _from_service_account(service_account)
    return _from_kubeconfig(kubeconfig, context)


def _in_cluster(folder: Path) -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").is_file()


def _from_service_account(folder: Path) -> Credentials:
    host, port = (
        os.environ["KUBERNETES_SERVICE_HOST"],
        os.environ.get("KUBERNETES_SERVICE_PORT") or "443",
    )
    try:
        token = (folder / "token").read_text().strip()
        namespace_file = folder / "namespace"
        namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    except (OSError, UnicodeDecodeError) as error:
        message = f"the ServiceAccount mount {folder} cannot be read ({type(error).__name__})"
        raise Terminal("ServiceAccountUnreadable", message) from None
    ca_path = folder / "ca.crt"
    return Credentials(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace,
        ca_path=str(ca_path) if ca_path.is_file() else None,
        authorization=f"Bearer {token}" if token else None,
        reread_seconds=TOKEN_REREAD_SECONDS,
        reload=lambda: _from_service_account(folder),
    )


def _from_kubeconfig(kubeconfig: str | None, context: str | None) -> Credentials:
    # Imported here alone: it costs 40 MiB and half a second, and a pod never needs it.
    from kubernetes import client  # noqa: PLC0415
    from kubernetes import config as loader  # noqa: PLC0415

    config: Any = loader  # the package has a py.typed but few types

    try:
        loaded = client.Configuration()
        config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=loaded)
        namespace = _context_namespace(config, kubeconfig, context)
        server = urlsplit(loaded.host.rstrip("/"))
    except Exception as error:  # noqa: BLE001 - the loader passes on whatever its YAML, OIDC and exec parts raise
        # Only the class: a YAML error quotes the lines around it, which may hold a token.
        message = (
            f"no usable kubeconfig ({type(error).__name__}): set KUBECONFIG, or run in a pod with a ServiceAccount"
        )
        raise Terminal("KubeconfigInvalid", message) from None
    if server.scheme not in {"http", "https"} or not server.hostname:
        raise Terminal("KubeconfigInvalid", "the kubeconfig names no server that can be reached by HTTP")
    return Credentials(
        server=server.geturl(),
        namespace=namespace,
        ca_path=loaded.ssl_ca_cert,
        insecure=not loaded.verify_ssl,
        authorization=loaded.api_key.get("BearerToken"),
        certificate_path=loaded.cert_file,
        private_key_path=loaded.key_file,
        proxy_url=loaded.proxy,
        tls_server_name=loaded.tls_server_name,
        reload=lambda: _from_kubeconfig(kubeconfig, context),
    )


def _context_namespace(config: Any, kubeconfig: str | None, wanted: str | None) -> str:
    contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
    chosen = next((each for each in contexts if each["name"] == wanted), active) if wanted else active
    return chosen["context"].get("namespace") or "default"
