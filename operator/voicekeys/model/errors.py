"""Errors, typed by who must act next.

::

    VoiceKeysError
    ├── Terminal               a human edits something; trying again changes nothing
    ├── Waiting                an event will wake us (an object appears, a user resumes)
    └── Retryable              we try again by ourselves, with backoff
        ├── SourceError        Vault did not give the key; the last good Secret stays
        │   ├── StoreDown      the whole store is affected: one probe, not N retries
        │   ├── SourceDenied   401/403 at login or at the path
        │   ├── SourceMissing  the path or version does not exist, is deleted or destroyed
        │   └── SourceGarbage  an answer that is not what KV v2 promises
        ├── ApiError           the Kubernetes API refused or did not answer
        │   ├── ApiUnreachable    connection, TLS, timeout
        │   ├── ApiThrottled      429, with the seconds the server asks for
        │   ├── ApiConflict       409: someone else wrote first
        │   ├── ApiNotFound       404
        │   ├── ApiGone           410: the watch position is too old
        │   ├── ApiForbidden      401/403: the operator's RBAC or an admission policy
        │   └── ApiInvalid        400/422: the object is refused as it is
        └── AgentError         a pod did not say what the drain contract promises: its calls are unknown, never zero
            ├── AgentUnreachable  no answer: connection, timeout, no address
            ├── AgentGarbage      an answer that is not the contract's
            └── AgentRefused      the agent said no: the token is another one, or there is no drain

Every error carries a ``reason`` (one CamelCase word, for conditions) and a message that says what to do. A message
never holds a key's value: clients put names, paths and status codes into it, not bodies.
"""

from __future__ import annotations


class VoiceKeysError(Exception):
    """Base of all our errors.

    Args:
        reason: one CamelCase word, as conditions and metrics want it.
        message: a sentence for the user: what happened and what to do. Never a key's value.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self.message})"


class Terminal(VoiceKeysError):
    """A human must edit something; the next event about the object tries again."""


class Waiting(VoiceKeysError):
    """Nothing is wrong: an event will wake the object up."""


class Retryable(VoiceKeysError):
    """We try again by ourselves.

    Args:
        reason: see `VoiceKeysError`.
        message: see `VoiceKeysError`.
        retry_after: seconds that the other side asked us to wait, or None for our own backoff.
    """

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class SourceError(Retryable):
    """Vault did not give the key. Secret and agents stay as they are.

    Args:
        reason: see `VoiceKeysError`.
        message: see `VoiceKeysError`.
        retry_after: see `Retryable`.
        answered: whether Vault answered this very read. Where it was not even asked (no credential for the login, a
            refusal that is remembered, a path that none can have), the failure says nothing of its health.
    """

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None, answered: bool = True) -> None:
        super().__init__(reason, message, retry_after=retry_after)
        self.answered = answered


class StoreDown(SourceError):
    """The store as a whole does not answer: unreachable, sealed, TLS, timeout, 5xx, 429."""


class SourceDenied(SourceError):
    """Vault refused the login or the path."""


class SourceMissing(SourceError):
    """The path or version does not exist, is deleted or destroyed."""


class SourceGarbage(SourceError):
    """The answer is not what KV v2 promises."""


class ApiError(Retryable):
    """The Kubernetes API refused or did not answer.

    Args:
        reason: see `VoiceKeysError`.
        message: see `VoiceKeysError`.
        status: HTTP status, 0 where there was none.
        retry_after: seconds that the server asked for.
    """

    def __init__(self, reason: str, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(reason, message, retry_after=retry_after)
        self.status = status


class ApiUnreachable(ApiError):
    """No answer: connection, TLS, timeout."""


class ApiThrottled(ApiError):
    """429: too many requests."""


class ApiConflict(ApiError):
    """409: the object changed since it was read, or exists already."""


class ApiNotFound(ApiError):
    """404: the object or its kind does not exist."""


class ApiGone(ApiError):
    """410: the watch position is too old, list again."""


class ApiForbidden(ApiError):
    """401 or 403: RBAC or an admission policy refused."""


class ApiInvalid(ApiError):
    """400 or 422: the object is refused as it is."""


PORT_CLOSED = "HookPortClosed"
"""Reason of a pod that refuses the connection: a kubelet's hook would be refused as well, and that is no drain (K4)."""


class AgentError(Retryable):
    """A pod did not say what the drain contract promises; how many calls it has is unknown, never zero."""


class AgentUnreachable(AgentError):
    """No answer.

    Args:
        reason: see `VoiceKeysError`.
        message: see `VoiceKeysError`.
        hung_up: the pod's end closed the connection while the answer was waited for, as a process that ends does.
    """

    def __init__(self, reason: str, message: str, *, hung_up: bool = False) -> None:
        super().__init__(reason, message)
        self.hung_up = hung_up


class AgentGarbage(AgentError):
    """The answer is not what the contract promises."""


class AgentRefused(AgentError):
    """The agent refused: another token, or nothing to release."""
