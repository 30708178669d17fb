"""What the library raises. No error holds a key, a token, a signature or a call's id.

::

    AgentError
    ├── Refused        this call must go to another pod
    └── ServeError     the drain server is not there
        ├── PortTaken  something else has the port
        └── Unjoined   the pool's leader did not take this process in
"""

from __future__ import annotations


class AgentError(Exception):
    """Anything that this library raises."""


class Refused(AgentError):
    """The pod takes no more calls: answer so that the caller tries another one.

    SIP: 503 with ``Retry-After``; HTTP: the same; a WebSocket: close code 1013 ("try again later", RFC 6455 registry).

    Args:
        phase: why, in one word: ``cordoned``, ``refusing``, ``idle``, ``released``, ``unjoined``.
        retry_after: seconds to put into ``Retry-After``.
    """

    def __init__(self, phase: str, retry_after: int = 1) -> None:
        super().__init__(f"this pod takes no more calls ({phase}): answer 503 with Retry-After: {retry_after}")
        self.phase = phase
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[Refused], tuple[str, int]]:
        return type(self), (self.phase, self.retry_after)


class ServeError(AgentError):
    """The drain server could not be started."""


class PortTaken(ServeError):
    """Another program has the drain port.

    Args:
        port: the port.
        holder: who has it, as far as this process may see.
    """

    def __init__(self, port: int, holder: str) -> None:
        super().__init__(
            f"port {port} is in use by {holder}, which is no process of this agent: stop it, or choose another port "
            f"with serve(port=…) and spec.agents[].drain.port of the VoiceKeyBinding"
        )
        self.port = port

    def __reduce__(self) -> tuple[type[ServeError], tuple[str]]:
        return ServeError, (str(self),)


class Unjoined(ServeError):
    """The process that has the drain port did not answer in time."""
