"""Tenant B tries to read tenant A's key in every way that the API offers, and is refused, each time in words.

Who refuses is told apart: the API server's schema (nothing is stored), the store's rules (no login is made),
Vault's own policy (the rules are wide open on purpose), and the admission policies that hold the operator.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.lab.http import ApiError
from tests.reconcilers import objects
from tests.reconcilers.harness import HOME, NOTIFY_KEY, Operator
from tests.reconcilers.world import World, condition_of, message_of
from tests.security import material
from tests.security.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

A, B = "tenant-a", "tenant-b"
READ_BY_B = "ServiceAccount tenant-b/voicekeys-reader"

pytestmark = pytest.mark.simulated_nodes


class Attempt(NamedTuple):
    """What B binds, and what it is told.

    Args:
        says: the attempt in words.
        spec: laid over a binding of B that reads A's path from the store whose rules are wide open.
        condition: the condition that tells.
        reason: its reason.
        words: a part of its message.
    """

    says: str
    spec: dict[str, Any]
    condition: str
    reason: str
    words: str


def path(text: str, **source: Any) -> dict[str, Any]:
    """A binding's spec with another path."""
    return {"source": {"path": text, **source}}


def from_store(name: str, **more: Any) -> dict[str, Any]:
    """A binding's spec with another store."""
    return {"source": {"storeRef": {"name": name}}, **more}


