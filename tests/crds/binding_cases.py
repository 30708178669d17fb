"""What a VoiceKeyBinding may not say: one change, one message."""

from __future__ import annotations

from typing import Final

from tests.crds import drain_cases
from tests.crds.objects import GONE
from tests.crds.refusals import Case

HIDDEN: Final = (
    "\u00a0",  # no-break space
    "\u00ad",  # soft hyphen
    "\u200b",  # zero width space
    "\u200e",  # left-to-right mark
    "\u2028",  # line separator
    "\u3000",  # ideographic space
    "\ufeff",  # byte order mark
    "\ue000",  # private use
    "\u0378",  # unassigned
)
"""What looks like nothing, or like a space, and is pasted with a path: Vault answers 400."""
_DURATION = "write a duration above zero in whole numbers with d, h, m or s, the largest first, like "
_ENVIRONMENT = (
    "write the environment's name in lower-case letters, digits and '-', as the store's rule has it, like production"
)
_PATH = (
    "write the path below the store's mount, like voice/production/frejun: no '/' at either end, and no empty, '.' or "
    "'..' segment"
)
_PATH_CHARACTERS = (
    "leave out spaces, invisible characters and ? # % * \\: Vault refuses them, or takes them for something else than "
    "a path"
)
_SECRET_NAME = "write a Secret's name: lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
_SECRET_TYPE = (
    "write Opaque or another type that holds data of yours: Kubernetes gives Secrets of this type rights of their own"
)
_SECRET_KEY = (
    "write Secret keys (on the left of the ':') in letters, digits, '-', '_' and '.', at most 253 characters, like "
    "FREJUN_API_KEY"
)
_RESERVED = (
    "leave out app.kubernetes.io/managed-by and names that begin with voicekeys.dev/: they are the operator's own"
)
_LABELS = (
    "write labels as Kubernetes takes them, like team: voice or example.com/team: voice, each name and value of at "
    "most 63 letters, digits, '-', '_' and '.'"
)
_ANNOTATIONS = (
    "write annotation names as Kubernetes takes them, like example.com/note: a name of at most 63 letters, digits, "
    "'-', '_' and '.', with or without a DNS name and '/' before it"
)
_WARN_BEFORE = "write less than maxAge, like 14d with maxAge: 90d: else the key would never count as fresh"

_NAMES: Final = [
    Case(
        "a name of 60 characters leaves no room for the trigger annotation",
        {"metadata.name": "n" * 60},
        "",
        "choose a name of at most 59 characters: the pod template annotation voicekeys.dev/key.NAME has room for no "
        "more",
    ),
    Case("an environment in capitals", {"spec.environment": "Production"}, "spec.environment", _ENVIRONMENT),
    Case("an empty environment", {"spec.environment": ""}, "spec.environment", _ENVIRONMENT),
    Case("an environment with a dot", {"spec.environment": "eu.production"}, "spec.environment", _ENVIRONMENT),
    Case(
        "a store's name with an underscore",
        {"spec.source.storeRef.name": "our_vault"},
        "spec.source.storeRef.name",
        "write the name of a VoiceKeyStore; `kubectl get vks` lists them",
    ),
    Case(
        "an empty ServiceAccount name",
        {"spec.source.serviceAccountName": ""},
        "spec.source.serviceAccountName",
        "write the name of a ServiceAccount of this namespace, like voicekeys-reader",
    ),
    Case(
        "a workload's name with a slash",
        {"spec.agents[0].name": "deploy/receptionist"},
        "spec.agents[0].name",
        "write the name of a workload of this namespace, like receptionist",
    ),
    Case(
        "a container's name in capitals",
        {"spec.agents[0].container": "Agent"},
        "spec.agents[0].container",
        "write the name of a container of the workload's pod template, like agent",
    ),
]

_PATHS: Final = [
    *(
        Case(f"the path {path!r}", {"spec.source.path": path}, "spec.source.path", _PATH)
        for path in ("", "/voice", "voice/", "voice//frejun", ".", "..", "../voice", "voice/./frejun", "voice/../other")
    ),
    *(
        Case(f"the path {path!r}", {"spec.source.path": path}, "spec.source.path", _PATH_CHARACTERS)
        for path in (
            "voice/a b",
            "voice/a\tb",
            "voice/a\x00b",
            "voice?x=1",
            "voice#x",
            "voice/%2e%2e/x",
            "v/*",
            "v\\..\\x",
            *(f"voice/a{hidden}b" for hidden in HIDDEN),
        )
    ),
    Case(
        "version 0",
        {"spec.source.version": 0},
        "spec.source.version",
        "spec.source.version in body should be greater than or equal to 1",
    ),
]

