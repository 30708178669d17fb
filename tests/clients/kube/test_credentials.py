"""Where credentials come from, and that they never show."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kopf
import pytest
import yaml

from voicekeys.clients.kube.credentials import Credentials, kopf_connection_info, load_credentials
from voicekeys.clients.kube.session import KubeSession
from voicekeys.model.errors import ApiForbidden, Terminal

if TYPE_CHECKING:
    from tests.lab import Lab

TOKEN = "canary-token"


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ServiceAccount mount, in a pod."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "namespace").write_text("voicekeys-system")
    (tmp_path / "ca.crt").write_text("")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    return tmp_path


def kubeconfig(folder: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> str:
    """Write a kubeconfig with two contexts."""
    file = folder / "kubeconfig"
    contexts = [
        {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
        {"name": "two", "context": {"cluster": "c", "user": "u"}},
    ]
    content = {
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://example.test:6443/"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": contexts,
        "current-context": "one",
    }
    file.write_text(yaml.safe_dump(content))
    return str(file)


def test_in_a_pod_the_mount_is_used(mount: Path) -> None:
    found = load_credentials(service_account=mount)
    assert found.server == "https://10.0.0.1:6443"
    assert found.namespace == "voicekeys-system"
    assert found.authorization == f"Bearer {TOKEN}"
    assert found.reread_seconds == 60
    (mount / "token").write_text("next")
    assert found.reload is not None
    assert found.reload().authorization == "Bearer next"


def test_ipv6_is_bracketed(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert load_credentials(service_account=mount).server == "https://[fd00::1]:6443"


def test_in_a_pod_the_kubernetes_package_is_not_imported(mount: Path) -> None:
    program = (
        "import sys, pathlib; from voicekeys.clients.kube.credentials import load_credentials;"
        "from voicekeys.clients.kube import cluster, events, lease, session, watch;"
        f"load_credentials(service_account=pathlib.Path({str(mount)!r}));"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ)).returncode == 0


def test_a_kubeconfig_that_is_named_wins_over_the_mount(mount: Path, tmp_path: Path) -> None:
    found = load_credentials(kubeconfig(tmp_path, {"token": TOKEN}), service_account=mount)
    assert found.server == "https://example.test:6443"
    assert found.authorization == f"Bearer {TOKEN}"
    assert found.namespace == "shop"
    assert found.reread_seconds is None


def test_a_context_may_be_chosen(tmp_path: Path) -> None:
    assert load_credentials(kubeconfig(tmp_path, {"token": TOKEN}), "two").namespace == "default"


def test_basic_auth_proxy_and_insecure(tmp_path: Path) -> None:
    cluster = {
        "server": "https://example.test",
        "insecure-skip-tls-verify": True,
        "proxy-url": "http://proxy.test:3128",
        "tls-server-name": "api.test",
    }
    found = load_credentials(kubeconfig(tmp_path, {"username": "u", "password": "p"}, cluster))
    assert found.authorization == "Basic dTpw"
    assert (found.insecure, found.proxy_url, found.tls_server_name) == (True, "http://proxy.test:3128", "api.test")
    context = found.ssl_context()
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_NONE


def test_an_exec_plugin_is_run_again_at_reload(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    script = tmp_path / "plugin"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "N"}}
    script.write_text(
        f"#!{sys.executable}\nimport pathlib\np = pathlib.Path({str(counter)!r})\n"
        "n = int(p.read_text()) + 1 if p.exists() else 1\np.write_text(str(n))\n"
        f"print({json.dumps(credential)!r}.replace('\"N\"', f'\"token-{{n}}\"'))\n"
    )
    script.chmod(0o700)
    exec_ = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "interactiveMode": "Never",
    }
    found = load_credentials(kubeconfig(tmp_path, {"exec": exec_}))
    assert found.authorization == "Bearer token-1"
    assert found.reload is not None
    assert found.reload().authorization == "Bearer token-2"


@pytest.mark.parametrize(
    "content", [None, "", "canary-token: [", "{}", "clusters: 7", "current-context: x\ncontexts: []\nclusters: []"]
)
def test_an_unusable_kubeconfig_is_told_without_quoting_it(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Terminal) as caught:
        load_credentials(str(file))
    assert caught.value.reason == "KubeconfigInvalid"
    assert TOKEN not in repr(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("server", ["http://[bad", "", "nonsense", "unix:///run/x"])
def test_a_server_that_cannot_be_reached_by_http_is_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(Terminal) as caught:
        load_credentials(kubeconfig(tmp_path, {}, {"server": server}))
    assert caught.value.reason == "KubeconfigInvalid"


def test_an_unreadable_mount_is_told(mount: Path) -> None:
    (mount / "token").write_bytes(b"\xff")
    with pytest.raises(Terminal) as caught:
        load_credentials(service_account=mount)
    assert caught.value.reason == "ServiceAccountUnreadable"


def test_bad_certificates_are_told(tmp_path: Path) -> None:
    file = tmp_path / "ca"
    file.write_text("no certificate")
    with pytest.raises(Terminal, match="cannot read the certificates"):
        Credentials("https://x.test", ca_path=str(file)).ssl_context()


def test_nothing_secret_in_a_repr() -> None:
    assert TOKEN not in repr(Credentials("https://x.test", authorization=f"Bearer {TOKEN}"))


def test_kopf_gets_the_same(mount: Path, tmp_path: Path) -> None:
    info = kopf.ConnectionInfo(**kopf_connection_info(load_credentials(service_account=mount)))
    assert info.as_http_headers() == {"Authorization": f"Bearer {TOKEN}"}
    assert (info.server, info.default_namespace) == ("https://10.0.0.1:6443", "voicekeys-system")
    basic = load_credentials(kubeconfig(tmp_path, {"username": "u", "password": "p"}))
    assert kopf.ConnectionInfo(**kopf_connection_info(basic)).as_http_headers() == {"Authorization": "Basic dTpw"}
    assert not kopf.ConnectionInfo(**kopf_connection_info(Credentials("http://x.test"))).as_http_headers()


@pytest.mark.asyncio
async def test_the_lab_takes_a_pods_credentials(lab: Lab, namespace: str, mount: Path) -> None:
    host, _, port = lab.api_url.removeprefix("https://").rpartition(":")
    os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"] = host, port  # restored by `mount`
    (mount / "ca.crt").write_bytes(Path(lab.ca_file).read_bytes())
    (mount / "token").write_text(lab.cluster.token_for(namespace, "default"))
    session = KubeSession(load_credentials(service_account=mount))
    try:
        with pytest.raises(ApiForbidden) as caught:  # known, but without rights
            await session.request("GET", f"/api/v1/namespaces/{namespace}/secrets/a")
        assert caught.value.status == 403
    finally:
        await session.close()
