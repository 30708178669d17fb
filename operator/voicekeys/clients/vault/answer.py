"""What Vault answered, before anyone has understood it."""

from __future__ import annotations

from typing import Any


class Answer:
    """What Vault answered: status, decoded body, seconds to wait. ``repr`` shows the status only.

    Args:
        status: HTTP status.
        body: decoded JSON, None where it was none.
        retry_after: seconds of the Retry-After header.
        wants_tls: whether this is Go's answer to plain HTTP at a TLS port.
    """

    __slots__ = ("body", "retry_after", "status", "wants_tls")

    def __init__(self, status: int, body: Any, retry_after: float | None = None, *, wants_tls: bool = False) -> None:
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.wants_tls = wants_tls

    def says(self, words: str) -> bool:
        """Whether one of Vault's ``errors`` holds these words: to tell causes apart, never to be shown."""
        lines = self.body.get("errors") if isinstance(self.body, dict) else None
        return isinstance(lines, list) and any(words in line for line in lines if isinstance(line, str))

    def __repr__(self) -> str:
        return f"Answer({self.status})"