_TARGET: Final = [
    Case("a Secret's name in capitals", {"spec.target.secretName": "KEY"}, "spec.target.secretName", _SECRET_NAME),
    Case("an empty Secret's name", {"spec.target.secretName": ""}, "spec.target.secretName", _SECRET_NAME),
    *(
        Case(f"the Secret type {kind!r}", {"spec.target.type": kind}, "spec.target.type", _SECRET_TYPE)
        for kind in ("", "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")
    ),
    Case(
        "data without any entry",
        {"spec.target.data": {}, "spec.target.base64Decode": GONE},
        "spec.target.data",
        "name at least one Secret key, like {API_KEY: api_key}, or leave data out to take every field",
    ),
    *(
        Case(f"the Secret key {key[:20]!r}", {f"spec.target.data[{key}]": "api_key"}, "spec.target.data", _SECRET_KEY)
        for key in ("API KEY", "a/b", "ключ", ".", "..", "..a", "k" * 254)
    ),
    Case(
        "an empty Vault field",
        {"spec.target.data.FREJUN_API_KEY": ""},
        "spec.target.data.FREJUN_API_KEY",
        "spec.target.data.FREJUN_API_KEY in body should be at least 1 chars long",
    ),
    Case(
        "base64Decode of the Vault field instead of the Secret key",
        {"spec.target.base64Decode": ["ca"]},
        "spec.target.base64Decode",
        "name only keys that target.data has, as it has them on the left of the ':'",
    ),
    *(
        Case(f"the {kind[:-1]} {name}", {f"spec.target.{kind}[{name}]": "x"}, f"spec.target.{kind}", _RESERVED)
        for kind in ("labels", "annotations")
        for name in ("app.kubernetes.io/managed-by", "voicekeys.dev/binding", "voicekeys.dev/digest")
    ),
    *(
        Case(f"the label {name}={value}", {f"spec.target.labels[{name}]": value}, "spec.target.labels", _LABELS)
        for name, value in (("a b", "x"), ("a/b/c", "x"), ("l" * 64, "x"), ("team", "voice agents"))
    ),
    *(
        Case(
            f"the annotation {name}", {f"spec.target.annotations[{name}]": "x"}, "spec.target.annotations", _ANNOTATIONS
        )
        for name in ("a b", "a/b/c", "n" * 64)
    ),
    Case(
        "a deletion policy of another operator",
        {"spec.target.deletionPolicy": "Orphan"},
        "spec.target.deletionPolicy",
        'Unsupported value: "Orphan": supported values: "Retain", "Delete"',
    ),
]

_AGENTS: Final = [
    Case(
        "an agent that is a Job",
        {"spec.agents[0].kind": "Job"},
        "spec.agents[0].kind",
        'Unsupported value: "Job": supported values: "Deployment", "StatefulSet", "DaemonSet"',
    ),
    Case(
        "the same agent twice",
        {"spec.agents": [{"kind": "Deployment", "name": "a"}, {"kind": "Deployment", "name": "a"}]},
        "spec.agents[1]",
        'Duplicate value: {"kind":"Deployment","name":"a"}',
    ),
    Case(
        "an unknown drain mode",
        {"spec.agents[0].drain.mode": "Wait"},
        "spec.agents[0].drain.mode",
        'Unsupported value: "Wait": supported values: "HTTP", "Gauge", "Exec", "Signal", "Sleep"',
    ),
    *(
        Case(
            f"a port with the drain mode {mode}",
            {"spec.agents[0].drain.mode": mode},
            "spec.agents[0].drain.port",
            "leave port out: only the modes HTTP and Gauge ask the agent over the network",
        )
        for mode in ("Exec", "Signal", "Sleep")
    ),
    Case(
        "a Gauge without its port",
        {"spec.agents[0].drain": {"mode": "Gauge", "gauge": {"metric": "calls"}}},
        "spec.agents[0].drain.port",
        "add port: mode Gauge reads the number of live calls there",
    ),
    Case(
        "a Sleep without its length",
        {"spec.agents[0].drain": {"mode": "Sleep"}},
        "spec.agents[0].drain.maxCallDuration",
        "add maxCallDuration: mode Sleep waits that long, whether calls are left or not",
    ),
    Case(
        "drain port 0",
        {"spec.agents[0].drain.port": 0},
        "spec.agents[0].drain.port",
        "spec.agents[0].drain.port in body should be greater than or equal to 1",
    ),
    Case(
        "drain port 65536",
        {"spec.agents[0].drain.port": 65536},
        "spec.agents[0].drain.port",
        "spec.agents[0].drain.port in body should be less than or equal to 65535",
    ),
]

