"""Asks pods for their live calls: the client of the drain contract, version 1.

Whoever may run a pod may answer anything here. So an address is asked only if it is one that a pod can have, no
redirect is followed, no name is resolved, no proxy and no cookie is used; an answer has a size and a time; nothing of
it is ever quoted. What is not understood is an error of `voicekeys.model.errors`, never a zero.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from voicekeys.model.calls import parse_calls, parse_forced
from voicekeys.model.errors import PORT_CLOSED, AgentGarbage, AgentRefused, AgentUnreachable
from voicekeys.model.hook import TOKEN_HEADER, Token
from voicekeys.model.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicekeys.model.calls import CallsReport
    from voicekeys.model.errors import AgentError
    from voicekeys.model.hook import Endpoint

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BASE: Final = "/voicekeys/v1/"
MAX_BODY: Final = 64 * 1024
"""Bytes of an answer: the library's has 700, and one line more for each key version with calls."""
CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
"""From the connection on, beyond what a long-poll was asked to wait."""
LONGEST_WAIT: Final = 60.0

FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, EOFError, ValueError)
"""What aiohttp and what is below it raise for a request; timeouts are OSErrors."""

_OFFERED: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


def is_pod_address(address: Address) -> bool:
    """Whether a pod can have this address: none that stands for the machine itself, for its link, or for many.

    Link-local ones are where clouds serve their metadata, with the credentials of the node.
    """
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        return False
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return not special and address != ipaddress.IPv4Address("255.255.255.255") and address not in _CLOUD_METADATA


_CLOUD_METADATA: Final = frozenset(
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html (IPv6),
    # https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata, Azure's wire server
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
)


class _Answer(NamedTuple):
    status: int
    body: object