DENIED = "ReadDenied"
BY_VAULT = f"does not let {READ_BY_B} read secret/{A}/key"
ATTEMPTS = {
    # Vault's policy refuses, whatever the store's rules say.
    "as-it-is": Attempt("A's path, plainly", {}, "SourceReachable", DENIED, BY_VAULT),
    "old": Attempt("an old version of it", path(f"{A}/key", version=1), "SourceReachable", DENIED, BY_VAULT),
    "deeper": Attempt("a segment after it", path(f"{A}/key/x"), "SourceReachable", DENIED, f"secret/{A}/key/x"),
    "data": Attempt("the API's own prefix", path(f"data/{A}/key"), "SourceReachable", DENIED, f"secret/data/{A}/key"),
    "metadata": Attempt("metadata", path(f"metadata/{A}/key"), "SourceReachable", DENIED, f"secret/metadata/{A}/key"),
    "sibling": Attempt(
        "a longer name", path(f"{B}-and-more/key"), "SourceReachable", DENIED, f"secret/{B}-and-more/key"
    ),
    "glob": Attempt("Vault's own wildcard", path("+/key"), "SourceReachable", DENIED, "secret/+/key"),
    "case": Attempt("another case", path(f"{A.upper()}/key"), "SourceReachable", DENIED, f"secret/{A.upper()}/key"),
    "wide": Attempt(
        "a full-width slash", path(f"{B}\uff0f..\uff0f{A}\uff0fkey"), "SourceReachable", DENIED, "read secret/"
    ),
    "through-own": Attempt(
        "its own path, then A's", path(f"{B}/{A}/key"), "SourceReachable", "PathNotFound", f"{B}/{A}/key"
    ),
    "other-account": Attempt(
        "another account of its own",
        path(f"{A}/key", serviceAccountName="admin"),
        "SourceReachable",
        "CredentialUnavailable",
        "Grant it `create` on serviceaccounts/token of that name by a Role in namespace tenant-b",
    ),
    "by-jwt": Attempt("another login", from_store("open-jwt"), "SourceReachable", DENIED, BY_VAULT),
    # The store's rules refuse, before any login: also where the operator lends its own identity, which may read all.
    "strict": Attempt(
        "a store of A's",
        from_store("strict"),
        "SecretSynced",
        "NamespaceNotAllowed",
        f"rule only-a for environment production cannot be used by namespace {B}",
    ),
    "lent": Attempt(
        "a lent identity", from_store("lent"), "SecretSynced", "PathNotAllowed", f"read below {B}, not {A}/key"
    ),
    "lent-prefix": Attempt(
        "a lent identity and a sibling's name",
        from_store("lent", source={"storeRef": {"name": "lent"}, "path": f"{B}-and-more/key"}),
        "SecretSynced",
        "PathNotAllowed",
        f"read below {B}, not {B}-and-more/key",
    ),
    "lent-wide": Attempt(
        "a lent identity and a full-width slash",
        from_store("lent", source={"storeRef": {"name": "lent"}, "path": f"{B}/..\uff0f{A}\uff0fkey"}),
        "SourceReachable",
        "PathNotFound",
        "no key",
    ),
    "lying": Attempt(
        "A's environment",
        from_store("lent", environment="of-a"),
        "SecretSynced",
        "NamespaceNotAllowed",
        f"rule own-a for environment of-a cannot be used by namespace {B}",
    ),
    "made-up": Attempt(
        "an environment of nobody's",
        {"environment": "any"},
        "SecretSynced",
        "EnvironmentNotAllowed",
        "no rule for environment any",
    ),
    "no-store": Attempt(
        "a store that is none", from_store("mine"), "SecretSynced", "StoreNotFound", "VoiceKeyStore mine"
    ),
    "eager": Attempt("sync-now again and again", {}, "SourceReachable", DENIED, BY_VAULT),
    "same-secret": Attempt(
        "A's Secret's name", {"target": {"secretName": "voice"}}, "SourceReachable", DENIED, BY_VAULT
    ),
    "owning": Attempt(
        "deletion by owner", {"target": {"deletionPolicy": "Delete"}}, "SourceReachable", DENIED, BY_VAULT
    ),
    # By the same name as A's own binding: the two share nothing.
    "voice": Attempt("A's binding's name", {}, "SourceReachable", DENIED, BY_VAULT),
}
REFUSED = {
    "dots": (path(f"{B}/../{A}/key"), "'..'"),
    "dot": (path(f"./{A}/key"), "'..'"),
    "double-slash": (path(f"{B}//{A}"), "'..'"),
    "leading-slash": (path(f"/{A}/key"), "'..'"),
    "encoded-dots": (path(f"{B}/%2e%2e/{A}/key"), "spec.source.path"),
    "encoded-slash": (path(f"{B}%2f..%2f{A}/key"), "spec.source.path"),
    "backslash": (path(f"{B}\\..\\{A}"), "spec.source.path"),
    "query": (path(f"{A}/key?version=1"), "spec.source.path"),
    "fragment": (path(f"{A}/key#"), "spec.source.path"),
    "star": (path(f"{A}/*"), "spec.source.path"),
    "newline": (path(f"{B}/x\n{A}/key"), "spec.source.path"),
    "account-of-a": (path(f"{A}/key", serviceAccountName=f"{A}/voicekeys-reader"), "ServiceAccount of this namespace"),
    "account-by-path": (
        path(f"{A}/key", serviceAccountName=f"../../{A}/serviceaccounts/voicekeys-reader"),
        "ServiceAccount of this namespace",
    ),
    "workload-of-a": ({"agents": [objects.agent(f"{A}/agent")]}, "name of a workload of this namespace"),
    "secret-of-a": ({"target": {"secretName": f"{A}/voice"}}, "spec.target.secretName"),
    "namespace-field": ({"source": {"namespace": A}}, "source.namespace"),
    "our-label": ({"target": {"labels": {"voicekeys.dev/binding": "voice"}}}, "spec.target.labels"),
    "manager-label": ({"target": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, "spec.target.labels"),
    "our-annotation": ({"target": {"annotations": {"voicekeys.dev/digest": "x"}}}, "spec.target.annotations"),
    "token-secret": ({"target": {"type": "kubernetes.io/service-account-token"}}, "spec.target.type"),
}


class Tenants:
    """Both tenants, after A has its key and B has tried everything."""

    def __init__(self, lab: Lab, approle: tuple[str, str]) -> None:
        self.lab = lab
        self.role_id, secret_id = approle  # it reads everything: only the store's rules keep tenants apart
        self.operator = Operator(lab, "tenants", account=f"{HOME}/voicekeys-operator").start()
        self.key = f"a-only-{secrets.token_hex(24)}"
        lab.enable_jwt()
        credential = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lent", "namespace": HOME}}
        lab.apply({**credential, "stringData": {"secret-id": secret_id}})
        self.a = World(lab, self.operator, name=A, store=False)
        self.b = World(lab, self.operator, name=B, store=False)
        self._stores()
        self.b.make_reader("admin")
        for prefix in (A, f"{B}-and-more"):
            lab.put_key(f"{prefix}/key", api_key=self.key)
        self.b.put(api_key="of B")
        self.a.store_name = self.b.store_name = "open"
        self.a.bind()
        self.a.deploy(replicas=1)
        self.a.ready()
        self.before = self._of_a()
        for name, attempt in ATTEMPTS.items():
            spec = {"source": {"path": f"{A}/key", "storeRef": {"name": "open"}}}
            made = objects.binding(B, name, f"{A}/key", "open", **objects.merged(spec, attempt.spec))
            lab.apply(made)
        for number in range(5):
            self.b.sync_now("eager", str(number))
        self._claim()
        self.b.bind("own")
        self.b.ready("own")

    def _claim(self) -> None:
        """B makes a Secret that names A's binding as its owner: owner references hold within a namespace only."""
        uid = self.a.binding()["metadata"]["uid"]
        owner = {"apiVersion": objects.API, "kind": "VoiceKeyBinding", "name": "voice", "uid": uid}
        meta = {"name": "claimed", "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}]}
        self.lab.api("POST", f"/api/v1/namespaces/{B}/secrets", {"metadata": meta})

    def _stores(self) -> None:
        anyone = {
            "name": "anyone",
            "namespaceSelector": {},
            "pathPrefixes": [
                A,
                A.upper(),
                B,
                f"{B}-and-more",
                "data",
                "metadata",
                "+",
                f"{B}\uff0f..\uff0f{A}\uff0fkey",
            ],
            "environment": "production",
        }
        lent = {"kubernetes": None, "appRole": {"roleId": self.role_id, "secretRef": {"name": "lent"}}}
        own = [objects.rule("own-b", B, B), objects.rule("own-a", A, A, "of-a")]
        self.a.store("open", [anyone])
        self.a.store("open-jwt", [anyone], auth={"kubernetes": None, "jwt": {"role": "voicekeys"}})
        self.a.store("strict", [objects.rule("only-a", A, A)])
        self.a.store("lent", own, auth=lent)

    def _of_a(self) -> dict[str, str]:
        """What must not change for A: its Secret and its workload."""
        secret, workload = self.a.get("Secret", "voice"), self.a.get("Deployment", "agent")
        assert secret
        assert workload
        return {"secret": secret["metadata"]["resourceVersion"], "workload": str(workload["metadata"]["generation"])}

    def close(self) -> None:
        """Take all of it away."""
        self.operator.stop()
        for world in (self.a, self.b):
            world.close()
        for name in ("open-jwt", "strict", "lent"):
            self.lab.api("DELETE", f"/apis/{objects.API}/voicekeystores/{name}")


@pytest.fixture(scope="module")
def tenants(cluster: Lab, approle: tuple[str, str]) -> Iterator[Tenants]:
    """A and B."""
    made = Tenants(cluster, approle)
    yield made
    made.close()


@pytest.mark.parametrize("name", ATTEMPTS)
def test_refused_in_words(tenants: Tenants, name: str) -> None:
    attempt = ATTEMPTS[name]

    found = tenants.b.until(attempt.condition, "False", attempt.reason, name=name)

    assert attempt.words in message_of(found, attempt.condition)
    assert (condition_of(found, "Ready") or {})["status"] == "False"
    assert tenants.b.get("Secret", found["spec"]["target"].get("secretName") or name) is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_api_server(tenants: Tenants, name: str) -> None:
    spec, words = REFUSED[name]
    made = objects.binding(B, name, f"{A}/key", "open", **spec)

    with pytest.raises(ApiError) as refusal:
        tenants.lab.api("POST", f"/apis/{objects.API}/namespaces/{B}/voicekeybindings?fieldValidation=Strict", made)

    assert refusal.value.status in {400, 422}
    assert words in str(refusal.value)


def test_the_rules_refuse_before_any_login(tenants: Tenants) -> None:
    """A store of which B may use nothing has never seen a login of B's."""
    tenants.b.until("SecretSynced", "False", "NamespaceNotAllowed", name="strict")

    def unused() -> bool:
        store = tenants.a.store_object("strict")
        said = [condition_of(store, kind) for kind in ("LoggedIn", "Reachable")]
        return store["status"].get("bindings") == 1 and all(one and one["status"] == "Unknown" for one in said)

    tenants.a.wait("the store says that nobody logged in or read", unused)
    assert (condition_of(tenants.a.store_object("open"), "LoggedIn") or {})["status"] != "Unknown"


def test_a_workload_of_as_name_is_looked_for_in_bs_namespace(tenants: Tenants) -> None:
    tenants.b.bind("reaching", "key", agents=[objects.agent("agent")])

    found = tenants.b.until("AgentsCurrent", "False", "WorkloadMissing", name="reaching")

    assert "Deployment tenant-b/agent does not exist" in message_of(found, "AgentsCurrent")


def test_bs_own_token_is_refused_by_vault_itself(tenants: Tenants) -> None:
    """Without the operator at all: what B's ServiceAccount may do at Vault."""
    token = tenants.lab.login(B)
    for method, where in (("GET", f"data/{A}/key"), ("GET", f"metadata/{A}/key"), ("GET", f"metadata/{A}?list=true")):
        with pytest.raises(ApiError) as refusal:
            tenants.lab.vault(method, f"secret/{where}", token=token)
        assert refusal.value.status == 403
    assert tenants.lab.vault("GET", f"secret/data/{B}/key", token=token)["data"]["data"] == {"api_key": "of B"}


def test_labels_of_ours_by_bs_hand_move_nothing(tenants: Tenants) -> None:
    """B labels a Secret as if another binding owned it, and makes one that looks like ours: both stay B's."""
    before = tenants.b.data("own")
    own = tenants.b.get("Secret", "own") or {}
    tenants.b.patch(own, {"metadata": {"labels": {"voicekeys.dev/binding": "voice"}}})
    looks = {"app.kubernetes.io/managed-by": "voicekeys", "voicekeys.dev/binding": "voice"}
    meta = {"name": "as-it-is", "namespace": B, "labels": looks}
    tenants.lab.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"api_key": "of B's hand"}}
    )

    def healed() -> bool:
        labels = (tenants.b.get("Secret", "own") or {})["metadata"]["labels"]
        return bool(labels["voicekeys.dev/binding"] == "own")

    tenants.b.wait("the label is put right", healed)
    assert tenants.b.data("own") == before
    assert tenants.b.data("as-it-is") == {"api_key": b"of B's hand"}
    tenants.b.until("SourceReachable", "False", DENIED, name="as-it-is")
    tenants.b.delete(tenants.b.get("Secret", "as-it-is") or {})


