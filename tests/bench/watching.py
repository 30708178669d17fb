"""When a Secret changed, as a watch of it shows: what a kubelet would see."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import orjson
import urllib3

from voicekeys.api import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.lab import Lab

SELECTOR = f"labelSelector={names.MANAGED_BY_LABEL}%3D{names.MANAGED_BY}"


class SecretWatch:
    """Watches all Secrets of the operator in a thread; for a `with` block."""

    def __init__(self, lab: Lab) -> None:
        self._pool = urllib3.PoolManager(
            ca_certs=str(lab.ca_file), timeout=urllib3.Timeout(connect=10, read=None), retries=False
        )
        position = lab.api("GET", "/api/v1/secrets?limit=1")["metadata"]["resourceVersion"]
        url = f"{lab.api_url}/api/v1/secrets?watch=1&{SELECTOR}&resourceVersion={position}&timeoutSeconds=3600"
        self._response = self._pool.request(
            "GET", url, headers={"Authorization": f"Bearer {lab.admin_token}"}, preload_content=False
        )
        if self._response.status != 200:
            raise RuntimeError(f"the watch was answered with {self._response.status}")
        self._seen: dict[str, float] = {}
        self._ended = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A close would wait for the thread's read, which nothing may ever answer: first let that read end.
        with contextlib.suppress(OSError):
            self._response.shutdown()
        self._thread.join(10)
        with contextlib.suppress(OSError):
            self._response.close()

    def _run(self) -> None:
        rest = b""
        try:
            while chunk := self._response.read1(65536):
                moment = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                events = [_event(line) for line in lines if line]
                with self._changed:
                    for event in events:
                        metadata = event["object"]["metadata"]
                        self._seen[f"{metadata['namespace']}/{metadata['name']}"] = moment
                    self._changed.notify_all()
            self._ended = "the API server ended it"
        except Exception as error:  # noqa: BLE001 -- whatever it was, `wait` tells
            self._ended = f"{type(error).__name__}: {error}"
        with self._changed:
            self._changed.notify_all()

    def wait(self, secrets: Iterable[str], since: float, seconds: float) -> list[float]:
        """Wait until each of the Secrets has changed after a monotonic moment; give the seconds that each took.

        Raises:
            TimeoutError: some did not change in time.
            ConnectionError: the watch broke, so nobody can tell.
        """
        wanted = list(secrets)
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                late = [name for name in wanted if self._seen.get(name, 0.0) <= since]
                if not late:
                    return [self._seen[name] - since for name in wanted]
                left = deadline - time.monotonic()
                if self._ended:
                    raise ConnectionError(f"the benchmark's own watch has ended: {self._ended}")
                if left <= 0:
                    raise TimeoutError(f"{len(late)} of {len(wanted)} Secrets did not change within {seconds:g} s")
                self._changed.wait(left)


def _event(line: bytes) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line)
    if event["type"] == "ERROR":
        raise ConnectionError(event["object"].get("message"))
    return event
