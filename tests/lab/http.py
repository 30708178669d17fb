"""JSON over HTTP with kept connections: the lab's own way to the API server and to Vault, for the tests' side only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import urllib3

if TYPE_CHECKING:
    from pathlib import Path


class ApiError(Exception):
    """An answer of 400 or above: `status` is HTTP's, `body` the decoded answer."""

    def __init__(self, status: int, body: Any, what: str) -> None:
        self.status = status
        self.body = body
        message = body
        if isinstance(body, dict):
            message = body.get("message") or "; ".join(map(str, body.get("errors", []))) or body
        super().__init__(f"{what}: {status} {message}")


class Http:
    """A pool of connections to one base URL. Thread-safe; no retries, so that tests see what the server says."""

    def __init__(self, base: str, ca_file: Path | None = None) -> None:
        self.base = base
        self._pool = urllib3.PoolManager(
            maxsize=32, retries=False, ca_certs=str(ca_file) if ca_file else None, timeout=urllib3.Timeout(30)
        )

    def json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Send a request and return the decoded JSON answer (None when empty, text when it is not JSON).

        Raises ApiError at status 400 and above, OSError when there is no answer.
        """
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        try:
            answer = self._pool.request(
                method, self.base + path, body=data, headers={"Content-Type": "application/json", **(headers or {})}
            )
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"{method} {path}: {type(error).__name__}: {error}") from error
        content: Any = decode(answer.data)
        if answer.status >= 400:
            raise ApiError(answer.status, content, f"{method} {path}")
        return content

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


def decode(data: bytes) -> Any:
    """Return what a JSON text says, None for an empty one, and any other as text."""
    if not data:
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode(errors="replace")
