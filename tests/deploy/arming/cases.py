"""Drains and pod templates to compare the two ways to arm: by hand, what matters; by lot, what nobody thinks of."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.deploy.arming.pods import HOOK, IMAGE, TOKEN, container, template

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]

GAUGE: Final = {"mode": "Gauge", "port": 8080, "gauge": {"metric": 'calls{state="open"}'}}
EXEC: Final = {"exec": {"command": ["/wait"]}}


class Case(NamedTuple):
    """A workload's entry in spec.agents but its name, its template, and what the status knows."""

    says: str
    agent: Object
    template: Object
    token: str | None = TOKEN
    image: str | None = IMAGE


def _one(says: str, drain: Object, made: Object | None = None, **more: Any) -> Case:
    known = {key: more.pop(key) for key in ("token", "image") if key in more}
    return Case(says, {"kind": "Deployment", "drain": drain, **more}, made or template(), **known)


BY_HAND: Final = [
    _one("an agent with the library", {"mode": "HTTP"}),
    _one("on another port", {"mode": "HTTP", "port": 8081}),
    _one("calls of an hour and a half", {"mode": "HTTP", "maxCallDuration": "1h30m", "settle": "0s", "teardown": "1m"}),
    _one("calls of days", {"mode": "Signal", "maxCallDuration": "1d2h3m4s"}),
    _one("the longest duration there is", {"mode": "HTTP", "maxCallDuration": "999999d999999h999999m999999s"}),
    _one(
        "a grace of its own that is longer",
        {"mode": "HTTP", "maxCallDuration": "1m"},
        template(terminationGracePeriodSeconds=900),
    ),
    _one(
        "a grace of its own that is shorter",
        {"mode": "HTTP", "maxCallDuration": "1m"},
        template(terminationGracePeriodSeconds=0),
    ),
    _one("no token yet", {"mode": "HTTP"}, token=None),
    _one("a token that no header can carry", {"mode": "HTTP"}, token="a b\nc"),
    _one("an empty token", {"mode": "HTTP"}, token=""),
    _one("two containers", {"mode": "HTTP"}, template(container("a"), container("b"))),
    _one(
        "two containers, one of them the agent",
        {"mode": "HTTP"},
        template(container("a"), container("b")),
        container="b",
    ),
    _one("a container that is not there", {"mode": "HTTP", "maxCallDuration": "1m"}, container="b"),
    _one("a postStart of the user's", {"mode": "HTTP"}, template(container(lifecycle={"postStart": EXEC}))),
    _one(
        "a stopSignal of the user's",
        {"mode": "HTTP"},
        template(container(lifecycle={"stopSignal": "SIGINT"}), os={"name": "linux"}),
    ),
    _one(
        "a preStop of the user's",
        {"mode": "HTTP", "maxCallDuration": "1m"},
        template(container(lifecycle={"preStop": EXEC})),
    ),
    _one(
        "a preStop of the user's beside the agent",
        {"mode": "HTTP"},
        template(container("a"), container("b", lifecycle={"preStop": EXEC})),
        container="a",
    ),
    _one(
        "the hook without a token",
        {"mode": "HTTP"},
        template(container(lifecycle={"preStop": {"httpGet": {"path": "/voicekeys/v1/drain", "port": 9909}}})),
    ),
    _one(
        "the hook with another token",
        {"mode": "HTTP"},
        template(
            container(
                "a",
                lifecycle={
                    "preStop": {
                        "httpGet": {
                            **HOOK["httpGet"],
                            "httpHeaders": [{"name": "x-voicekeys-TOKEN", "value": "theirs"}],
                        }
                    }
                },
            ),
            container("b"),
        ),
    ),
    _one(
        "the hook by a port's name",
        {"mode": "HTTP"},
        template(
            container(
                ports=[{"name": "drain", "containerPort": 7}],
                lifecycle={"preStop": {"httpGet": {"path": "/voicekeys/v1/drain", "port": "drain"}}},
            )
        ),
    ),
    *(
        _one(f"env {name} of the user's, {says}", {"mode": "HTTP"}, template(container(env=[{"name": name, **value}])))
        for name, says, value in (
            ("VOICEKEYS_DRAIN_PORT", "the same", {"value": "9909"}),
            ("VOICEKEYS_DRAIN_PORT", "another", {"value": "8081"}),
            ("VOICEKEYS_DRAIN_PORT", "from elsewhere", {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            ("VOICEKEYS_DRAIN_TOKEN", "another", {"value": "theirs"}),
            ("VOICEKEYS_DRAIN_TOKEN", "empty", {"value": ""}),
            ("VOICEKEYS_DRAIN_TOKEN", "from a Secret", {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
            ("VOICEKEYS_SETTLE_SECONDS", "another", {"value": "60"}),
            ("VOICEKEYS_GRACE_SECONDS", "another", {"value": "60"}),
            ("OTHER", "another", {"value": "x"}),
        )
    ),
    _one(
        "the same env twice",
        {"mode": "HTTP"},
        template(container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])),
    ),
    _one(
        "two agents with two tokens",
        {"mode": "HTTP"},
        template(
            container("a", env=[{"name": "VOICEKEYS_DRAIN_TOKEN", "value": "1"}]),
            container("b", env=[{"name": "VOICEKEYS_DRAIN_TOKEN", "value": "2"}]),
        ),
    ),
    _one("a pod on its node's network", {"mode": "HTTP"}, template(hostNetwork=True)),
    _one("empty annotations", {"mode": "HTTP"}, template(annotations={})),
    _one("annotations of the user's", {"mode": "HTTP"}, template(annotations={"a/b": "c"})),
    _one(
        "the user lets autoscalers evict",
        {"mode": "HTTP"},
        template(annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}),
    ),
    _one(
        "armed by another binding",
        {"mode": "HTTP", "maxCallDuration": "1h"},
        template(annotations={"voicekeys.dev/armed-by": "other", "voicekeys.dev/armed": "HTTP"}),
    ),
    _one(
        "an annotation that says armed, and no hook",
        {"mode": "Exec"},
        template(annotations={"voicekeys.dev/armed": "Exec"}),
    ),
    _one("a gauge", GAUGE),
    _one(
        "a gauge of a JSON document",
        {"mode": "Gauge", "port": 443, "gauge": {"scheme": "HTTPS", "path": "/s?a=b", "jsonPointer": "/a/0"}},
    ),
    _one(
        "a gauge that leaves the number out when it is zero",
        {"mode": "Gauge", "port": 8081, "gauge": {"path": "/worker", "jsonPointer": "/jobs", "zeroIfPresent": "/type"}},
    ),
    _one("a gauge of the whole document", {"mode": "Gauge", "port": 8088, "gauge": {"jsonPointer": ""}}),
    _one(
        "a gauge with a password",
        {**GAUGE, "gauge": {"metric": "calls", "authorizationSecret": {"name": "s", "key": "k"}}},
    ),
    _one(
        "a gauge before init containers",
        GAUGE,
        template(initContainers=[container("first"), container("second", restartPolicy="Always")]),
    ),
    _one(
        "a gauge that is there", GAUGE, template(initContainers=[container("voicekeys-gauge", restartPolicy="Always")])
    ),
    _one(
        "a gauge that is there, its image not known",
        GAUGE,
        template(initContainers=[container("voicekeys-gauge", restartPolicy="Always")]),
        image=None,
    ),
    _one("a gauge whose image is not known", GAUGE, image=None),
    _one("a gauge whose image is none", GAUGE, image="a b"),
    _one("a gauge without a token", GAUGE, token=None),
    _one("a gauge on Windows", GAUGE, template(os={"name": "windows"})),
    _one("a gauge beside a hook of the user's", GAUGE, template(container(lifecycle={"preStop": EXEC}))),
    _one(
        "a gauge, and a token in the agent's env",
        GAUGE,
        template(container(env=[{"name": "VOICEKEYS_DRAIN_TOKEN", "value": "theirs"}])),
    ),
    _one("a pause", {"mode": "Sleep", "maxCallDuration": "45s"}),
    _one(
        "a pause of the user's that is longer",
        {"mode": "Sleep", "maxCallDuration": "5s"},
        template(container(lifecycle={"preStop": {"sleep": {"seconds": 20}}})),
    ),
    _one(
        "a pause of the user's that is shorter",
        {"mode": "Sleep", "maxCallDuration": "45s"},
        template(container(lifecycle={"preStop": {"sleep": {"seconds": 20}}})),
    ),
    _one(
        "a command", {"mode": "Exec", "command": ["/wait", "--for", "calls"]}, template(container("a"), container("b"))
    ),
    _one(
        "a command in the named container",
        {"mode": "Exec", "command": ["/wait"]},
        template(container("a"), container("b")),
        container="b",
    ),
    _one(
        "the same command of the user's",
        {"mode": "Exec", "command": ["/wait"]},
        template(container(lifecycle={"preStop": EXEC})),
    ),
    _one(
        "another command of the user's",
        {"mode": "Exec", "command": ["/other"]},
        template(container(lifecycle={"preStop": EXEC})),
    ),
    _one(
        "a command of the manifest alone",
        {"mode": "Exec", "maxCallDuration": "1m"},
        template(container(lifecycle={"preStop": EXEC})),
    ),
    _one("no command anywhere", {"mode": "Exec", "maxCallDuration": "1m"}),
    _one("an agent that drains itself", {"mode": "Signal", "maxCallDuration": "1h"}),
    _one(
        "an agent that drains itself, with a hook", {"mode": "Signal"}, template(container(lifecycle={"preStop": EXEC}))
    ),
    _one("an agent that drains itself, misnamed", {"mode": "Signal"}, container="b"),
]


def by_lot(seed: int, count: int) -> Iterator[Case]:
    """Yield random cases."""
    lot = random.Random(seed)
    for number in range(count):
        names = [f"c{each}" for each in range(lot.randint(1, 3))]
        made = template(*(_container(lot, name) for name in names))
        if lot.random() < 0.3:
            made["spec"]["initContainers"] = [container("init")]
        if lot.random() < 0.1:
            made["spec"].setdefault("initContainers", []).append(container("voicekeys-gauge", restartPolicy="Always"))
        if lot.random() < 0.5:
            made["spec"]["terminationGracePeriodSeconds"] = lot.choice([25, 30, 60, 4000])
        if lot.random() < 0.4:
            made["metadata"]["annotations"] = {key: value for key, value in _NOTES if lot.random() < 0.4}
        agent: Object = {"kind": lot.choice(["Deployment", "StatefulSet", "DaemonSet"]), "drain": _drain(lot)}
        if lot.random() < 0.4:
            agent["container"] = lot.choice([*names, "missing"])
        token, image = lot.choice([TOKEN, TOKEN, None]), lot.choice([IMAGE, IMAGE, IMAGE, None])
        yield Case(f"lot {number}", agent, made, token, image)


_NOTES: Final = (
    ("karpenter.sh/do-not-disrupt", "false"),
    ("voicekeys.dev/armed", "HTTP"),
    ("voicekeys.dev/grace-seconds", "7"),
    ("voicekeys.dev/armed-by", "other"),
    ("x", "y"),
)
_HOOKS: Final = (
    None,
    None,
    None,
    HOOK,
    {"httpGet": {"path": "/voicekeys/v1/drain", "port": 9909}},
    EXEC,
    {"sleep": {"seconds": 3}},
    {"sleep": {"seconds": 20}},
)
_VARIABLES: Final = (
    {"name": "A", "value": "b"},
    {"name": "VOICEKEYS_DRAIN_PORT", "value": "9909"},
    {"name": "VOICEKEYS_DRAIN_PORT", "value": "1"},
    {"name": "VOICEKEYS_DRAIN_TOKEN", "value": TOKEN},
    {"name": "VOICEKEYS_DRAIN_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    {"name": "VOICEKEYS_SETTLE_SECONDS", "value": "1"},
)


def _container(lot: random.Random, name: str) -> Object:
    made = container(name)
    lifecycle: Object = {"postStart": EXEC} if lot.random() < 0.2 else {}
    if (hook := lot.choice(_HOOKS)) is not None:
        lifecycle["preStop"] = hook
    if lifecycle:
        made["lifecycle"] = lifecycle
    if variables := [one for one in _VARIABLES if lot.random() < 0.12]:
        made["env"] = variables
    return made


def _drain(lot: random.Random) -> Object:
    drain: Object = lot.choice(
        [
            {"mode": "HTTP"},
            {"mode": "HTTP", "port": 1},
            GAUGE,
            {"mode": "Exec"},
            {"mode": "Exec", "command": ["/wait"]},
            {"mode": "Signal"},
            {"mode": "Sleep", "maxCallDuration": "15s"},
        ]
    )
    drain = dict(drain)
    for key, values in (
        ("maxCallDuration", ["10s", "2h", "1d1s"]),
        ("settle", ["0s", "1m2s"]),
        ("teardown", ["0s", "90s"]),
    ):
        if lot.random() < 0.4:
            drain[key] = lot.choice(values)
    return drain
