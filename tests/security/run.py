"""One long run of the real operator at DEBUG, its libraries too, in which everything goes wrong that can tell a key.

It stands between two proxies, to Vault and to the API server, whose answers repeat key material (see `echoes`). What it
leaves behind is `Run.evidence`; what must not be in there, `Run.secrets`.
"""

from __future__ import annotations

import base64
import secrets
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.faults.proxy import Proxy
from tests.lab import kubeconfig
from tests.lab.processes import eventually
from tests.reconcilers import objects
from tests.reconcilers.harness import HOME, NOTIFY_KEY, Operator
from tests.reconcilers.world import World
from tests.security import echoes, material
from tests.security.evidence import Evidence
from voicekeys.policies.notify import SIGNATURE_HEADER, sign

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

NAMESPACE = "canary"

# Bindings whose key Vault's proxy tells in its answer, and the reason that the operator must give.
VAULT_TELLS = {
    "error-403": (echoes.vault_error(403), "ReadDenied"),
    "error-404": (echoes.vault_error(404), "PathNotFound"),
    "error-400": (echoes.vault_error(400), "VaultRefused"),
    "error-418": (echoes.vault_error(418), "GarbledAnswer"),
    "redirect": (echoes.vault_error(307), "VaultRedirect"),
    "cut-json": (echoes.vault_cut_json(), "GarbledAnswer"),
    "cut-json-404": (echoes.vault_cut_json(404), "PathNotFound"),
    "not-http": (echoes.not_http, "GarbledAnswer"),
    "as-version": (echoes.vault_misplaced("version"), "GarbledAnswer"),
    "as-time": (echoes.vault_misplaced("created_time"), "GarbledAnswer"),
    "as-data": (echoes.vault_misplaced("data"), "GarbledAnswer"),
}
# Bindings whose Secret the API server's proxy refuses in words that tell the key, and the reason.
API_TELLS = {
    "api-422": (echoes.api_refuses(422), "SecretInvalid"),
    "api-400": (echoes.api_refuses(400), "SecretInvalid"),
    "api-500": (echoes.api_refuses(500), "InternalServerError"),
    "api-policy": (
        echoes.api_refuses(403, "ValidatingAdmissionPolicy 'strict' with binding 'b' denied request: {}"),
        "SecretForbidden",
    ),
    "api-webhook": (
        echoes.api_refuses(400, 'admission webhook "hook.example" denied the request: {}'),
        "SecretForbidden",
    ),
    "api-cut-json": (echoes.api_cut_json, "ApiGarbage"),
}
# Bindings whose key cannot be made a Secret of.
UNUSABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "not-base64": ({"api_key": "no base64: {}"}, {"data": {"K": "api_key"}, "base64Decode": ["K"]}, "InvalidBase64"),
    "missing": ({"other": "{}"}, {"data": {"K": "api_key"}}, "FieldMissing"),
    "oversize": ({"big": "{}"}, {"data": {f"K{number}": "big" for number in range(9)}}, "SecretTooLarge"),
    "empty": ({"api_key": "", "other": "{}"}, {}, "FieldEmpty"),
    "bad-name": ({"no name/": "{}"}, {}, "InvalidSecretKey"),
    "bad-type": ({"api_key": "{}"}, {"type": "kubernetes.io/dockerconfigjson"}, "SecretInvalid"),
    "bad-json": (
        {"json": "{}"},
        {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "json"}},
        "SecretInvalid",
    ),
}


