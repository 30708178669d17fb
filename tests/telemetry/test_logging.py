"""Whatever logs, however it fails: one JSON object a line, and no secret in any of them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from tests.telemetry.canary import Canary
from voicekeys.model.payload import Payload
from voicekeys.telemetry.logging import MAX_TEXT, TALKATIVE, LogOptions, setup
from voicekeys.telemetry.redaction import MASK, Redactor

SECRET = 'sk_live_4f9a2c77"d0e1\nb83c'
CANARY = Canary({"frejun": SECRET})

Logs = Callable[..., io.StringIO]


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Set logging up on a buffer, with the secret registered; everything is put back afterwards."""
    root = logging.getLogger()
    kept = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}

    def start(**options: Any) -> io.StringIO:
        stream = io.StringIO()
        redactor = Redactor()
        redactor.register(SECRET)
        setup(LogOptions(**options), redactor, stream)
        return stream

    yield start
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook = kept
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Parse what was logged; each line must be a JSON object."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(message: str) -> None:
    """Raise from a frame that has the secret in a local variable."""
    local = SECRET + "!"
    raise ValueError(message + local[:0])


def test_ours_is_one_object_a_line(logs: Logs) -> None:
    stream = logs()
    structlog.get_logger("voicekeys.sync").bind(namespace="voice").info("Secret applied", name="frejun", version=7)
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "logger": "voicekeys.sync", "event": "Secret applied", "namespace": "voice", "name": "frejun",
        "version": 7,
    }  # fmt: skip
    assert list(lines(stream)[0])[:2] == ["time", "level"]


def test_libraries_come_the_same_way(logs: Logs) -> None:
    stream = logs()
    logging.getLogger("aiohttp.server").warning("broken %s", "pipe")
    reference = {"kind": "VoiceKeyBinding", "namespace": "voice", "name": "frejun", "uid": "1"}
    logging.getLogger("kopf.objects").warning("seen", extra={"k8s_ref": reference, "k8s_skip": True, "body": 1})
    server, kopf = lines(stream)
    assert (server["logger"], server["level"], server["event"]) == ("aiohttp.server", "warning", "broken pipe")
    assert kopf["object"] == {"kind": "VoiceKeyBinding", "namespace": "voice", "name": "frejun"}
    assert "body" not in kopf


def test_warnings_come_the_same_way(logs: Logs) -> None:
    stream = logs()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"deprecated: {SECRET}", stacklevel=1)
    (line,) = lines(stream)
    assert line["logger"] == "py.warnings"
    assert CANARY.find(stream.getvalue()) == []


def test_level_is_obeyed(logs: Logs) -> None:
    stream = logs(level="WARNING")
    structlog.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    logging.getLogger("kopf").info("no")
    structlog.get_logger("a").warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_an_unknown_level_is_refused(logs: Logs) -> None:
    with pytest.raises(KeyError, match="LOUD"):
        logs(level="loud")


@pytest.mark.parametrize("name", TALKATIVE)
def test_libraries_that_print_bodies_stop_at_info(name: str, logs: Logs) -> None:
    """At DEBUG kopf prints objects and patches, and the Kubernetes client whole responses."""
    stream = logs(level="DEBUG")
    logging.getLogger(f"{name}.part").debug("body")
    assert lines(stream) == []
    stream = logs(level="DEBUG", libraries=True)
    logging.getLogger(f"{name}.part").debug("body")
    assert [line["event"] for line in lines(stream)] == ["body"]


def _log_exception() -> None:
    try:
        fail(f"refused: {SECRET}")
    except ValueError:
        structlog.get_logger("x").exception("failed")


def _log_chained() -> None:
    try:
        try:
            fail(f"refused: {SECRET}")
        except ValueError as cause:
            group = "several"
            raise ExceptionGroup(group, [RuntimeError(SECRET), cause]) from cause
    except ExceptionGroup:
        logging.getLogger("x").exception("failed")


class _Telling:
    def __repr__(self) -> str:
        return f"Telling({SECRET!r})"


ENCODED = base64.b64encode(f'{{"key":{json.dumps(SECRET)}}}'.encode()).decode()
CHANNELS: dict[str, Callable[[], object]] = {
    "event": lambda: structlog.get_logger("x").info(f"key {SECRET}"),
    "field": lambda: structlog.get_logger("x").info("key", value=SECRET),
    "field's name": lambda: structlog.get_logger("x").info("key", **{SECRET: 1}),
    "nested": lambda: structlog.get_logger("x").info("key", body={"data": [{"k": SECRET}, (SECRET,)]}),
    "nested names": lambda: structlog.get_logger("x").info("key", body={SECRET: {1: SECRET}}),
    "bytes": lambda: structlog.get_logger("x").info("key", body=SECRET.encode(), more=bytearray(SECRET.encode())),
    "object": lambda: structlog.get_logger("x").info("key", body=_Telling(), items={_Telling()}),
    "argument": lambda: logging.getLogger("kopf.objects").warning("patch %r", {"data": {"k": SECRET}}),
    "base64": lambda: logging.getLogger("kopf.objects").warning("body %r", {"data": {"k": ENCODED}}),
    "base64url": lambda: logging.getLogger("x").info(base64.urlsafe_b64encode(SECRET.encode()).decode()),
    "URL": lambda: logging.getLogger("x").info("GET /x?%s", urllib.parse.urlencode({"k": SECRET})),
    "JSON": lambda: logging.getLogger("hvac").info("answer %s", json.dumps({"data": {"k": SECRET}})),
    "traceback": _log_exception,
    "chained traceback": _log_chained,
    "stack": lambda: structlog.get_logger("x").info(SECRET, stack_info=True),
    "long text": lambda: structlog.get_logger("x").info("-" * (MAX_TEXT - 15) + SECRET + "-" * 100),
    "surrogates": lambda: structlog.get_logger("x").info("bad \udcff", key=SECRET),
    "huge number": lambda: structlog.get_logger("x").info("big", n=2**80, key=SECRET),
    "context": lambda: structlog.contextvars.bind_contextvars(key=SECRET),
    "payload": lambda: structlog.get_logger("x").info("got", payload=Payload({"k": SECRET.encode()})),
}


