"""The middleware, called as an ASGI server calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from voicekeys.agent import Agent, CallMiddleware
from voicekeys.agent.drain import cordoned

if TYPE_CHECKING:
    from voicekeys.agent.asgi import Message, Receive, Scope, Send


class Server:
    """What a server gives an application, and what it gets back."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.sent: list[Message] = []
        self.live: list[int] = []

    async def receive(self) -> Message:
        return {"type": "websocket.connect"}

    async def send(self, message: Message) -> None:
        self.live.append(self.agent.active())
        self.sent.append(message)

    async def run(self, app: CallMiddleware, scope: Scope) -> list[Message]:
        await app(scope, self.receive, self.send)
        return self.sent


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200})


async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError("the application's own")


@pytest.fixture
def agent() -> Agent:
    return Agent()


def cordon(agent: Agent) -> None:
    agent._ledger.decide(lambda drain: cordoned(drain, 0.0, wanted=True))


WEBSOCKET: dict[str, Any] = {"type": "websocket", "path": "/media"}
HTTP: dict[str, Any] = {"type": "http", "path": "/stream"}
RESPONDS: dict[str, Any] = {**WEBSOCKET, "extensions": {"websocket.http.response": {}}}


async def test_a_websocket_counts_before_it_is_accepted(agent: Agent) -> None:
    server = Server(agent)
    await server.run(CallMiddleware(application, agent=agent), WEBSOCKET)
    assert server.sent == [{"type": "websocket.accept"}]
    assert server.live == [1]
    assert agent.active() == 0


async def test_an_application_that_fails_ends_its_call_and_fails_as_before(agent: Agent) -> None:
    with pytest.raises(ValueError, match="own"):
        await Server(agent).run(CallMiddleware(fails, agent=agent), WEBSOCKET)
    assert (agent.active(), agent._ledger.report().tally.completed) == (0, 1)


async def test_a_plain_request_is_no_call_and_passes_a_cordon(agent: Agent) -> None:
    cordon(agent)
    server = Server(agent)
    await server.run(CallMiddleware(application, agent=agent), HTTP)
    assert server.sent[0]["status"] == 200
    assert server.live == [0]


async def test_a_long_request_can_be_a_call(agent: Agent) -> None:
    app = CallMiddleware(application, agent=agent, is_call=lambda scope: scope.get("path") == "/stream")
    server = Server(agent)
    await server.run(app, HTTP)
    await server.run(app, {**HTTP, "path": "/other"})
    assert server.live == [1, 0]
    cordon(agent)
    refused = (await Server(agent).run(app, HTTP))[0]
    assert refused["status"] == 503
    assert (b"retry-after", b"1") in refused["headers"]


@pytest.mark.parametrize(
    ("scope", "accept", "types"),
    [
        (RESPONDS, False, ["websocket.http.response.start", "websocket.http.response.body"]),
        (WEBSOCKET, False, ["websocket.close"]),
        (RESPONDS, True, ["websocket.accept", "websocket.close"]),
    ],
)
async def test_how_a_websocket_is_refused(agent: Agent, scope: Scope, accept: bool, types: list[str]) -> None:  # noqa: FBT001
    cordon(agent)
    sent = await Server(agent).run(CallMiddleware(fails, agent=agent, accept_to_refuse=accept), scope)
    assert [message["type"] for message in sent] == types
    if types[-1] == "websocket.close":
        assert sent[-1]["code"] == 1013
    else:
        assert sent[0]["status"] == 503
        assert (b"retry-after", b"1") in sent[0]["headers"]
    assert agent._ledger.report().tally.refused == 1


async def test_a_call_has_the_name_and_the_key_that_it_is_given(agent: Agent) -> None:
    class Version:
        version = "7"

        def reload(self) -> bool:
            return False

    seen: list[tuple[object, dict[str, int]]] = []

    async def looks(_scope: Scope, _receive: Receive, _send: Send) -> None:
        (entry,) = agent._ledger.entries()
        seen.append((getattr(entry, "call_id", None), dict(agent._ledger.report().live)))

    app = CallMiddleware(looks, agent=agent, key=Version(), call_id=lambda scope: str(scope["path"]))
    await app(WEBSOCKET, Server(agent).receive, Server(agent).send)
    assert seen == [("/media", {"7": 1})]


async def test_other_scopes_pass_untouched(agent: Agent) -> None:
    cordon(agent)
    seen: list[str] = []

    async def looks(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    app = CallMiddleware(looks, agent=agent, guard=False, is_call=lambda _scope: True)
    for kind in ("lifespan", "something.new"):
        await app({"type": kind}, Server(agent).receive, Server(agent).send)
    assert seen == ["lifespan", "something.new"]