_NO_DURATIONS: Final = ("", "30", "30 m", "m30", "1.5h", "-5m", "30m1h", "1h1h", "PT30M", "1w", "30M", "1234567s")

_TIMES: Final = [
    *(
        Case(f"a longest call of {text!r}", {f"{field}": text}, field, f"{_DURATION}30m or 1h30m")
        for field in ("spec.agents[0].drain.maxCallDuration",)
        for text in (*_NO_DURATIONS, "0s", "0h0m")
    ),
    Case(
        "a rollout timeout of zero", {"spec.rollout.timeout": "0m"}, "spec.rollout.timeout", f"{_DURATION}10m or 1h30m"
    ),
    Case(
        "a propagation of ISO 8601",
        {"spec.rollout.propagation": "PT5S"},
        "spec.rollout.propagation",
        "write a duration in whole numbers with d, h, m or s, the largest first, like 5s; 0s for none",
    ),
    Case(
        "an empty propagation",
        {"spec.rollout.propagation": ""},
        "spec.rollout.propagation",
        "write a duration in whole numbers with d, h, m or s, the largest first, like 5s; 0s for none",
    ),
    Case(
        "no restart an hour",
        {"spec.rollout.maxRestartsPerHour": 0},
        "spec.rollout.maxRestartsPerHour",
        "spec.rollout.maxRestartsPerHour in body should be greater than or equal to 1",
    ),
    Case(
        "61 restarts an hour",
        {"spec.rollout.maxRestartsPerHour": 61},
        "spec.rollout.maxRestartsPerHour",
        "spec.rollout.maxRestartsPerHour in body should be less than or equal to 60",
    ),
    Case("an age in weeks", {"spec.rotation": {"maxAge": "12w"}}, "spec.rotation.maxAge", f"{_DURATION}90d"),
    Case("a warning of zero", {"spec.rotation.warnBefore": "0d"}, "spec.rotation.warnBefore", f"{_DURATION}14d"),
    Case(
        "a warning before no age",
        {"spec.rotation.maxAge": GONE},
        "spec.rotation.maxAge",
        "add maxAge: warnBefore counts back from it",
    ),
    *(
        Case(
            f"a warning {warning} before the age of {age}",
            {"spec.rotation": {"maxAge": age, "warnBefore": warning}},
            "spec.rotation.warnBefore",
            _WARN_BEFORE,
        )
        for age, warning in (("90d", "90d"), ("90d", "91d"), ("1d", "24h"), ("1d", "23h59m60s"), ("1h30m", "91m"))
    ),
]

CASES: Final = [*_NAMES, *_PATHS, *_TARGET, *_AGENTS, *drain_cases.CASES, *_TIMES]

ACCEPTED: Final = {
    **drain_cases.ACCEPTED,
    "a name of 59 characters": {"metadata.name": "n" * 59},
    "a path of one segment": {"spec.source.path": "frejun"},
    "a path with dots inside its segments": {"spec.source.path": "voice/..a/b.c/d../...e"},
    "a path with other characters that people use": {"spec.source.path": "voice/eu-1/key_2@acme:prod+x,y=z~!$&'()"},
    "a path in other scripts": {"spec.source.path": "голос/受付/e\u0301té/☎"},
    "the longest path": {"spec.source.path": "p" * 512},
    "a Secret for basic auth": {"spec.target.type": "kubernetes.io/basic-auth"},
    "all fields with some of them base64": {"spec.target.data": GONE},
    "64 Secret keys": {"spec.target.data": {f"k{n}": "f" for n in range(63)} | {"ca.crt": "ca"}},
    "a label without a value": {"spec.target.labels": {"team": ""}},
    "an annotation with capitals": {"spec.target.annotations": {"Example.com/Note": "x"}},
    "no agents": {"spec.agents": []},
    "two agents of one name and two kinds": {
        "spec.agents": [{"kind": "Deployment", "name": "a"}, {"kind": "DaemonSet", "name": "a"}]
    },
    "HTTP on the default port": {"spec.agents[0].drain": {"mode": "HTTP"}},
    "a Sleep": {"spec.agents[0].drain": {"mode": "Sleep", "maxCallDuration": "45s"}},
    "a Signal": {"spec.agents[0].drain": {"mode": "Signal"}},
    "all units": {"spec.rotation": {"maxAge": "1d2h3m4s", "warnBefore": "1d2h3m3s"}},
    "a warning in other units": {"spec.rotation": {"maxAge": "1d", "warnBefore": "23h59m59s"}},
    "six digits": {"spec.rotation": {"maxAge": "999999d", "warnBefore": "999998d23h"}},
    "no propagation": {"spec.rollout.propagation": "0s"},
}
"""Changes to a valid object that leave it valid: the edges of the rules."""
