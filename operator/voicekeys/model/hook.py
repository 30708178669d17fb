"""The hook that a kubelet runs before it ends a container, and where the drain contract is asked, read from a pod."""

from __future__ import annotations

import hmac
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

DRAIN_PATH = "/voicekeys/v1/drain"
TOKEN_HEADER = "X-Voicekeys-Token"  # noqa: S105 - a header's name

_SENDABLE = re.compile(r"[\x21-\x7e]{1,512}")


class HookKind(StrEnum):
    """What a preStop hook does."""

    CONTRACT = "Contract"
    HTTP = "HTTP"
    EXEC = "Exec"
    SLEEP = "Sleep"
    TCP = "TCP"


class Token:
    """A drain server's token. ``repr``, ``str`` and ``format`` do not show it; pickling and hashing are refused.

    Args:
        text: as it goes into the header.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give it in the clear, for the header of a request."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and hmac.compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Token(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Token is never pickled or copied out")


class DrainHook(NamedTuple):
    """The preStop hook of one container.

    Args:
        kind: what it does; only ``CONTRACT`` has what follows.
        container: whose hook it is.
        port: where the contract is served; 0 otherwise.
        token: that the kubelet sends along; None where the hook sends none, or none that a header can carry.
    """

    kind: HookKind
    container: str
    port: int = 0
    token: Token | None = None


class Endpoint(NamedTuple):
    """Where one pod's contract is asked.

    Args:
        pod: its name, for messages.
        ip: its address, as the API server has it.
        port: of the contract.
        token: for what changes anything; None where none is known.
    """

    pod: str
    ip: str
    port: int
    token: Token | None = None


def parse_hooks(pod_spec: Mapping[str, Any]) -> tuple[DrainHook | None, tuple[str, ...]]:
    """Find a pod's drain hook, and the ordinary containers that have none.

    A native sidecar's own hook holds nobody (facts K6), so only ordinary containers count.

    Args:
        pod_spec: as the API server has it.

    Returns:
        The hook of the contract, else the first of another kind; and the names of containers without any.
    """
    found: list[DrainHook] = []
    bare: list[str] = []
    for container in pod_spec.get("containers") or []:
        hook = _hook(container)
        if hook is None:
            bare.append(container["name"])
        else:
            found.append(hook)
    ours = (hook for hook in found if hook.kind is HookKind.CONTRACT)
    return next(ours, found[0] if found else None), tuple(bare)


def _hook(container: Mapping[str, Any]) -> DrainHook | None:
    action: Mapping[str, Any] = (container.get("lifecycle") or {}).get("preStop") or {}
    name = container["name"]
    if "httpGet" in action:
        get: Mapping[str, Any] = action["httpGet"]
        port = _port(container, get.get("port"))
        elsewhere = get.get("host") or get.get("scheme", "HTTP") != "HTTP"
        if get.get("path") != DRAIN_PATH or elsewhere or not port:
            return DrainHook(HookKind.HTTP, name)
        return DrainHook(HookKind.CONTRACT, name, port, _token(get))
    kinds = {"exec": HookKind.EXEC, "sleep": HookKind.SLEEP, "tcpSocket": HookKind.TCP}
    return next((DrainHook(kind, name) for field, kind in kinds.items() if field in action), None)


def _port(container: Mapping[str, Any], port: object) -> int:
    """A hook's port: a number, or the name that the container gives to one; 0 where that leads nowhere."""
    if isinstance(port, int):
        return port
    named = (one["containerPort"] for one in container.get("ports") or [] if one.get("name") == port)
    return next(named, 0)


def _token(get: Mapping[str, Any]) -> Token | None:
    headers = {one["name"].lower(): one.get("value", "") for one in get.get("httpHeaders") or []}
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    text = headers.get(TOKEN_HEADER.lower()) or (bearer.strip() if scheme.lower() == "bearer" else "")
    return Token(text) if _SENDABLE.fullmatch(text) else None
