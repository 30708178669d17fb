"""What the drain of an agent may not say: one change, one message."""

from __future__ import annotations

from typing import Final

from tests.crds.refusals import Case

_GAUGE: Final = {"mode": "Gauge", "port": 8080}
_NO_GAUGE: Final = (
    "add gauge, like {jsonPointer: /sessions/active} or {metric: calls_active}: mode Gauge has to know where the "
    "number of live calls is"
)
_ONE_NUMBER: Final = "write either jsonPointer, for a JSON document, or metric, for Prometheus' text format"
_GAUGE_PATH: Final = (
    "begin with '/', and write spaces and other characters than ASCII as %20 and the like, as in /status.json"
)
_POINTER: Final = (
    "write a JSON pointer, like /sessions/active: it begins with '/' or is empty, and '/' and '~' inside a name are "
    "written ~1 and ~0"
)
_METRIC: Final = 'write a metric\'s name, with labels in braces if some are to match, like calls{state="open"}'
_ZERO_POINTER: Final = "write a JSON pointer to what is in every answer, like /version: it begins with '/'"
_ZERO_METRIC: Final = "write a metric that is in every answer, like process_start_time_seconds"

# tests/agent/gauge holds the sidecar to the same: what the CRD lets through it can read, and what not it refuses.
METRICS: Final = (
    "calls",
    "a:b_total",
    "calls{}",
    "calls{ }",
    'calls{state="open"}',
    r'calls{a="b\"}\\\n", c="",d="é"}',
    'calls { a = "1" , b = "2", }',
)
NO_METRICS: Final = (
    "",
    "1calls",
    "live-calls",
    "sum(calls)",
    "calls{,}",
    'calls{a="b"',
    'calls a="b"}',
    "calls{a=b}",
    'calls{a=~"b"}',
    'calls{a="b" c="d"}',
    r'calls{a="\d"}',
    'calls{a="b\nc"}',
    'calls{a="b"} > 0',
)
POINTERS: Final = ("", "/", "/a/0/b c", "/a~1b~0c", "/livekit.room:total")
NO_POINTERS: Final = ("calls", "$.calls", "/a~2b", "/a~", " /a")


def _gauge(why: str, gauge: object, field: str, message: str) -> Case:
    """A drain of mode Gauge with ``gauge`` is refused at ``field`` of it."""
    return Case(
        why, {"spec.agents[0].drain": {**_GAUGE, "gauge": gauge}}, f"spec.agents[0].drain.gauge{field}", message
    )


