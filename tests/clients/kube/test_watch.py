"""List and watch against a server that does all that API servers do to long connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.kube.faulty import FaultServer, Reply, event, page, status_of
from voicekeys.clients.kube.watch import LISTING, SYNCED, Watcher, WatchTimes
from voicekeys.model.errors import ApiError, ApiForbidden, ApiGone, ApiThrottled, ApiUnreachable

if TYPE_CHECKING:
    from voicekeys.clients.kube.session import KubeSession

pytestmark = pytest.mark.asyncio

QUICK = WatchTimes(backoff=0.01)
OPEN = 30.0
"""A pause that no test waits for: the watch stays open."""


class Seen:
    """What a consumer of a watch sees: events as ``ADDED a`` and errors."""

    def __init__(self, session: KubeSession, **options: Any) -> None:
        self.errors: list[ApiError] = []
        self.watcher = Watcher(session, "secrets", on_error=lambda _, error: self.errors.append(error), **options)

    async def first(self, count: int, seconds: float = 5.0, *, starts: bool = False) -> list[str]:
        """The first ``count`` events; ``starts``: the starts of lists among them."""
        events: list[str] = []
        async with asyncio.timeout(seconds), contextlib.aclosing(self.watcher.events()) as stream:
            async for kind, found in stream:
                if kind == LISTING and not starts:
                    continue
                events.append(f"{kind} {found['metadata']['name']}" if found else kind)
                if len(events) == count:
                    break
        return events


def watch(*lines: bytes | float, **more: Any) -> Reply:
    return Reply(stream=lines, **more)


async def test_a_list_in_pages_then_changes(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(
        page("a", "b", following="more"),
        page("c"),
        watch(event("MODIFIED", "a", "11"), event("BOOKMARK", "", "12"), event("DELETED", "b", "13"), OPEN),
    )
    seen = Seen(shaky, selector="x=y", times=QUICK)
    assert await seen.first(6) == ["ADDED a", "ADDED b", "ADDED c", SYNCED, "MODIFIED a", "DELETED b"]
    first, second, third = (request.query for request in faulty.requests)
    assert first == "limit=100&labelSelector=x%3Dy"
    assert second == "limit=100&labelSelector=x%3Dy&continue=more"
    assert "resourceVersion=10&" in third
    assert "allowWatchBookmarks=true" in third
    assert "timeoutSeconds=290" in third
    assert not seen.errors


async def test_an_orderly_end_resumes_after_the_last_bookmark(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), watch(event("BOOKMARK", "", "20")), watch(event("ADDED", "a", "21"), OPEN))
    assert await Seen(shaky, times=QUICK).first(2) == [SYNCED, "ADDED a"]
    assert "resourceVersion=20&" in faulty.requests[-1].query


async def test_a_cut_resumes_after_the_last_event_and_hands_out_no_half_object(
    faulty: FaultServer, shaky: KubeSession
) -> None:
    whole, half = event("ADDED", "a", "21"), event("ADDED", "b", "22")
    faulty.script(page(), watch(whole + half[:-9], cut=True), watch(half, OPEN))
    seen = Seen(shaky, times=QUICK)
    assert await seen.first(3) == [SYNCED, "ADDED a", "ADDED b"]
    assert "resourceVersion=21&" in faulty.requests[-1].query
    assert [type(error) for error in seen.errors] == [ApiUnreachable]


@pytest.mark.parametrize(
    "gone",
    [
        Reply(410, body=status_of(410, "Expired")),
        watch(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'),
    ],
    ids=["http", "event"],
)
async def test_a_lost_position_lists_again(gone: Reply, faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page("a", "b"), gone, page("b", version="50"), watch(event("ADDED", "c", "51"), OPEN))
    seen = Seen(shaky, times=QUICK)
    relisted = [LISTING, "ADDED a", "ADDED b", SYNCED, LISTING, "ADDED b", SYNCED, "ADDED c"]
    assert await seen.first(8, starts=True) == relisted
    assert "resourceVersion=50&" in faulty.requests[-1].query
    assert [type(error) for error in seen.errors] == [ApiGone]


async def test_a_list_that_expires_between_pages_starts_over(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(
        page("a", following="more"),
        Reply(410, body=status_of(410, "Expired")),
        page("a", following="again"),
        page("b"),
        watch(OPEN),
    )
    expected = [LISTING, "ADDED a", LISTING, "ADDED a", "ADDED b", SYNCED]
    assert await Seen(shaky, times=QUICK).first(6, starts=True) == expected


async def test_410_for_ever_does_not_hammer(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(410, body=status_of(410, "Expired")))
    seen = Seen(shaky, times=WatchTimes(backoff=0.1))
    with pytest.raises(TimeoutError):
        await seen.first(1, seconds=1.0)
    assert len(faulty.requests) <= 7


async def test_another_error_event_waits_and_resumes(faulty: FaultServer, shaky: KubeSession) -> None:
    broken = b'{"type":"ERROR","object":{"kind":"Status","code":500,"reason":"InternalError","message":"canary"}}\n'
    faulty.script(page(), watch(event("ADDED", "a", "11"), broken), watch(event("ADDED", "b", "12"), OPEN))
    seen = Seen(shaky, times=QUICK)
    assert await seen.first(3) == [SYNCED, "ADDED a", "ADDED b"]
    assert [(error.status, error.reason) for error in seen.errors] == [(500, "InternalError")]
    assert "canary" not in repr(seen.errors)
    assert "resourceVersion=11&" in faulty.requests[-1].query


@pytest.mark.parametrize(
    "line",
    [
        b"canary\n",
        b"[]\n",
        b"7\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":{}}\n',
        b'{"type":"ERROR","object":7}\n',
    ],
)
async def test_garbage_waits_and_resumes(line: bytes, faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), watch(line), watch(event("ADDED", "a", "11"), OPEN))
    seen = Seen(shaky, times=QUICK)
    assert await seen.first(2) == [SYNCED, "ADDED a"]
    assert [error.reason for error in seen.errors] == ["ApiGarbage"]
    assert "canary" not in repr(seen.errors)


async def test_a_list_without_a_position_is_garbage(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(Reply(body={"kind": "SecretList"}), page("a"), watch(OPEN))
    seen = Seen(shaky, times=QUICK)
    assert await seen.first(2) == ["ADDED a", SYNCED]
    assert [error.reason for error in seen.errors] == ["ApiGarbage"]


@pytest.mark.parametrize("closing", [watch(), watch(cut=True), Reply(cut=True)], ids=["end", "cut", "no answer"])
async def test_a_server_that_closes_at_once_is_not_hammered(
    closing: Reply, faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(page(), closing)
    seen = Seen(shaky, times=WatchTimes(backoff=0.1))
    with pytest.raises(TimeoutError):
        await seen.first(2, seconds=1.5)
    assert 3 <= len(faulty.requests) <= 18  # aiohttp itself asks once more where a kept connection gave no answer
    assert seen.watcher.failing


async def test_the_pause_is_capped_and_jittered(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), watch())
    with pytest.raises(TimeoutError):
        await Seen(shaky, times=WatchTimes(backoff=0.01, max_backoff=0.1)).first(2, seconds=1.5)
    assert len(faulty.requests) >= 1.5 / 0.15


async def test_a_dead_connection_is_noticed(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), watch(OPEN), watch(event("ADDED", "a", "11"), OPEN))
    seen = Seen(shaky, times=WatchTimes(backoff=0.01, idle=0.3))
    started = time.monotonic()
    assert await seen.first(2) == [SYNCED, "ADDED a"]
    assert 0.3 <= time.monotonic() - started < 2
    assert [error.reason for error in seen.errors] == ["ApiTimeout"]


async def test_a_position_that_the_server_has_not_reached_yet_is_given_up(
    faulty: FaultServer, shaky: KubeSession
) -> None:
    faulty.script(page("a", version="99"), watch(OPEN), watch(OPEN), page("b", version="7"), watch(OPEN))
    expected = [LISTING, "ADDED a", SYNCED, LISTING, "ADDED b", SYNCED]
    assert await Seen(shaky, times=WatchTimes(backoff=0.01, idle=0.2)).first(6, starts=True) == expected


async def test_bookmarks_keep_a_quiet_connection(faulty: FaultServer, shaky: KubeSession) -> None:
    quiet: list[bytes | float] = [part for n in range(4) for part in (0.2, event("BOOKMARK", "", f"1{n}"))]
    faulty.script(page(), watch(*quiet, event("ADDED", "a", "20"), OPEN))
    seen = Seen(shaky, times=WatchTimes(idle=0.4))
    assert await seen.first(2) == [SYNCED, "ADDED a"]
    assert not seen.errors
    assert seen.watcher.last_seen is not None
    assert time.monotonic() - seen.watcher.last_seen < 0.3


async def test_the_asked_for_pause_is_kept(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), Reply(429, headers={"Retry-After": "1"}), watch(event("ADDED", "a", "11"), OPEN))
    seen = Seen(shaky, times=QUICK)
    started = time.monotonic()
    assert await seen.first(2) == [SYNCED, "ADDED a"]
    assert 1 <= time.monotonic() - started < 2
    assert [type(error) for error in seen.errors] == [ApiThrottled]


@pytest.mark.parametrize("listing", [True, False], ids=["list", "watch"])
async def test_a_refusal_is_reported_and_tried_again(listing: bool, faulty: FaultServer, shaky: KubeSession) -> None:  # noqa: FBT001
    refusal = Reply(403, body=status_of(403, "Forbidden"))
    replies = [refusal, refusal, page("a")] if listing else [page("a"), refusal, refusal]
    faulty.script(*replies, watch(event("ADDED", "b", "11"), OPEN))
    seen = Seen(shaky, times=QUICK)
    assert await seen.first(3) == ["ADDED a", SYNCED, "ADDED b"]
    assert [type(error) for error in seen.errors] == [ApiForbidden] * 2
    assert not seen.watcher.failing


async def test_a_secret_as_large_as_they_get_comes_through(faulty: FaultServer, shaky: KubeSession) -> None:
    line = event("ADDED", "a", "11", data={"k": "x" * 1_500_000})
    faulty.script(page(), watch(*(line[n : n + 60_000] for n in range(0, len(line), 60_000)), OPEN))
    assert await Seen(shaky, times=QUICK).first(2) == [SYNCED, "ADDED a"]


async def test_metadata_only_asks_for_it(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), watch(event("ADDED", "a", "11"), OPEN))
    await Seen(shaky, metadata_only=True, times=QUICK).first(2)
    listed, watched = (request.headers["accept"] for request in faulty.requests)
    assert listed.startswith("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
    assert watched.startswith("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")


async def test_a_cancelled_consumer_leaves_no_connection(faulty: FaultServer, shaky: KubeSession) -> None:
    faulty.script(page(), watch(OPEN))
    task = asyncio.create_task(Seen(shaky, times=QUICK).first(9, seconds=60))
    while len(faulty.requests) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert not shaky._http["streams"].connector._acquired  # type: ignore[union-attr]