@pytest.mark.parametrize("format_", ["json", "console"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_no_channel_leaks(channel: str, format_: str, logs: Logs) -> None:
    stream = logs(level="DEBUG", format=format_)
    CHANNELS[channel]()
    structlog.get_logger("x").info("after")
    structlog.contextvars.clear_contextvars()
    written = stream.getvalue()
    assert "after" in written
    assert CANARY.find(written) == []
    if format_ == "json":
        assert lines(stream)
    if channel not in {"bytes", "payload"}:
        assert MASK in written


@pytest.mark.parametrize("format_", ["json", "console"])
def test_tracebacks_have_no_locals(format_: str, logs: Logs) -> None:
    """An unregistered value in a local variable stays out, although rich tracebacks are installed here."""
    stream = logs(format=format_)
    unregistered = "a-value-nobody-registered"
    try:
        fail(str(len(unregistered)))
    except ValueError:
        structlog.get_logger("x").exception("failed")
    assert "ValueError: 25" in stream.getvalue()
    assert "fail(str(len(unregistered)))" in stream.getvalue()  # source lines are shown
    assert unregistered not in stream.getvalue()
    assert CANARY.find(stream.getvalue()) == []  # fail() has one in a local


def test_a_call_that_cannot_be_formatted_names_the_place_only(logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library would print the message and all arguments to standard error."""
    stream = logs()
    logging.getLogger("kopf.objects").warning("two %s %s", SECRET)  # noqa: PLE1206 - the fault that is tested
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "kopf.objects (test_logging.py:" in line["event"]
    assert "TypeError" in line["event"]
    output = capsys.readouterr()
    assert CANARY.find(stream.getvalue() + output.out + output.err) == []


def test_a_closed_stream_is_survived(logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    logs().close()
    structlog.get_logger("x").info(SECRET)
    assert CANARY.find(capsys.readouterr().err) == []


def test_a_mask_that_breaks_the_json_is_put_right(logs: Logs) -> None:
    """A registered value may equal a bare number of the line, or reach over its punctuation."""
    stream = io.StringIO()
    redactor = Redactor()
    redactor.register("1234567", '","note":"')
    logs()
    setup(LogOptions(), redactor, stream)
    structlog.get_logger("x").info("number", n=1234567)
    structlog.get_logger("x").info("text", a="x", note="y")
    number, text = lines(stream)
    assert MASK in number["event"]
    assert "1234567" not in stream.getvalue()
    assert "y" in json.dumps(text)


def test_long_texts_are_cut(logs: Logs) -> None:
    stream = logs()
    structlog.get_logger("x").info("a-" * MAX_TEXT)
    (line,) = lines(stream)
    assert line["event"].endswith(f"({MAX_TEXT} more characters)")


def test_asyncio_exceptions_are_redacted(logs: Logs) -> None:
    stream = logs()

    async def main() -> None:
        async def doomed() -> None:
            fail(SECRET)

        task = asyncio.create_task(doomed())
        await asyncio.sleep(0)
        del task
        import gc  # noqa: PLC0415

        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert any("never retrieved" in line["event"] for line in lines(stream))
    assert CANARY.find(stream.getvalue()) == []


def test_threads_and_finalizers_are_redacted(logs: Logs) -> None:
    stream = logs()
    thread = threading.Thread(target=fail, args=(SECRET,))
    thread.start()
    thread.join()

    class Doomed:
        def __del__(self) -> None:
            fail(SECRET)

    Doomed()
    assert [line["event"] for line in lines(stream)] == ["uncaught exception", "exception that could not be raised"]
    assert CANARY.find(stream.getvalue()) == []


def test_an_interrupt_is_no_fault(logs: Logs) -> None:
    """Ctrl-C ends the demo; it needs no traceback."""
    stream = logs()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert lines(stream) == []


def test_an_exception_that_ends_the_process_is_redacted() -> None:
    """The last traceback of a process, which Python prints by itself, goes through the redactor too."""
    program = textwrap.dedent(f"""
        from voicekeys.telemetry.logging import LogOptions, setup
        from voicekeys.telemetry.redaction import Redactor
        redactor = Redactor()
        redactor.register({SECRET!r})
        setup(LogOptions(), redactor)
        raise RuntimeError("boom " + "".join(map(chr, {[ord(character) for character in SECRET]})))
    """)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert json.loads(line)["event"] == "uncaught exception"
    assert "RuntimeError: boom" in json.loads(line)["exception"]
    assert CANARY.find(ended.stderr + ended.stdout) == []


def test_kopfs_line_for_each_event_is_left_out_unless_asked_for(logs: Logs) -> None:
    quiet = logs()
    logging.getLogger("kopf.objects").info("Handler succeeded.")
    assert lines(quiet) == []