CASES: Final = [
    Case(
        "an inject that is not there",
        {"spec.agents[0].drain.inject": "Webhook"},
        "spec.agents[0].drain.inject",
        'Unsupported value: "Webhook": supported values: "Pod", "Template", "Off"',
    ),
    Case(
        "a Gauge on the port of its own sidecar",
        {"spec.agents[0].drain": {"mode": "Gauge", "port": 9909, "gauge": {"metric": "calls"}}},
        "spec.agents[0].drain.port",
        "write the port on which the agent shows its number of live calls; 9909 is that of the gauge beside it",
    ),
    Case(
        "a Gauge that does not say where",
        {"spec.agents[0].drain": _GAUGE},
        "spec.agents[0].drain.gauge",
        _NO_GAUGE,
    ),
    *(
        Case(
            f"a gauge with the drain mode {mode}",
            {"spec.agents[0].drain": {"mode": mode, "maxCallDuration": "1m", "gauge": {"metric": "calls"}}},
            "spec.agents[0].drain.gauge",
            "leave gauge out, or write mode: Gauge: no other mode reads it",
        )
        for mode in ("HTTP", "Exec", "Signal", "Sleep")
    ),
    *(
        Case(
            f"a command with the drain mode {mode}",
            {"spec.agents[0].drain": {"mode": mode, "maxCallDuration": "1m", "command": ["/drain"]}},
            "spec.agents[0].drain.command",
            "leave command out, or write mode: Exec: no other mode runs one",
        )
        for mode in ("HTTP", "Signal", "Sleep")
    ),
    Case(
        "a command that the operator would have to put into a workload",
        {"spec.agents[0].drain": {"mode": "Exec", "command": ["/drain"], "inject": "Template"}},
        "spec.agents[0].drain.inject",
        "write inject: Pod or Off, or leave it out: a command is code, and the operator puts none into your workload",
    ),
    Case(
        "a command of no words",
        {"spec.agents[0].drain": {"mode": "Exec", "command": []}},
        "spec.agents[0].drain.command",
        "spec.agents[0].drain.command in body should have at least 1 items",
    ),
    Case(
        "a command without a program",
        {"spec.agents[0].drain": {"mode": "Exec", "command": ["", "--wait"]}},
        "spec.agents[0].drain.command",
        "write a program first, like [/opt/agent/drain, --wait]",
    ),
    _gauge("a gauge of no number", {"path": "/metrics"}, "", _ONE_NUMBER),
    _gauge("a gauge of two numbers", {"jsonPointer": "/calls", "metric": "calls"}, "", _ONE_NUMBER),
    _gauge(
        "a gauge over another protocol",
        {"metric": "calls", "scheme": "http"},
        ".scheme",
        'Unsupported value: "http": supported values: "HTTP", "HTTPS"',
    ),
    *(
        _gauge(f"the gauge path {path!r}", {"path": path, "metric": "calls"}, ".path", _GAUGE_PATH)
        for path in ("", "metrics", "/a b", "/a\nb", "/números", "/a#b", "http://a/b")
    ),
    *(
        _gauge(f"the JSON pointer {pointer!r}", {"jsonPointer": pointer}, ".jsonPointer", _POINTER)
        for pointer in NO_POINTERS
    ),
    *(
        _gauge(
            f"the pointer {pointer!r} to what is always there",
            {"jsonPointer": "/calls", "zeroIfPresent": pointer},
            ".zeroIfPresent",
            _ZERO_POINTER,
        )
        for pointer in ("", *NO_POINTERS)
    ),
    *(_gauge(f"the metric {metric!r}", {"metric": metric}, ".metric", _METRIC) for metric in NO_METRICS),
    *(
        _gauge(
            f"the metric {metric!r} that is always there",
            {"metric": "calls", "zeroIfPresent": metric},
            ".zeroIfPresent",
            _ZERO_METRIC,
        )
        for metric in NO_METRICS
    ),
    _gauge(
        "a Secret's name in capitals",
        {"metric": "calls", "authorizationSecret": {"name": "KEY", "key": "k"}},
        ".authorizationSecret.name",
        "write the name of a Secret of this namespace, like livekit-metrics",
    ),
    *(
        _gauge(
            f"the Secret's key {key!r}",
            {"metric": "calls", "authorizationSecret": {"name": "s", "key": key}},
            ".authorizationSecret.key",
            "write a key of that Secret, in letters, digits, '-', '_' and '.', like authorization",
        )
        for key in ("", "a b", "..", ".")
    ),
    *(
        Case(f"a {field} of {text!r}", {f"spec.agents[0].drain.{field}": text}, f"spec.agents[0].drain.{field}", words)
        for field, limit, example, most in (
            ("settle", "5m1s", "5s", "write at most 5m: new calls go to the new pods within seconds"),
            ("teardown", "10m1s", "10s", "write at most 10m: teardown begins when the last call has ended"),
        )
        for text, words in (
            (limit, most),
            ("1h", most),
            (
                "PT5S",
                f"write a duration in whole numbers with d, h, m or s, the largest first, like {example}; 0s for none",
            ),
        )
    ),
]

ACCEPTED: Final = {
    **{
        f"a Gauge of the metric {metric}": {"spec.agents[0].drain": {**_GAUGE, "gauge": {"metric": metric}}}
        for metric in METRICS
    },
    **{
        f"a Gauge of the pointer {pointer}": {"spec.agents[0].drain": {**_GAUGE, "gauge": {"jsonPointer": pointer}}}
        for pointer in POINTERS
    },
    **{
        f"a Gauge with the metric {metric} that is always there": {
            "spec.agents[0].drain": {**_GAUGE, "gauge": {"metric": "calls", "zeroIfPresent": metric}}
        }
        for metric in METRICS
    },
    **{
        f"a Gauge with the pointer {pointer} to what is always there": {
            "spec.agents[0].drain": {**_GAUGE, "gauge": {"jsonPointer": "/calls", "zeroIfPresent": pointer}}
        }
        for pointer in POINTERS
        if pointer
    },
    "a Gauge with a query": {"spec.agents[0].drain": {**_GAUGE, "gauge": {"metric": "a", "path": "/m?a=%20&b[]=1"}}},
    "an Exec without command": {"spec.agents[0].drain": {"mode": "Exec"}},
    "an Exec with an empty argument": {"spec.agents[0].drain": {"mode": "Exec", "command": ["/drain", ""]}},
    "the longest settle and teardown": {
        "spec.agents[0].drain": {"mode": "HTTP", "settle": "4m60s", "teardown": "10m", "inject": "Off"}
    },
    "no settle and no teardown": {"spec.agents[0].drain": {"mode": "HTTP", "settle": "0s", "teardown": "0s"}},
}
"""Drains that lie just inside the rules."""