def test_a_secret_of_bs_that_is_not_handed_over_is_not_taken(tenants: Tenants) -> None:
    """`adopt: true` alone would let who may write bindings overwrite Secrets that they may not write."""
    meta = {"name": "precious", "namespace": B}
    tenants.lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"k": "mine"}})
    tenants.b.bind("taking", "key", target={"secretName": "precious", "adopt": True})

    found = tenants.b.until("SecretSynced", "False", "SecretForbidden", name="taking")

    assert "label it voicekeys.dev/adopt=taking" in message_of(found, "SecretSynced")
    assert tenants.b.data("precious") == {"k": b"mine"}


def test_notifying_needs_the_key(tenants: Tenants) -> None:
    code, text = tenants.operator.notify("open", f"{A}/key", key=NOTIFY_KEY + b"?")

    assert code == 401
    assert A not in text


def test_as_value_is_nowhere_in_bs_namespace(tenants: Tenants) -> None:
    """After all that: every object of B's namespace, Secrets' data included, decoded too."""
    found = Evidence()
    for kind in ("secrets", "configmaps", "events", "pods"):
        found.add(kind, json.dumps(tenants.lab.api("GET", f"/api/v1/namespaces/{B}/{kind}")))
    found.add("bindings", json.dumps(tenants.b.bindings()))
    for secret in tenants.lab.api("GET", f"/api/v1/namespaces/{B}/secrets")["items"]:
        for value in (secret.get("data") or {}).values():
            found.add("decoded", base64.b64decode(value).decode(errors="replace"))

    assert found.leaks(material.pieces("A's key", tenants.key.encode())) == []
    assert "b2YgQg==" in found.channels["secrets"]  # its own is there: the search looks at the right place


def test_a_never_noticed(tenants: Tenants) -> None:
    assert tenants._of_a() == tenants.before
    assert tenants.a.data("voice") == {"api_key": tenants.key.encode()}
    assert (condition_of(tenants.a.binding("voice"), "Ready") or {})["status"] == "True"
    assert [one["reason"] for one in tenants.a.events(name="voice") if one["type"] == "Warning"] == []
