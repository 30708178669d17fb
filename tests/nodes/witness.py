"""The one who is told what happens in pods, by the pods themselves: what it knows outlives them."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from tests.lab.processes import eventually


@dataclass(frozen=True)
class Event:
    """What a container said: `event` at Unix time `at`, with `details`."""

    pod: str
    uid: str
    container: str
    event: str
    at: float
    details: dict[str, Any] = field(default_factory=dict)


class Witness:
    """Listens on an address that pods reach; `address` is what they get as WITNESS."""

    def __init__(self, host: str) -> None:
        self._events: list[Event] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((host, 0))
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        known = ("pod", "uid", "container", "event", "at")
        while data := self._socket.recv(65536):
            report = json.loads(data)
            details = {key: value for key, value in report.items() if key not in known}
            self._events.append(Event(**{key: report[key] for key in known}, details=details))

    def events(self, pod: str, event: str, container: str = "agent", **details: Any) -> list[Event]:
        """Return what a container of a pod said, the earliest first."""
        return [
            each
            for each in list(self._events)
            if (each.pod, each.container, each.event) == (pod, container, event)
            and details.items() <= each.details.items()
        ]

    def first(self, pod: str, event: str, container: str = "agent", **details: Any) -> Event:
        """Return the first such event; raises IndexError when there is none."""
        return self.events(pod, event, container, **details)[0]

    def wait(
        self, pod: str, event: str, container: str = "agent", *, seconds: float = 40, count: int = 1, **details: Any
    ) -> Event:
        """Wait for the first such event, or for the `count`-th, and return it; raises LabError when it is not told."""

        def told() -> Event | None:
            found = self.events(pod, event, container, **details)
            return found[count - 1] if len(found) >= count else None

        found = eventually(told, f"{pod}/{container} tells {event} {details or ''} ({count})", seconds, pause=0.05)
        assert found is not None
        return found

    def last_sign(self, pod: str, container: str = "agent") -> float:
        """Return when a container was last heard."""
        return max(each.at for each in list(self._events) if each.pod == pod and each.container == container)

    def close(self) -> None:
        """Listen no more."""
        self._socket.sendto(b"", self._socket.getsockname())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