class AgentsClient:
    """The contract of all pods. Satisfies the ``Agents`` port.

    Args:
        may_ask: whether an address may be asked.
        connect_seconds: to connect in.
        answer_seconds: to answer in, beyond what was asked to be waited.
    """

    def __init__(
        self,
        *,
        may_ask: Callable[[Address], bool] = is_pod_address,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._may_ask = may_ask
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def calls(self, pod: Endpoint, since: int | None = None, wait: float = 0.0) -> CallsReport:
        """Ask a pod for its live calls; see ``Agents.calls``."""
        wait = min(wait, LONGEST_WAIT)
        query = {"wait": f"{wait:g}"} | ({} if since is None else {"since": str(since)})
        answer = await self._ask(pod, "GET", "calls", None, wait, query)
        if answer.status != HTTPStatus.OK:
            raise _broken(pod, f"answers GET {BASE}calls with {answer.status}")
        try:
            return parse_calls(answer.body)
        except ValueError as error:
            raise _broken(pod, f"answers GET {BASE}calls without a valid field {error}") from None

    async def release(self, pod: Endpoint) -> int:
        """Let a draining pod go; see ``Agents.release``."""
        answer = await self._ask(pod, "POST", "release", pod.token)
        if answer.status == HTTPStatus.CONFLICT:
            raise AgentRefused("NotDraining", f"pod {pod.pod} is not draining: there is nothing to release")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise _token_refused(pod)
        if answer.status != HTTPStatus.OK:
            raise _broken(pod, f"answers POST {BASE}release with {answer.status}")
        try:
            return parse_forced(answer.body)
        except ValueError as error:
            raise _broken(pod, f"answers POST {BASE}release without a valid field {error}") from None

    async def probe(self, pod: Endpoint) -> Probe:
        """Find out whether a pod's hook would work; see ``Agents.probe``."""
        report = await self.calls(pod)
        # What changes nothing: a drain would end the agent where the token is not checked (the contract, version 1).
        harmless = "cordon" if report.cordoned else "uncordon"
        refuses_wrong = not await self._lets_in(pod, harmless, Token(secrets.token_urlsafe(24)))
        takes_own = await self._lets_in(pod, harmless, pod.token)
        return Probe(report, checks_token=refuses_wrong, takes_token=takes_own)

    async def _lets_in(self, pod: Endpoint, call: str, token: Token | None) -> bool:
        answer = await self._ask(pod, "POST", call, token)
        # 501 is a gauge's: it asks for the token, and can keep no call away.
        if answer.status in {HTTPStatus.OK, HTTPStatus.CONFLICT, HTTPStatus.NOT_IMPLEMENTED}:
            return True
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return False
        raise _broken(pod, f"answers POST {BASE}{call} with {answer.status}")

    async def close(self) -> None:
        """Close all connections; requests from now on fail."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _ask(
        self,
        pod: Endpoint,
        method: str,
        call: str,
        token: Token | None,
        wait: float = 0.0,
        query: dict[str, str] | None = None,
    ) -> _Answer:
        url = self._url(pod, call, query or {})
        outcome = await self._exchange(pod, method, url, token, wait)
        if isinstance(outcome, _Answer):
            return outcome
        # Raised inside the exchange, it would keep that frame, and with it the headers, alive.
        raise outcome

    def _url(self, pod: Endpoint, call: str, query: dict[str, str]) -> URL:
        try:
            address = ipaddress.ip_address(pod.ip)
        except ValueError:
            text = "has no address yet" if not pod.ip else "has an address that is none"
            raise AgentUnreachable("DrainUnreachable", f"pod {pod.pod} {text}") from None
        if not self._may_ask(address):
            text = f"pod {pod.pod} has an address that no pod can have, and is not asked"
            raise AgentUnreachable("DrainUnreachable", text)
        return URL.build(scheme="http", host=str(address), port=pod.port, path=BASE + call, query=query)

    async def _exchange(
        self, pod: Endpoint, method: str, url: URL, token: Token | None, wait: float
    ) -> _Answer | AgentError:
        headers = {} if token is None else {TOKEN_HEADER: token.reveal()}
        seconds = self._connect_seconds + self._answer_seconds + wait
        try:
            # Not aiohttp's own total timeout: it swallows a cancellation that comes at the same moment (aiohttp 3.14).
            async with (
                asyncio.timeout(seconds),
                self._open().request(method, url, headers=headers, allow_redirects=False) as response,
            ):
                raw = await _read_capped(response)
                if raw is None:
                    return _broken(pod, f"sends more than {MAX_BODY} bytes")
                return _Answer(response.status, _decode(raw))
        except FOREIGN as error:
            return _fault(pod, error)
        except RuntimeError:
            if not self._closed:
                raise
            return _silent(pod, "is not asked any more: the operator ends")

    def _open(self) -> aiohttp.ClientSession:
        """Give the session, made at first use because it belongs to the running loop."""
        if self._closed:
            raise RuntimeError("closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # How many ask at once is the caller's to say. A connection for each question: one that waited is closed
                # by the pod's end, and that is told; on a kept one it could as well have been idle for too long.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                headers=_OFFERED,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a body that unpacks to gigabytes is never unpacked; we ask for none packed
                read_bufsize=MAX_BODY,
            )
            # aiohttp asks once more when a GET's connection is closed, and would tell of the second try alone.
            self._session._retry_connection = False  # noqa: SLF001 - there is no public way; the tests notice
        return self._session


async def _read_capped(response: aiohttp.ClientResponse) -> bytes | None:
    """Read the body; None where it is larger than `MAX_BODY`, in which case the connection is dropped."""
    raw = bytearray()
    while not response.content.at_eof():
        raw += await response.content.readany()
        if len(raw) > MAX_BODY:
            response.close()
            return None
    return bytes(raw)


def _decode(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _fault(pod: Endpoint, error: Exception) -> AgentError:
    """Translate what aiohttp and what is below it raise; nothing of it is quoted."""
    at = f"port {pod.port}"
    if isinstance(error, TimeoutError):
        return _silent(pod, f"does not answer at {at} in time")
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return AgentUnreachable(PORT_CLOSED, f"pod {pod.pod} refuses connections to {at}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _silent(pod, f"does not take a connection at {at}")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return _silent(pod, f"closed the connection to {at}", hung_up=True)
    return _broken(pod, f"does not speak HTTP at {at}")


def _silent(pod: Endpoint, what: str, *, hung_up: bool = False) -> AgentUnreachable:
    return AgentUnreachable("DrainUnreachable", f"pod {pod.pod} {what}", hung_up=hung_up)


def _broken(pod: Endpoint, what: str) -> AgentGarbage:
    return AgentGarbage("ContractBroken", f"pod {pod.pod} {what}, which is not the drain contract, version 1")


def _token_refused(pod: Endpoint) -> AgentRefused:
    text = f"pod {pod.pod} refuses the token of its own hook"
    return AgentRefused("TokenRefused", f"{text}: VOICEKEYS_DRAIN_TOKEN of the agent must be that of the hook")
