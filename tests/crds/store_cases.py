"""What a VoiceKeyStore may not say: one change, one message."""

from __future__ import annotations

from typing import Final

from tests.crds.objects import AUTHS, GONE
from tests.crds.refusals import Case

_ADDRESS = "write https://HOST or https://HOST:PORT with nothing after it, like https://vault.example.com:8200"
_PREFIX = (
    "write whole path segments below the mount, like voice/production: no '/' at either end, no empty, '.' or '..' "
    "segment, no wildcard"
)
_MALFORMED_PATHS: Final = (
    *("", "/a", "a/", "a//b", "..", "a/../b", "./a", "a b", "a/*", "a%2fb", "a?b", "a#b", "a\\b"),
    *("a\u00a0b", "a\u200bb"),  # a no-break and a zero width space
)
_SELECTOR = "spec.rules[0].namespaceSelector"
_INTERVAL = (
    "write a duration of 5s or more in whole numbers with d, h, m or s, the largest first, like 30s, or leave it out "
    "to follow readsPerSecond"
)
_LABELS = (
    "write labels as Kubernetes takes them, like voicekeys-env: production, each name and value of at most 63 letters, "
    "digits, '-', '_' and '.'"
)

_VAULT: Final = [
    *(
        Case(f"the address {address!r}", {"spec.vault.address": address}, "spec.vault.address", _ADDRESS)
        for address in (
            "",
            "vault.example.com:8200",
            "https://",
            "https://vault.example.com/",
            "https://vault.example.com/v1",
            "https://user:word@vault.example.com",
            "https://vault.example.com?x=1",
            "https://vault.example.com#x",
            "https://vault example.com",
            "https://vault.example.com:port",
            "HTTPS://vault.example.com",
            "ftp://vault.example.com",
            "https://[::1",
            "unix:///run/vault.sock",
        )
    ),
    Case(
        "http:// without saying so",
        {"spec.vault.address": "http://vault.vault:8200"},
        "spec.vault.address",
        "write https://, or set insecure: true to say that keys may cross the network in the clear",
    ),
    Case(
        "two sources of the CA",
        {"spec.vault.caConfigMapRef": {"name": "vault-ca"}},
        "spec.vault.caConfigMapRef",
        "keep one of caBundle and caConfigMapRef and leave the other out",
    ),
    *(
        Case(
            f"the CA {text!r}",
            {"spec.vault.caBundle": text},
            "spec.vault.caBundle",
            "paste PEM text here, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        )
        for text in ("", "/etc/ssl/ca.crt", "LS0tLS1CRUdJTg==")
    ),
    Case(
        "a CA with its private key",
        {"spec.vault.caBundle": "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n"},
        "spec.vault.caBundle",
        "leave the private key out, and replace it, since it was sent here: only certificates belong in caBundle",
    ),
    Case(
        "a ConfigMap's name in capitals",
        {"spec.vault.caBundle": GONE, "spec.vault.caConfigMapRef": {"name": "CA"}},
        "spec.vault.caConfigMapRef.name",
        "write the name of a ConfigMap of the operator's namespace, like vault-ca",
    ),
    Case(
        "a ConfigMap's key with a slash",
        {"spec.vault.caBundle": GONE, "spec.vault.caConfigMapRef": {"name": "ca", "key": "tls/ca.crt"}},
        "spec.vault.caConfigMapRef.key",
        "write a key of the ConfigMap, like ca.crt",
    ),
    *(
        Case(
            f"the Vault namespace {text!r}",
            {"spec.vault.namespace": text},
            "spec.vault.namespace",
            "write the Vault namespace with no '/' at either end, like admin/voice, or leave it out",
        )
        for text in _MALFORMED_PATHS
    ),
    *(
        Case(
            f"the mount {text!r}",
            {"spec.vault.mount": text},
            "spec.vault.mount",
            "write the mount of the KV v2 engine with no '/' at either end, like secret or kv/voice",
        )
        for text in _MALFORMED_PATHS
    ),
    Case(
        "a timeout of zero",
        {"spec.vault.timeout": "0s"},
        "spec.vault.timeout",
        "write a duration above zero in whole numbers with d, h, m or s, the largest first, like 10s",
    ),
]

_AUTH: Final = [
    Case("no auth method", {"spec.auth": {}}, "spec.auth", "set exactly one of kubernetes, jwt, appRole and token"),
    *(
        Case(
            f"{method} beside kubernetes",
            {f"spec.auth.{method}": AUTHS[method]},
            "spec.auth",
            "set exactly one of kubernetes, jwt, appRole and token",
        )
        for method in ("jwt", "appRole", "token")
    ),
    *(
        Case(
            f"the {method} mount {text!r}",
            {"spec.auth": {method: AUTHS[method] | {"mountPath": text}}},
            f"spec.auth.{method}.mountPath",
            f"write the mount of the auth method with no '/' at either end, like {method.lower()}",
        )
        for method in ("kubernetes", "jwt", "appRole")
        for text in _MALFORMED_PATHS
    ),
    *(
        Case(
            f"{method} with an empty {name}",
            {"spec.auth": {method: AUTHS[method] | {name: ""}}},
            f"spec.auth.{method}.{name}",
            f"spec.auth.{method}.{name} in body should be at least 1 chars long",
        )
        for method, name in (
            ("kubernetes", "role"),
            ("kubernetes", "audience"),
            ("jwt", "role"),
            ("jwt", "audience"),
            ("appRole", "roleId"),
        )
    ),
    *(
        Case(
            f"{method} with a Secret's name in capitals",
            {"spec.auth": {method: AUTHS[method] | {"secretRef": {"name": "Vault"}}}},
            f"spec.auth.{method}.secretRef.name",
            f"write the name of a Secret of the operator's namespace, like vault-{method.lower()}",
        )
        for method in ("appRole", "token")
    ),
    *(
        Case(
            f"{method} with a Secret's key with a space",
            {"spec.auth": {method: AUTHS[method] | {"secretRef": {"name": "vault", "key": "a b"}}}},
            f"spec.auth.{method}.secretRef.key",
            f"write a key of the Secret, like {key}",
        )
        for method, key in (("appRole", "secret-id"), ("token", "token"))
    ),
]

_POLL: Final = [
    *(
        Case(f"the poll interval {text!r}", {"spec.poll.interval": text}, "spec.poll.interval", _INTERVAL)
        for text in ("4s", "0m4s", "0h", "", "30", "1m 30s")
    ),
    Case(
        "no read a second",
        {"spec.poll.readsPerSecond": 0},
        "spec.poll.readsPerSecond",
        "spec.poll.readsPerSecond in body should be greater than or equal to 1",
    ),
    Case(
        "1001 reads a second",
        {"spec.poll.readsPerSecond": 1001},
        "spec.poll.readsPerSecond",
        "spec.poll.readsPerSecond in body should be less than or equal to 1000",
    ),
]

_ROLLOUT: Final = [
    Case(
        "no workload at a time",
        {"spec.rollout.maxWorkloads": 0},
        "spec.rollout.maxWorkloads",
        "spec.rollout.maxWorkloads in body should be greater than or equal to 1",
    ),
    Case(
        "more workloads than any cluster has",
        {"spec.rollout.maxWorkloads": 10001},
        "spec.rollout.maxWorkloads",
        "spec.rollout.maxWorkloads in body should be less than or equal to 10000",
    ),
]

_RULES: Final = [
    Case("no rule", {"spec.rules": []}, "spec.rules", "spec.rules in body should have at least 1 items"),
    Case(
        "a rule's name with a space",
        {"spec.rules[0].name": "production voice"},
        "spec.rules[0].name",
        "write the rule's name in lower-case letters, digits and '-', like production-voice",
    ),
    Case(
        "an environment in capitals",
        {"spec.rules[0].environment": "PRODUCTION"},
        "spec.rules[0].environment",
        "write the environment's name in lower-case letters, digits and '-', like production",
    ),
    Case(
        "a rule without a path prefix",
        {"spec.rules[0].pathPrefixes": []},
        "spec.rules[0].pathPrefixes",
        "spec.rules[0].pathPrefixes in body should have at least 1 items",
    ),
    *(
        Case(
            f"the path prefix {text!r}",
            {"spec.rules[0].pathPrefixes": ["voice", text]},
            "spec.rules[0].pathPrefixes[1]",
            _PREFIX,
        )
        for text in _MALFORMED_PATHS
    ),
    *(
        Case(
            f"the selected label {name}={value}",
            {f"{_SELECTOR}.matchLabels": {name: value}},
            f"{_SELECTOR}.matchLabels",
            _LABELS,
        )
        for name, value in (("a b", "x"), ("a/b/c", "x"), ("team", "voice agents"))
    ),
    Case(
        "an expression over a malformed label",
        {f"{_SELECTOR}.matchExpressions[0].key": "a b"},
        f"{_SELECTOR}.matchExpressions[0].key",
        "write the name of a label, like kubernetes.io/metadata.name",
    ),
    Case(
        "an unknown operator",
        {f"{_SELECTOR}.matchExpressions[0].operator": "Gt"},
        f"{_SELECTOR}.matchExpressions[0].operator",
        'Unsupported value: "Gt": supported values: "In", "NotIn", "Exists", "DoesNotExist"',
    ),
    *(
        Case(
            f"{operator} {why}",
            {f"{_SELECTOR}.matchExpressions[0].operator": operator, f"{_SELECTOR}.matchExpressions[0].values": values},
            f"{_SELECTOR}.matchExpressions[0].values",
            "add values: In and NotIn compare with at least one",
        )
        for operator in ("In", "NotIn")
        for why, values in (("without values", GONE), ("with an empty list", []))
    ),
    *(
        Case(
            f"{operator} with values",
            {f"{_SELECTOR}.matchExpressions[0].operator": operator},
            f"{_SELECTOR}.matchExpressions[0].values",
            "leave values out: Exists and DoesNotExist look at the label's name alone",
        )
        for operator in ("Exists", "DoesNotExist")
    ),
]

CASES: Final = [*_VAULT, *_AUTH, *_POLL, *_ROLLOUT, *_RULES]

_RULE: Final = {"namespaceSelector": {}, "pathPrefixes": ["voice"], "environment": "production"}

ACCEPTED: Final = {
    "http:// that is called insecure": {"spec.vault.address": "http://127.0.0.1:8200", "spec.vault.insecure": True},
    "an IPv6 address": {"spec.vault.address": "https://[2001:db8::1]:8200"},
    "a host alone": {"spec.vault.address": "https://vault"},
    "no CA": {"spec.vault.caBundle": GONE},
    "the CA in a ConfigMap": {"spec.vault.caBundle": GONE, "spec.vault.caConfigMapRef": {"name": "vault-ca"}},
    "no Vault namespace": {"spec.vault.namespace": GONE},
    "a mount of two segments": {"spec.vault.mount": "kv/voice.eu"},
    **{f"auth by {method}": {"spec.auth": {method: use}} for method, use in AUTHS.items()},
    "the shortest interval": {"spec.poll.interval": "5s"},
    "an interval in days": {"spec.poll.interval": "1d"},
    "interval by budget": {"spec.poll": {}},
    "a rule for every namespace": {"spec.rules[0].namespaceSelector": {}},
    "an expression without values": {
        "spec.rules[0].namespaceSelector.matchExpressions[0]": {"key": "voice", "operator": "Exists"}
    },
    "a prefix with dots in it": {"spec.rules[0].pathPrefixes": ["voice/.a/b..c"]},
    "64 rules": {"spec.rules": [{"name": f"r{n}"} | _RULE for n in range(64)]},
    "32 long prefixes in each of 16 rules": {
        "spec.rules": [
            {"name": f"r{n}"} | _RULE | {"pathPrefixes": [f"{m:02}{'a/b' * 100}" for m in range(32)]} for n in range(16)
        ]
    },
}
"""Changes to a valid object that leave it valid: the edges of the rules."""
