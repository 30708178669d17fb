"""The sidecar's settings, from its environment.

Wrong settings do not end the process: a native sidecar that crashes keeps its pod from starting. The contract is served
all the same, says that nothing is known, and a drain waits for its deadline or a release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voicekeys.agent.environment import number
from voicekeys.agent.errors import ServeError
from voicekeys.agent.gauge.fetch import Url, parse_url
from voicekeys.agent.gauge.number import Where, parse_metric, parse_pointer
from voicekeys.agent.server import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 9909
SETTLE_SECONDS = 5.0
QUIET_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where the number comes from.

    Args:
        url: that is asked.
        where: in the answer the number is.
        witness: something in the same answer; if it is there, an absent number is zero. None: absent is unknown.
        authorization: the whole value of that header; None sends none.
        timeout: seconds for an answer.
    """

    url: Url
    where: Where
    witness: Where | None = None
    authorization: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class Settings:
    """How the sidecar works.

    Args:
        source: None when the settings are wrong.
        wrong: what is wrong with them, for people; no value is in it.
        port: of the contract's server; 0 takes any free one.
        host: address to listen on; empty for all.
        token: the workload's; None lets everybody start a drain.
        settle: seconds of a drain in which late calls may come.
        grace: seconds from a drain's start until the kubelet kills; None when not known.
        quiet: seconds of zeros that end a drain.
        busy: seconds between two readings while a drain waits.
        rest: seconds between them otherwise.
        fresh: how old a number in ``/calls`` may be, in seconds.
        anew: seconds after an answered drain from which another hook is another drain: the container was restarted
            (K13), and the sidecar was not.
        limits: of the server.
    """

    source: Source | None = None
    wrong: str | None = None
    port: int = DEFAULT_PORT
    host: str = ""
    token: str | None = field(default=None, repr=False)
    settle: float = SETTLE_SECONDS
    grace: float | None = None
    quiet: float = QUIET_SECONDS
    busy: float = 0.2
    rest: float = 5.0
    fresh: float = 1.0
    anew: float = 30.0
    limits: Limits = field(default_factory=Limits)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings. Never raises: `Settings.wrong` says what it could not read."""
    wrong: list[str] = []

    def seconds(name: str) -> float | None:
        try:
            value = number(environment, name)
        except ServeError as error:
            wrong.append(str(error))
            return None
        if value is not None and value < 0:
            wrong.append(f"{name} is below zero")
            return None
        return value

    timeout = seconds("VOICEKEYS_GAUGE_TIMEOUT_SECONDS") or TIMEOUT_SECONDS
    source: Source | None = None
    try:
        source = _source(environment, timeout)
    except ValueError as error:
        wrong.append(str(error))
    quiet, settle = seconds("VOICEKEYS_GAUGE_QUIET_SECONDS"), seconds("VOICEKEYS_SETTLE_SECONDS")
    grace = seconds("VOICEKEYS_GRACE_SECONDS")
    port = int(seconds("VOICEKEYS_DRAIN_PORT") or DEFAULT_PORT)
    return Settings(
        source=source if not wrong else None,
        wrong="; ".join(wrong) or None,
        port=port if port < 1 << 16 else DEFAULT_PORT,
        token=environment.get("VOICEKEYS_DRAIN_TOKEN") or None,
        settle=SETTLE_SECONDS if settle is None else settle,
        grace=grace,
        quiet=QUIET_SECONDS if quiet is None else quiet,
    )


def _source(environment: Mapping[str, str], timeout: float) -> Source:
    """Where the number comes from. Raises ValueError, with a message for people and without a value."""
    url = environment.get("VOICEKEYS_GAUGE_URL", "")
    if not url:
        raise ValueError("VOICEKEYS_GAUGE_URL is not set")
    metric, pointer = environment.get("VOICEKEYS_GAUGE_METRIC"), environment.get("VOICEKEYS_GAUGE_JSON_POINTER")
    witness = environment.get("VOICEKEYS_GAUGE_ZERO_IF_PRESENT")
    if metric and pointer:
        raise ValueError("VOICEKEYS_GAUGE_METRIC and VOICEKEYS_GAUGE_JSON_POINTER are both set: set one")
    if not metric and pointer is None:
        raise ValueError("set VOICEKEYS_GAUGE_METRIC, or VOICEKEYS_GAUGE_JSON_POINTER (empty: the whole document)")
    authorization = environment.get("VOICEKEYS_GAUGE_AUTHORIZATION", "").strip(" \t\r\n") or None
    if authorization is not None and not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]+", authorization):
        raise ValueError("VOICEKEYS_GAUGE_AUTHORIZATION is no header value")
    parse = parse_metric if metric else parse_pointer
    return Source(
        url=parse_url(url),
        where=parse(metric or pointer or ""),
        witness=parse(witness) if witness else None,
        authorization=authorization,
        timeout=timeout,
    )