class Run:
    """The run, from start to end; `go` does it."""

    def __init__(self, lab: Lab, folder: Path, approle: tuple[str, str]) -> None:
        self.lab = lab
        self.approle = approle
        self.folder = folder
        self.evidence = Evidence()
        self.secrets: dict[str, bytes] = {}
        self.seen: dict[str, str] = {}
        self.vault = Proxy(lab.vault_addr)
        self.api = Proxy(lab.api_url, lab.ca_file)
        self.world: World
        self.operator: Operator

    def go(self) -> None:
        """Do all of it."""
        with self.vault, self.api:
            self._start()
            self._apply()
            self._outcomes()
            self._change_and_heal()
            self._notify()
            self._outage()
            self.evidence.take_process(self.operator.pid, self.operator.url, self.folder)
            self._crash_by_an_exception()
            self._crash_by_a_signal()
        self.evidence.take_objects(self.lab)
        self.evidence.add("log", self.lab.logs(self.operator.name))
        self._know_the_operators_own()
        self.world.close()

    # ---- keys

    def key(self, name: str, fields: dict[str, Any]) -> int:
        """Put a key at the path of a binding, and remember what to look for."""
        self.secrets |= material.needles(name, fields)
        return self.world.put(name, **fields)

    def random(self, name: str, length: int = 40) -> str:
        """Return a value that is nowhere else."""
        return f"{name.replace('-', '')}{secrets.token_hex(length // 2)}"

    # ---- the steps

    def _start(self) -> None:
        file = self.lab.dir / "canary.kubeconfig"
        token = self.lab.cluster.token_for(HOME, "voicekeys-operator")
        self.secrets["the operator's token"] = token.encode()
        kubeconfig.write(file, api_url=self.api.url, ca_file=self.lab.ca_file, token=token)
        self.operator = Operator(self.lab, "canary", kubeconfig=file, log_libraries=True, log_level="DEBUG")
        self.operator.env |= {"TMPDIR": str(self.folder), "PYTHONFAULTHANDLER": "1", "PYTHONASYNCIODEBUG": "1"}
        self.operator.start()

    def _apply(self) -> None:
        self.world = World(self.lab, self.operator, name=NAMESPACE, store=False)
        self._stores()
        for name, fields in material.shapes().items():
            self.key(name, fields)
            target = {"data": {"KEY": "api_key"}, "base64Decode": ["KEY"]} if name == "base64" else {}
            self.world.bind(name, name, target=target)
        for name, (action, _) in (VAULT_TELLS | API_TELLS).items():
            self.key(name, {"api_key": self.random(name)})
            if name in VAULT_TELLS:
                self.vault.add(action, "GET", f"/{NAMESPACE}/{name}$")
            else:
                self.api.add(action, "PATCH", f"/secrets/{name}[?]")
            self.world.bind(name, name)
        for name, (fields, target, _) in UNUSABLE.items():
            value = self.random(name, 400_000 if name == "oversize" else 40)
            made = {field: text.replace("{}", value) for field, text in fields.items()}
            self.secrets |= material.pieces(name, value[:64].encode())
            self.world.put(name, **made)
            self.world.bind(name, name, target=target)
        self._agents()
        self._others()

    def _stores(self) -> None:
        """The store of most bindings goes through the proxy; others have other logins, or cannot log in."""
        rules = [objects.rule("own", NAMESPACE, NAMESPACE), objects.rule("too", NAMESPACE, NAMESPACE, "staging")]
        rules += [objects.rule("foreign", NAMESPACE, "foreign")]
        self.world.store(rules=rules, vault={"address": self.vault.url})
        wrong_ca = {"address": self.lab.vault_addr.replace("http:", "https:"), "insecure": None}
        self.world.store("tls", rules, vault=wrong_ca | {"caBundle": self.lab.ca_file.read_text()})
        static, role_id, secret_id = self.random("static-token"), *self.approle
        self.lab.vault("POST", "auth/token/create", {"id": static, "policies": ["voicekeys-approle"], "ttl": "1h"})
        credentials = {"static": static, "secret-id": secret_id}
        self.secrets |= {name: value.encode() for name, value in credentials.items()}
        meta = {"name": "canary-credentials", "namespace": HOME}
        self.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": credentials})
        reference = {"name": meta["name"]}
        logins: dict[str, dict[str, Any]] = {
            "static": {"token": {"secretRef": reference | {"key": "static"}}},
            "approle": {"appRole": {"roleId": role_id, "secretRef": reference | {"key": "secret-id"}}},
            "repeats": {"jwt": {"mountPath": "repeats", "role": "voicekeys"}},
            "garbled": {"jwt": {"mountPath": "garbled", "role": "voicekeys"}},
        }
        for name, login in logins.items():
            auth = {"kubernetes": None, **login}
            self.world.store(f"canary-{name}", rules, vault={"address": self.vault.url}, auth=auth)
        self.vault.add(echoes.login_repeats, "POST", "auth/repeats/login")
        self.vault.add(echoes.login_garbled, "POST", "auth/garbled/login")

    def _agents(self) -> None:
        """One that rolls out, one whose pods refuse the new key, one with the key in its manifest."""
        for name in ("rolling", "refused", "literal"):
            self.key(name, {"api_key": self.random(name)})
            self.world.bind(name, name, agents=[objects.agent(name)], rollout={"timeout": "3s"})
        literal = self.secrets["literal.api_key"].decode()
        env = {"containers": [{"name": "agent", "image": "a", "env": [{"name": "K", "value": literal}]}]}
        self.world.deploy("literal", wait=False, replicas=1, secrets=["literal"], pod=env)
        for name in ("rolling", "refused"):
            self.world.deploy(name, wait=False, replicas=1, secrets=[name], drain="100ms")

    def _others(self) -> None:
        for name in ("tls", "canary-static", "canary-approle", "canary-repeats", "canary-garbled"):
            self.key(f"by-{name}", {"api_key": self.random(name)})
            self.world.bind(f"by-{name}", f"by-{name}", source={"storeRef": {"name": name}})
        self.secrets |= material.pieces("foreign", (foreign := self.random("foreign")).encode())
        self.lab.put_key("foreign/key", api_key=foreign)
        self.world.bind("denied", "x", source={"path": "foreign/key"})
        self.world.bind("shared", "plain", environment="staging")
        self.key("adopted", {"api_key": self.random("adopted")})
        old = self.random("before-adoption")
        self.secrets |= material.pieces("before adoption", old.encode())
        meta = {"name": "adopted", "namespace": NAMESPACE, "labels": {"voicekeys.dev/adopt": "adopted"}}
        self.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"api_key": old}})
        self.world.bind("adopted", "adopted", target={"adopt": True})

    def _outcomes(self) -> None:
        """Wait until each binding has said what it should."""
        for name in (*material.shapes(), "rolling", "refused", "adopted", "by-canary-static", "by-canary-approle"):
            self.world.until("SecretSynced", "True", name=name)
        for name, (_, reason) in VAULT_TELLS.items():
            self._says(name, "SourceReachable", reason)
        for name, reason in {"denied": "ReadDenied", "by-tls": "TLSFailed"}.items():
            self._says(name, "SourceReachable", reason)
        for name, reason in {"by-canary-repeats": "LoginDenied", "by-canary-garbled": "GarbledAnswer"}.items():
            self._says(name, "SourceReachable", reason)
        for name, (_, reason) in API_TELLS.items():
            self._says(name, "SecretSynced", reason)
        for name, (_, _, reason) in UNUSABLE.items():
            self._says(name, "SecretSynced", reason)
        self.world.until("LiteralKeyInManifest", "True", name="literal")
        self.world.until("SharedAcrossEnvironments", "True", name="shared")

    def _says(self, name: str, condition: str, reason: str) -> None:
        found = self.world.until(condition, "False", reason, name=name)
        said = next(one for one in found["status"]["conditions"] if one["type"] == condition)
        self.seen[name] = said["reason"]

    def _change_and_heal(self) -> None:
        old = self.secrets["plain.api_key"]
        edit = {"data": {"api_key": base64.b64encode(self.random("edit").encode()).decode()}}
        self.world.patch(self.world.get("Secret", "plain") or {}, edit)
        self.world.wait("the edit is put right", lambda: (self.world.data("plain") or {}).get("api_key") == old)
        self.world.delete(self.world.get("Secret", "plain") or {})
        self.world.wait("the Secret is back", lambda: (self.world.data("plain") or {}).get("api_key") == old)
        never = {"spec": {"template": {"metadata": {"annotations": {"lab.voicekeys.dev/ready": "never"}}}}}
        self.world.patch(self.world.get("Deployment", "refused") or {}, {"spec": {"paused": True}})
        for name in ("rolling", "refused"):
            version = self.key(name, {"api_key": self.random(f"{name}-new")})
            self.world.notify(name)
            self.seen[name] = f"version {version}"
        paused = self.world.get("Deployment", "refused") or {}
        self.world.patch(paused, {"spec": {"paused": False, **never["spec"]}})
        self.world.idle("rolling", version=2)
        self.world.until("Stalled", "True", "NewKeyRefused", name="refused")

    def _notify(self) -> None:
        """Bad signatures, replays and garbage, with keys in bodies and headers."""
        value = self.secrets["plain.api_key"].decode()
        body = f'{{"store": "{NAMESPACE}", "path": "{value}"}}'.encode()
        now = int(time.time())
        good = sign(NOTIFY_KEY, now, body)
        for header in (good, good, "", value, f"t={now},v1={value}", sign(b"another key of 16 bytes", now, body)):
            self._post(body, {SIGNATURE_HEADER: header, "Authorization": f"Bearer {value}", "X-Vault-Token": value})
        self._post(value.encode() * 3000, {SIGNATURE_HEADER: good})
        garbage = f"{{{value}".encode()
        self._post(garbage, {SIGNATURE_HEADER: sign(NOTIFY_KEY, now, garbage)})

    def _post(self, body: bytes, headers: dict[str, str]) -> None:
        request = urllib.request.Request(
            f"{self.operator.url}/notify?key={headers[SIGNATURE_HEADER][:9]}", body, headers
        )
        status, text = self.operator._call(request)
        self.seen[f"notify {len(self.seen)}"] = str(status)
        self.evidence.add("/notify", text)

    def _outage(self) -> None:
        """Sealed; a binding that comes meanwhile says so."""
        self.key("late", {"api_key": self.random("late")})
        self.lab.vault.seal()
        self.world.bind("late", "late")
        self._says("late", "SourceReachable", "VaultSealed")
        self.lab.vault.unseal()
        self.world.until("SecretSynced", "True", name="late", seconds=40)

    def _crash_by_an_exception(self) -> None:
        """A list of Secrets whose resourceVersion is a key: reading it as a number fails with the text in its words."""
        value = self.secrets["plain.api_key"].decode()
        meta = {"name": "x", "namespace": NAMESPACE, "uid": "u", "resourceVersion": value}
        self.api.add(echoes.api_lists([{"metadata": meta}]), "GET", "/api/v1/secrets[?]limit")
        gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": value, "message": value}}
        self.api.add(echoes.api_watch(gone), "GET", "/api/v1/secrets[?]watch", times=1)
        self.api.cut_streams("/api/v1/secrets")
        eventually(lambda: not self.operator.running, "the operator to end by an exception", seconds=30)
        self.seen["exception"] = str(self.lab.processes.code(self.operator.name))

    def _crash_by_a_signal(self) -> None:
        """SIGABRT in the midst of work: Python's own dump goes to standard error."""
        self.api.calm()
        self.operator.start()
        self.world.until("SecretSynced", "True", name="plain")
        eventually(lambda: self.operator.metric("voicekeys_binding_ready"), "work again", seconds=20)
        self.lab.processes.signal(self.operator.name, "ABRT")
        eventually(lambda: not self.operator.running, "the operator aborted", seconds=10)
        self.seen["signal"] = str(self.lab.processes.code(self.operator.name))

    def _know_the_operators_own(self) -> None:
        """Keys that the operator made or read for itself, known only afterwards."""
        for name in ("voicekeys-fingerprint-key", "voicekeys-notify-key"):
            data = self.lab.api("GET", f"/api/v1/namespaces/{HOME}/secrets/{name}")["data"]
            self.secrets |= material.pieces(name, base64.b64decode(data["key"]))
