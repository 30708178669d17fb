"""What systems really answer when they are asked for their live calls; each says in which source that was read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Shape:
    """One system's answer.

    Args:
        path: where it is served, with its query.
        body: the answer at a number of calls.
        pointer: where the number is in JSON.
        metric: which series has it.
        witness: what is there whatever the number is.
        framing: how the answer's end is told: ``length``, ``chunked`` or ``close``.
        authorization: the header that is asked for.
    """

    path: str
    body: Callable[[int], str]
    pointer: str | None = None
    metric: str | None = None
    witness: str | None = None
    framing: str = "length"
    authorization: str | None = None


def freeswitch(calls: int) -> str:
    """mod_commands.c, `show_function`: without a row there is no cJSON object, and a literal is written instead."""
    return '{"row_count": 0}\n' if calls == 0 else json.dumps({"row_count": calls, "rows": []}, separators=(",", ":"))


def asterisk(calls: int) -> str:
    """res/prometheus/channels.c: three numbers always, and two series for each channel."""
    eid = "02:42:ac:11:00:02"
    lines = ["# HELP asterisk_core_properties Asterisk instance properties.", "# TYPE asterisk_core_properties counter"]
    lines.append(f'asterisk_core_properties{{eid="{eid}",version="20.9.3",build_options="OPTIONAL_API"}} 1')
    for name, kind, value in (
        ("asterisk_channels_count", "gauge", calls),
        ("asterisk_calls_sum", "counter", 1234),
        ("asterisk_calls_count", "gauge", (calls + 1) // 2),
    ):
        lines += [f"# HELP {name} Current count.", f"# TYPE {name} {kind}", f'{name}{{eid="{eid}"}} {value}']
    for number in range(calls):
        labels = f'eid="{eid}",name="PJSIP/trunk-0000000{number}",id="1700000000.{number}",type="PJSIP"'
        lines += [f"asterisk_channels_state{{{labels}}} 6", f"asterisk_channels_duration_seconds{{{labels}}} 17"]
    return "\n".join(lines) + "\n"


def asterisk_ari(calls: int) -> str:
    """``GET /ari/channels``: a list of channels, empty when there is none."""
    channels = [
        {"id": f"1700000000.{number}", "name": f"PJSIP/trunk-{number}", "state": "Up"} for number in range(calls)
    ]
    return json.dumps(channels)


def livekit_server(calls: int) -> str:
    """pkg/telemetry/prometheus/rooms.go: namespace livekit, constant labels node_id and node_type."""
    labels = '{node_id="ND_9nTyT8",node_type="SERVER"}'
    return (
        "# HELP livekit_participant_total \n# TYPE livekit_participant_total gauge\n"
        f"livekit_participant_total{labels} {calls}\n"
        "# HELP livekit_room_total \n# TYPE livekit_room_total gauge\n"
        f"livekit_room_total{labels} {min(calls, 1)}\n"
        f'livekit_room_duration_seconds_bucket{{node_id="ND_9nTyT8",node_type="SERVER",le="+Inf"}} 12\n'
    )


def livekit_agents(calls: int) -> str:
    """livekit-agents 1.8.9, worker.py: `MessageToJson` of a proto3 message leaves out a number that is zero."""
    worker = {"worker_type": "JT_ROOM", "sdk_version": "1.8.9", "worker_load": 0.25, "protocol_version": 1}
    return json.dumps(worker | ({"active_jobs": calls} if calls else {}), indent=2)


def jitsi_videobridge(calls: int) -> str:
    """jitsi-videobridge doc/statistics.md: ``/colibri/stats``."""
    return json.dumps(
        {"conferences": calls, "participants": 3 * calls, "largest_conference": 3, "conference_sizes": [0, 0, 0, calls]}
    )


def go_expvar(calls: int) -> str:
    """Package expvar, `Handler`: one object with each published variable."""
    return f'{{\n"calls_active": {calls},\n"cmdline": ["/agent"],\n"memstats": {{"Alloc":1024,"PauseNs":[0,0]}}\n}}\n'


def go_promhttp(calls: int) -> str:
    """client_golang, text format: a gauge without labels is there from the start."""
    return (
        "# HELP go_goroutines Number of goroutines that currently exist.\n# TYPE go_goroutines gauge\ngo_goroutines 9\n"
        f"# HELP voice_calls_active Live calls.\n# TYPE voice_calls_active gauge\nvoice_calls_active {calls}\n"
    )


def node_prom_client(calls: int) -> str:
    """prom-client: a gauge with labels has a series for each value that was ever set."""
    return (
        "# HELP voice_calls_active Live calls.\n# TYPE voice_calls_active gauge\n"
        f'voice_calls_active{{transport="websocket",direction="in"}} {calls // 2}\n'
        f'voice_calls_active{{transport="websocket",direction="out"}} {calls - calls // 2}\n'
        'voice_calls_active{transport="health",direction="in"} 1\n\n'
        'nodejs_version_info{version="v22.11.0",major="22"} 1\n'
    )


def haproxy(calls: int) -> str:
    """HAProxy 2.6, service prometheus-exporter: a series for each proxy."""
    return (
        "# HELP haproxy_frontend_current_sessions Number of current sessions on the frontend, backend or server\n"
        "# TYPE haproxy_frontend_current_sessions gauge\n"
        f'haproxy_frontend_current_sessions{{proxy="media"}} {calls}\n'
        'haproxy_frontend_current_sessions{proxy="metrics"} 1\n'
    )


SYSTEMS = {
    "freeswitch": Shape(
        "/txtapi/show?channels%20count%20as%20json",
        freeswitch,
        pointer="/row_count",
        framing="close",
        authorization="Basic ZnJlZXN3aXRjaDp3b3Jrcw==",
    ),
    "asterisk": Shape("/metrics", asterisk, metric="asterisk_channels_count"),
    "asterisk-ari": Shape(
        "/ari/channels", asterisk_ari, pointer="", authorization="Basic dm9pY2VrZXlzOnNlY3JldA==", framing="chunked"
    ),
    "livekit-server": Shape("/metrics", livekit_server, metric="livekit_participant_total", framing="chunked"),
    "livekit-agents": Shape("/worker", livekit_agents, pointer="/active_jobs", witness="/worker_type"),
    "jitsi-videobridge": Shape("/colibri/stats", jitsi_videobridge, pointer="/conferences"),
    "go-expvar": Shape("/debug/vars", go_expvar, pointer="/calls_active", framing="chunked"),
    "go-promhttp": Shape("/metrics", go_promhttp, metric="voice_calls_active", framing="chunked"),
    "haproxy": Shape("/metrics", haproxy, metric='haproxy_frontend_current_sessions{proxy="media"}', framing="chunked"),
    "node-prom-client": Shape("/metrics", node_prom_client, metric='voice_calls_active{transport="websocket"}'),
}
